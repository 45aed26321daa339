import JSON
import Transformer

/// The models of the paper's pre-training experiments with their recipes (arXiv 2502.10940 and its published
/// configurations), and a tiny one.
public enum ModelPreset: String, CaseIterable, Sendable, Codable {
    case tiny
    case size60m = "60m"
    case size130m = "130m"
    case size350m = "350m"
    case size1b = "1b"
    case size7b = "7b"

    /// C, F, L and H.
    private var shape: (hidden: Int, intermediate: Int, layers: Int, heads: Int) {
        switch self {
        case .tiny: (160, 432, 4, 4)
        case .size60m: (512, 1376, 8, 8)
        case .size130m: (768, 2048, 12, 12)
        case .size350m: (1024, 2736, 24, 16)
        case .size1b: (2048, 5461, 24, 32)
        case .size7b: (4096, 11008, 32, 32)
        }
    }

    public var layers: Int { shape.layers }

    /// R of every linear layer of the CoLA model.
    public var rank: Int {
        switch self {
        case .tiny: 40
        case .size60m: 128
        case .size130m, .size350m: 256
        case .size1b: 512
        case .size7b: 1024
        }
    }

    /// The paper keeps the SwiGLU's own silu in its two small models.
    public var placement: ActivationPlacement {
        switch self {
        case .tiny, .size60m, .size130m: .both
        case .size350m, .size1b, .size7b: .inner
        }
    }

    /// The recipe's learning rate, steps and warm-up steps; each step is 512 sequences of 256 tokens. The tiny model's is
    /// this project's own.
    public var recipe: (learningRate: Double, steps: Int, warmupSteps: Int) {
        switch self {
        case .tiny: (3e-3, 2_000, 200)
        case .size60m: (6e-3, 10_000, 2_000)
        case .size130m: (3e-3, 20_000, 2_000)
        case .size350m: (3e-3, 60_000, 6_000)
        case .size1b: (2e-3, 100_000, 10_000)
        case .size7b: (1e-3, 150_000, 15_000)
        }
    }

    /// config.json of the dense model with a vocabulary of `vocabulary` (the paper's: 32,000), of other depth if asked for.
    /// The tiny model ties its embedding: its vocabulary would be most of it otherwise.
    public func configuration(vocabulary: Int = 32000, layers: Int? = nil) -> JSONObject {
        JSONObject([
            ("architectures", ["LlamaForCausalLM"]), ("model_type", "llama"), ("hidden_act", "silu"),
            ("hidden_size", .integer(shape.hidden)), ("intermediate_size", .integer(shape.intermediate)),
            ("num_hidden_layers", .integer(layers ?? shape.layers)), ("num_attention_heads", .integer(shape.heads)),
            ("num_key_value_heads", .integer(shape.heads)), ("vocab_size", .integer(vocabulary)),
            ("max_position_embeddings", 1024), ("rms_norm_eps", 1e-6), ("rope_theta", 10000.0),
            ("tie_word_embeddings", .bool(self == .tiny)),
        ])
    }
}

extension ModelPreset {
    /// The dense model, or the CoLA model with one rank for all linear layers and σ where the paper has it. Throws
    /// `TransformerError` for sizes that no model has.
    public func description(
        vocabulary: Int = 32000, layers: Int? = nil, rank: Int?
    ) throws(TransformerError) -> ModelDescription {
        let dense = configuration(vocabulary: vocabulary, layers: layers)
        let values = rank.map { dense.withLowRank($0, placement) } ?? dense
        return try ModelDescription(json: JSONValue.object(values).text(), path: rawValue).with(rank: rank)
    }
}

extension JSONObject {
    /// config.json of the CoLA model with these shapes and one rank for all linear layers. Its type is CoLA's or the
    /// family's, see `ofLowRankModel`.
    public func withLowRank(_ rank: Int, _ placement: ActivationPlacement) -> JSONObject {
        ofLowRankModel { values, isOfColaType in
            values["rank"] = .integer(rank)
            if isOfColaType { values["only_lr_act"] = .bool(placement == .inner) }
            values["cola_activation"] = .string(placement.rawValue)
        }
    }
}
