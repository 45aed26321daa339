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
    var rank: @Sendable (Int, LinearRole) -> Int? = { _, _ in nil }
    var biases: Set<LinearRole> = []

    var testDescription: String { name }

    func description() throws -> ModelDescription {
        let json = """
            {"model_type": "llama", "hidden_size": \(hidden), "intermediate_size": \(intermediate),
             "num_hidden_layers": \(layers), "num_attention_heads": \(heads), "num_key_value_heads": \(keyValueHeads),
             "head_dim": \(headSize), "vocab_size": \(vocabulary), "tie_word_embeddings": \(isTied),
             "cola_activation": "\(placement.rawValue)"}
            """
        return try ModelDescription(json: json, path: name).with {
            LinearLayout(rank: rank($0.block, $0.role), hasBias: biases.contains($0.role))
        }
    }

    static let dense = SmallModel(name: "dense")
    static let cola = SmallModel(name: "CoLA, inner σ", placement: .inner, rank: { _, _ in 5 })

    /// No two extents of a model are equal, but for heads of queries and keys in some.
    static let all: [SmallModel] = [
        dense, cola,
        .init(name: "dense, grouped, wide heads, tied", heads: 6, keyValueHeads: 2, headSize: 10, isTied: true),
        .init(name: "dense, biased like qwen2", keyValueHeads: 1, biases: [.query, .key, .value]),
        .init(
            name: "CoLA, both σ, grouped, a rank for each layer", heads: 6, keyValueHeads: 2, headSize: 4,
            rank: { layer, module in 1 + 2 * layer + LinearRole.allCases.firstIndex(of: module)! / 2 },
            biases: Set(LinearRole.allCases)),
        .init(
            name: "partly low-rank, reduced σ", keyValueHeads: 2, placement: .reduced,
            rank: { layer, module in layer == 1 || module == .down || module == .key ? nil : 3 + layer }),
        .init(name: "linear bottlenecks, widest in down", placement: .original, rank: { $1 == .down ? 24 : 7 }),
    ]
}

extension ModelPreset {
    func description(rank: Int?) throws -> ModelDescription {
        try ModelDescription(json: JSONValue.object(configuration()).text(), path: rawValue)
            .with(placement, outer: .silu).with(rank: rank)
    }
}

/// Models whose blocks are not LLaMA's, put together by hand.
enum OtherModel {
    /// One like GPT-2: LayerNorms with biases, no gate, learned positions, no rotation, biases everywhere, tied.
    static func ungated() throws -> ModelDescription {
        var model = try SmallModel(name: "without gate", isTied: true).description()
        let norm = NormDescription(.layer, epsilon: 1e-5, hasBias: true)
        model.finalNorm = norm
        model.positionRows = 173
        model.blocks = model.blocks.indices.map { index in
            BlockDescription(
                index: index, hiddenSize: 24, norms: .init(attentionInput: norm, feedForwardInput: norm),
                attention: AttentionDescription(heads: 4, keyValueHeads: 4, headSize: 6),
                feedForward: FeedForwardDescription(width: 37, isGated: false, activation: .geluTanh),
                hasBias: { _ in true })
        }
        return model
    }

    /// One like Gemma 3: norms before and behind, norms of heads, windows in the first two of three blocks, whose heads turn
    /// in another way; besides, blocks of different widths, the last of them without norms of heads and in front of
    /// attention.
    static func sandwiched() throws -> ModelDescription {
        var model = try SmallModel(
            name: "sandwiched", heads: 6, keyValueHeads: 2, headSize: 8, placement: .inner, rank: { _, _ in nil }
        ).description()
        let norm = NormDescription(.rms, epsilon: 1e-6, offset: 1)
        model.blocks = [(2, 31), (20, 37), (nil, 29)].enumerated().map { index, block in
            var attention = AttentionDescription(heads: 6, keyValueHeads: 2, headSize: 8)
            attention.window = block.0
            attention.rotary = RotaryConfiguration(base: index < 2 ? 1e4 : 1e6, share: index < 2 ? 1 : 0.5)
            attention.headNorm = index < 2 ? norm : nil
            return BlockDescription(
                index: index, hiddenSize: 24,
                norms: .init(
                    attentionInput: index < 2 ? norm : nil, attentionOutput: norm, feedForwardInput: norm,
                    feedForwardOutput: norm),
                attention: attention, feedForward: FeedForwardDescription(width: block.1), hasBias: { $0 == .value })
        }
        return model
    }

    /// The same, some of its linear layers low-rank.
    static func mixed() throws -> ModelDescription {
        try sandwiched().with {
            LinearLayout(rank: $0.block == 1 && $0.role != .down ? nil : 3 + $0.block, hasBias: $0.role == .up)
        }
    }
}

/// A model of any kind with a name.
struct AnyModel: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let description: @Sendable () throws -> ModelDescription

    static let all =
        SmallModel.all.map { model in AnyModel(testDescription: model.name) { try model.description() } } + [
            AnyModel(testDescription: "without gate, LayerNorm, learned positions", description: OtherModel.ungated),
            AnyModel(testDescription: "without gate, CoLA") { try OtherModel.ungated().with(rank: 5) },
            AnyModel(testDescription: "sandwich norms, norms of heads, windows", description: OtherModel.sandwiched),
            AnyModel(testDescription: "the same, partly low-rank", description: OtherModel.mixed),
        ]
}
