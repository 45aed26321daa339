import Checkpoints
import Foundation
import LinearAlgebra
import Tensors
import Testing

@testable import Spectra
@testable import Transformer

/// Rows of numbers in double precision.
typealias Rows = [[Double]]

/// Matrices of activations and plain loops over them.
enum Sample {
    static func normal(_ rows: Int, _ columns: Int, seed: UInt64) -> Matrix {
        var generator = SeededGenerator(seed: seed)
        return Matrix.normal(shape: [rows, columns], using: &generator)
    }

    static func rows(_ view: MatrixView<Float>) -> Rows {
        (0..<view.rows).map { row in (0..<view.columns).map { Double(view[row, $0]) } }
    }

    static func rows(_ matrix: Matrix) -> Rows { withExtendedLifetime(matrix) { rows(matrix.view) } }

    /// x·W for each row x, W given by its rows.
    static func product(_ x: Rows, _ w: Rows) -> Rows {
        x.map { row in w[0].indices.map { column in row.indices.reduce(0) { $0 + row[$1] * w[$1][column] } } }
    }

    static func transpose(_ x: Rows) -> Rows { x[0].indices.map { column in x.map { $0[column] } } }

    static func centered(_ x: Rows) -> Rows {
        let means = x[0].indices.map { column in x.reduce(0) { $0 + $1[column] } / Double(x.count) }
        return x.map { zip($0, means).map { $0 - $1 } }
    }

    static func singularValues(_ x: Rows) throws -> [Double] {
        try Factorization.singularValues(of: DoubleMatrix(shape: [x.count, x[0].count], x.flatMap { $0 }))
    }

    /// The elements of a weight in the way it is stored.
    static func rows(_ weight: Weight) -> Rows {
        guard case .single(let matrix) = weight.storage else { preconditionFailure("tests use single precision") }
        return withExtendedLifetime(matrix) {
            (0..<weight.rows).map { row in
                (0..<weight.columns).map { Double(matrix.pointer[row * weight.columns + $0]) }
            }
        }
    }
}

/// A tiny decoder with random weights.
struct RandomDecoder: Sendable {
    var name: String
    var placement: ActivationPlacement = .both
    var rank: @Sendable (LinearModule) -> Int? = { _ in nil }
    var hasBias = false

    static let all: [RandomDecoder] = [
        .init(name: "dense"), .init(name: "dense, biases", hasBias: true),
        .init(name: "CoLA, both σ", rank: { _ in 5 }, hasBias: true),
        .init(name: "CoLA, inner σ", placement: .inner, rank: { $0 == .down ? 11 : 3 }),
        .init(name: "CoLA, reduced σ", placement: .reduced, rank: { _ in 4 }, hasBias: true),
        .init(name: "CoLA, original σ", placement: .original, rank: { _ in 6 }),
        .init(name: "partly low-rank", rank: { $0 == .gate || $0 == .query ? 7 : nil }, hasBias: true),
    ]

    func make() throws -> Decoder {
        let configuration = try DecoderConfiguration(
            json: """
                {"hidden_size": 26, "intermediate_size": 53, "num_hidden_layers": 2, "num_attention_heads": 3,
                 "num_key_value_heads": 1, "head_dim": 10, "vocab_size": 31, "cola_activation": "\(placement.rawValue)"}
                """, path: name)
        let weights = DecoderWeights(configuration, precision: .f32) { _, module in
            .init(rank: rank(module), hasBias: hasBias)
        }
        var seed: UInt64 = 300
        weights.visitParameters { name, weight in
            seed += 1
            let isNorm = name.hasSuffix("norm.weight")
            let deviation = isNorm ? 0.2 : name.contains("embed") ? 1 : name.hasSuffix("bias") ? 0.5 : 0.25
            weight.fillNormal(deviation: deviation, mean: isNorm ? 1 : 0, seed: seed)
        }
        return Decoder(configuration, weights)
    }

    /// Batches of uneven sequences, `tokens` ids in all.
    static func batches(tokens: Int) -> [TokenBatch] {
        var generator = SeededGenerator(seed: 8)
        let ids = (0..<tokens).map { _ in UInt32(generator.next() % 31) }
        let (first, second) = (tokens / 2, tokens / 3)
        let batches = [[ids[..<first]], [ids[first..<first + second], ids[(first + second)...]]]
        return batches.map { $0.filter { !$0.isEmpty } }.filter { !$0.isEmpty }.map { TokenBatch($0) }
    }
}

extension RandomDecoder: CustomTestStringConvertible {
    var testDescription: String { name }
}

/// Keeps every activation that a decoder shows, and passes it on.
final class Collector: ActivationObserver {
    private struct Place: Hashable {
        let layer: Int
        let site: ActivationSite
    }

    private var activations: [Place: Rows] = [:]
    private let next: SpectrumAnalysis

    init(passingTo next: SpectrumAnalysis) { self.next = next }

    func observe(_ site: ActivationSite, layer: Int, _ matrix: MatrixView<Float>) {
        activations[Place(layer: layer, site: site), default: []] += Sample.rows(matrix)
        next.observe(site, layer: layer, matrix)
    }

    /// The matrix whose spectrum a key asks for, from the activations by naive products; nil if the decoder has none.
    func matrix(_ key: SpectrumKey, of decoder: Decoder) -> Rows? {
        func site(_ site: ActivationSite) -> Rows? { activations[Place(layer: key.layer, site: site)] }
        guard case .linear(let module) = key.module else {
            return key.side == .input ? site(.residualInput) : key.side == .output ? site(.residualOutput) : nil
        }
        let projection = decoder.weights.layers[key.layer][module]
        let input = site(.input(module.inputOwner))!
        func biased(_ y: Rows) -> Rows {
            guard let bias = projection.bias.map(Sample.rows) else { return y }
            return y.map { zip($0, bias[0]).map { $0 + $1 } }
        }
        switch projection {
        case .dense(let dense):
            if key.side == .input { return input }
            return key.side == .output
                ? biased(Sample.product(input, Sample.transpose(Sample.rows(dense.weight)))) : nil
        case .lowRank(let lowRank):
            let z = Sample.product(input, Sample.rows(lowRank.a))
            let h = decoder.configuration.placement.hasInnerActivation(module) ? site(.bottleneck(module))! : z
            switch key.side {
            case .input: return input
            case .bottleneck: return z
            case .bottleneckActivated: return h
            case .output: return biased(Sample.product(h, Sample.rows(lowRank.b)))
            }
        }
    }
}

/// A model with what the public implementations computed of it (README.txt in the fixtures of TransformerTests).
struct Reference: Decodable {
    let input_ids: [[UInt32]]
    /// Descending, by `<module path>/input` and `/output`.
    let spectra: [String: [Double]]

    static let names = [
        "llama-mha", "llama-gqa-tied", "llama-headdim-rope3", "qwen2", "cola-both", "cola-inner-only", "cola-bias",
    ]

    private static func url(_ file: String) -> URL {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("TransformerTests/Fixtures/\(file)")
    }

    static func decoder(_ name: String) throws -> Decoder {
        try Decoder(from: try Checkpoint.open(url(name + ".h5").path), includingHead: false)
    }

    init(_ name: String) throws {
        self = try JSONDecoder().decode(Self.self, from: Data(contentsOf: Self.url(name + ".json")))
    }
}
