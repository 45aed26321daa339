import Tensors
import Testing

@testable import Transformer

/// A tiny decoder with random weights, described by what sets it apart from the others.
struct RandomDecoder: CustomTestStringConvertible, Sendable {
    var name: String
    var hidden = 24
    var intermediate = 37
    var layers = 2
    var heads = 4
    var keyValueHeads = 2
    /// C / H if nil.
    var headSize: Int?
    var vocabulary = 29
    var isTied = false
    var rotary = ""
    var placement: ActivationPlacement = .both
    /// The rank of a module in a layer; dense where nil.
    var rank: @Sendable (Int, LinearModule) -> Int? = { _, _ in nil }
    var biases: Set<LinearModule> = []

    var testDescription: String { name }

    var json: String {
        """
        {"model_type": "llama", "hidden_size": \(hidden), "intermediate_size": \(intermediate),
         "num_hidden_layers": \(layers), "num_attention_heads": \(heads), "num_key_value_heads": \(keyValueHeads),
         "vocab_size": \(vocabulary), "rms_norm_eps": 1e-5, "tie_word_embeddings": \(isTied),
         "cola_activation": "\(placement.rawValue)" \(headSize.map { ", \"head_dim\": \($0)" } ?? "") \(rotary)}
        """
    }

    func configuration() throws -> DecoderConfiguration { try DecoderConfiguration(json: json, path: name) }

    /// Weights of a size that keeps activations near 1, norms near 1, each tensor from its own seed.
    func make(precision: Precision = .f32) throws -> Decoder {
        let configuration = try configuration()
        let weights = DecoderWeights(configuration, precision: precision) { layer, module in
            .init(rank: rank(layer, module), hasBias: biases.contains(module))
        }
        var seed: UInt64 = 100
        weights.visitParameters { name, weight in
            seed += 1
            let isNorm = name.hasSuffix("norm.weight")
            let inputs = name.contains("cola_") ? weight.rows : weight.columns
            let deviation =
                isNorm
                ? 0.2 : name.contains("embed") ? 1 : name.hasSuffix("bias") ? 0.3 : 1.2 / Double(inputs).squareRoot()
            weight.fillNormal(deviation: deviation, mean: isNorm ? 1 : 0, seed: seed)
        }
        return Decoder(configuration, weights, precision: precision)
    }

    /// How many rounded additions, one after the other, lie between an id and the residual stream: the products of a
    /// layer add over C, the past, H·D, C and F, low-rank ones over R besides.
    func depth(longest: Int) -> Double {
        let width = heads * (headSize ?? hidden / heads)
        return Double(layers * (2 * hidden + longest + width + intermediate + 5 * 16))
    }

    /// Every architecture that the tests run, no two extents equal.
    static let all: [RandomDecoder] = [
        .init(name: "one head", hidden: 14, heads: 1, keyValueHeads: 1),
        .init(name: "grouped, tied", isTied: true),
        .init(name: "one key head, wide heads", heads: 3, keyValueHeads: 1, headSize: 12),
        .init(name: "narrow heads, three layers", layers: 3, heads: 3, keyValueHeads: 3, headSize: 2),
        .init(
            name: "linear rotation, biases", headSize: 8,
            rotary: #", "rope_theta": 500, "rope_scaling": {"type": "linear", "factor": 2.5}"#,
            biases: Set(LinearModule.allCases)),
        .init(
            name: "llama3 rotation, biased like qwen2", headSize: 16, rotary: llama3, biases: [.query, .key, .value]),
        .init(
            name: "a third of each head rotated", keyValueHeads: 1, headSize: 12,
            rotary: #", "rope_parameters": {"rope_theta": 40, "rope_type": "default", "partial_rotary_factor": 0.34}"#),
        .init(name: "CoLA, both σ", placement: .both, rank: { 3 + $0 + ($1 == .down ? 4 : 0) }),
        .init(
            name: "CoLA, inner σ, biases", placement: .inner, rank: { _, _ in 5 }, biases: Set(LinearModule.allCases)),
        .init(name: "CoLA, reduced σ, tied", isTied: true, placement: .reduced, rank: { _, _ in 7 }),
        .init(name: "CoLA, original σ", placement: .original, rank: { _, _ in 1 }, biases: [.down]),
        .init(
            name: "partly low-rank", placement: .both,
            rank: { layer, module in layer == 0 && module != .key ? 6 : nil }, biases: [.gate]),
    ]

    static func named(_ name: String) -> RandomDecoder { all.first { $0.name == name }! }

    static let llama3 = """
        , "max_position_embeddings": 64, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
        """

    /// Random ids.
    func ids(_ count: Int, seed: UInt64 = 7) -> [UInt32] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { _ in UInt32(generator.next() % UInt64(vocabulary)) }
    }
}

/// Half a unit in the last place of 1 in single precision, and in bfloat16.
let singleError = 0x1p-24
let bfloat16Error = 0x1p-9

extension Decoder {
    /// The residual stream of a batch, copied out of a workspace of its own.
    func hiddenStates(_ batch: TokenBatch, layers: Int? = nil, observer: (any ActivationObserver)? = nil) -> [Double] {
        let workspace = Workspace(self, maximumTokens: batch.count, longestSequence: batch.longest)
        return withExtendedLifetime(workspace) {
            copied(forward(batch, in: workspace, layers: layers, observer: observer))
        }
    }
}

/// The elements of a view, row by row.
func copied(_ view: MatrixView<Float>) -> [Double] {
    (0..<view.rows).flatMap { row in (0..<view.columns).map { Double(view[row, $0]) } }
}

/// Collects everything a decoder shows.
final class Collector: ActivationObserver {
    struct Place: Hashable {
        let layer: Int
        let site: ActivationSite
    }

    var activations: [Place: [Double]] = [:]
    var order: [Place] = []

    func observe(_ site: ActivationSite, layer: Int, _ matrix: MatrixView<Float>) {
        let place = Place(layer: layer, site: site)
        if activations[place] == nil { order.append(place) }
        activations[place, default: []] += copied(matrix)
    }
}
