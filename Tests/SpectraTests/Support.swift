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
        withExtendedLifetime(weight) { rows(weight.view) }
    }
}

/// A tiny model with random weights.
struct RandomModel: Sendable {
    var name: String
    var placement: ActivationPlacement = .both
    var rank: @Sendable (LinearRole) -> Int? = { _ in nil }
    var hasBias = false
    /// What sets its blocks apart from LLaMA's.
    var change: @Sendable (inout BlockDescription, Int) -> Void = { _, _ in }

    static let all: [RandomModel] = [
        .init(name: "dense"), .init(name: "dense, biases", hasBias: true),
        .init(name: "CoLA, both σ", rank: { _ in 5 }, hasBias: true),
        .init(name: "CoLA, inner σ", placement: .inner, rank: { $0 == .down ? 11 : 3 }),
        .init(name: "CoLA, reduced σ", placement: .reduced, rank: { _ in 4 }, hasBias: true),
        .init(name: "CoLA, original σ", placement: .original, rank: { _ in 6 }),
        .init(name: "partly low-rank", rank: { $0 == .gate || $0 == .query ? 7 : nil }, hasBias: true),
        .init(name: "no gate", hasBias: true, change: withoutGate),
        .init(name: "no gate, CoLA, reduced σ", placement: .reduced, rank: { _ in 4 }, change: withoutGate),
        .init(
            name: "norms on outputs and heads, the second block wider",
            change: { block, index in
                block.norms.attentionInput = index == 0 ? nil : block.norms.attentionInput
                block.norms.attentionOutput = NormDescription(.rms, epsilon: 1e-5)
                block.norms.feedForwardOutput = NormDescription(.rms, epsilon: 1e-5)
                block.attention.headNorm = NormDescription(.rms, epsilon: 1e-5)
                if index == 1 { block.feedForward.width = 61 }
            }),
    ]

    @Sendable private static func withoutGate(_ block: inout BlockDescription, _: Int) {
        let norm = NormDescription(.layer, epsilon: 1e-5, hasBias: true)
        block.norms = .init(attentionInput: norm, feedForwardInput: norm)
        block.attention.rotary = nil
        block.feedForward = FeedForwardDescription(width: 53, isGated: false, activation: .geluTanh)
    }

    static func named(_ name: String) -> RandomModel { all.first { $0.name == name }! }

    func description() throws -> ModelDescription {
        var description = try ModelDescription(
            json: """
                {"hidden_size": 26, "intermediate_size": 53, "num_hidden_layers": 2, "num_attention_heads": 3,
                 "num_key_value_heads": 1, "head_dim": 10, "vocab_size": 31, "cola_activation": "\(placement.rawValue)"}
                """, path: name)
        for index in description.blocks.indices {
            var block = description.blocks[index]
            change(&block, index)
            description.blocks[index] = BlockDescription(
                index: index, hiddenSize: 26, norms: block.norms, attention: block.attention,
                feedForward: block.feedForward, hasBias: { _ in hasBias })
        }
        return description.with { LinearLayout(rank: rank($0.role), hasBias: hasBias) }
    }

    func make() throws -> LanguageModel {
        let weights = ModelWeights(try description(), precision: .f32)
        for (index, parameter) in weights.parameters.enumerated() {
            let (deviation, mean) =
                switch parameter.role {
                case .norm: (0.2, 1.0)
                case .embedding: (1, 0)
                case .bias, .normBias: (0.5, 0)
                default: (0.25, 0)
                }
            parameter.weight.fillNormal(deviation: deviation, mean: mean, seed: 301 + UInt64(index))
        }
        return LanguageModel(weights)
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

extension RandomModel: CustomTestStringConvertible {
    var testDescription: String { name }
}

/// Keeps every activation that a model shows, and passes it on.
final class Collector: ActivationObserver {
    private struct Place: Hashable {
        let block: Int
        let site: ActivationSite
    }

    private var activations: [Place: Rows] = [:]
    private let next: SpectrumAnalysis

    init(passingTo next: SpectrumAnalysis) { self.next = next }

    func observe(_ site: ActivationSite, block: Int, _ matrix: MatrixView<Float>) {
        activations[Place(block: block, site: site), default: []] += Sample.rows(matrix)
        next.observe(site, block: block, matrix)
    }

    /// The matrix whose spectrum a key asks for, from the activations by naive products; nil if the model has none.
    func matrix(_ key: SpectrumKey, of model: LanguageModel) -> Rows? {
        func site(_ site: ActivationSite) -> Rows? { activations[Place(block: key.block, site: site)] }
        guard key.module != .residual else {
            return key.side == .input ? site(.residualInput) : key.side == .output ? site(.residualOutput) : nil
        }
        let linear = model.description.linear(.init(block: key.block, module: key.module.name))!
        let weights = model.weights[linear]
        let input = site(.input(linear.role.stream))!
        func biased(_ y: Rows) -> Rows {
            guard let bias = weights.bias.map(Sample.rows) else { return y }
            return y.map { zip($0, bias[0]).map { $0 + $1 } }
        }
        switch weights {
        case .dense(let dense):
            if key.side == .input { return input }
            return key.side == .output
                ? biased(Sample.product(input, Sample.transpose(Sample.rows(dense.weight)))) : nil
        case .lowRank(let lowRank):
            let z = Sample.product(input, Sample.rows(lowRank.a))
            let h = linear.bottleneck!.isActivated ? site(.bottleneck(module: linear.module))! : z
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

    static func model(_ name: String) throws -> LanguageModel {
        try LanguageModel(from: try Checkpoint.open(url(name + ".h5").path), includingHead: false)
    }

    init(_ name: String) throws {
        self = try JSONDecoder().decode(Self.self, from: Data(contentsOf: Self.url(name + ".json")))
    }
}
