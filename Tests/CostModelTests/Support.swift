import CostModel
import JSON
import Tensors
import Testing
import Training
import Transformer

/// A small model for the formulas and for the engine, described by what sets it apart from the others.
struct SmallModel: CustomTestStringConvertible, Sendable {
    var name: String
    var hidden = 24
    var intermediate = 37
    var layers = 3
    var heads = 4
    var keyValueHeads = 4
    var headSize = 6
    var vocabulary = 301
    var isTied = false
    var placement = ActivationPlacement.both
    /// Rank of a module in a layer; dense where nil.
    var rank: @Sendable (Int, LinearModule) -> Int? = { _, _ in nil }
    var biases: Set<LinearModule> = []

    var testDescription: String { name }

    func configuration() throws -> DecoderConfiguration {
        let json = """
            {"model_type": "llama", "hidden_size": \(hidden), "intermediate_size": \(intermediate),
             "num_hidden_layers": \(layers), "num_attention_heads": \(heads), "num_key_value_heads": \(keyValueHeads),
             "head_dim": \(headSize), "vocab_size": \(vocabulary), "tie_word_embeddings": \(isTied),
             "cola_activation": "\(placement.rawValue)"}
            """
        return try DecoderConfiguration(json: json, path: name)
    }

    func layout(_ layer: Int, _ module: LinearModule) -> DecoderWeights.ProjectionLayout {
        .init(rank: rank(layer, module), hasBias: biases.contains(module))
    }

    func shape() throws -> ModelShape { try ModelShape(configuration(), layout: layout) }

    static let dense = SmallModel(name: "dense")
    static let cola = SmallModel(name: "CoLA, inner σ", placement: .inner, rank: { _, _ in 5 })

    /// No two extents of a model are equal, but for heads of queries and keys in some.
    static let all: [SmallModel] = [
        dense, cola,
        .init(name: "dense, grouped, wide heads, tied", heads: 6, keyValueHeads: 2, headSize: 10, isTied: true),
        .init(name: "dense, biased like qwen2", keyValueHeads: 1, biases: [.query, .key, .value]),
        .init(
            name: "CoLA, both σ, grouped, a rank for each layer", heads: 6, keyValueHeads: 2, headSize: 4,
            rank: { layer, module in 1 + 2 * layer + LinearModule.allCases.firstIndex(of: module)! / 2 },
            biases: Set(LinearModule.allCases)),
        .init(
            name: "partly low-rank, reduced σ", keyValueHeads: 2, placement: .reduced,
            rank: { layer, module in layer == 1 || module == .down || module == .key ? nil : 3 + layer }),
        .init(name: "linear bottlenecks, widest in down", placement: .original, rank: { $1 == .down ? 24 : 7 }),
    ]
}

extension ModelPreset {
    func shape(rank: Int?) throws -> ModelShape {
        var configuration = try DecoderConfiguration(
            json: JSONValue.object(configuration()).text(), path: rawValue)
        configuration.placement = placement
        return try ModelShape(configuration, rank: rank)
    }
}

extension ModelShape {
    /// Names and shapes of the engine's weights, without elements: large models need no memory.
    func decoder() -> Decoder { Decoder(configuration, DecoderWeights(configuration, precision: nil, layout: layout)) }
}
