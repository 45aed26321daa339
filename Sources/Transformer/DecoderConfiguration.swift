import FoundationEssentials

/// Where σ stands in a CoLA layer (PAPER.md, placement ablation).
public enum ActivationPlacement: String, Codable, Sendable, CaseIterable {
    /// σ in every bottleneck, and the original silu of the SwiGLU: `only_lr_act = false`.
    case both
    /// σ in every bottleneck only; the MLP is down(gate · up): `only_lr_act = true`.
    case inner
    /// σ only in the gate's bottleneck, where the dense model had one; the MLP is down(gate · up).
    case reduced
    /// Linear bottlenecks B·A; the original silu of the SwiGLU stays.
    case original

    /// Whether silu(gate) · up is computed, or gate · up.
    public var hasOuterActivation: Bool { self == .both || self == .original }

    /// Whether σ stands between A and B of a projection.
    public func hasInnerActivation(_ module: LinearModule) -> Bool {
        switch self {
        case .both, .inner: true
        case .reduced: module == .gate
        case .original: false
        }
    }
}

/// Hyperparameters of a LLaMA-type decoder, read from the text of a Hugging Face config.json.
public struct DecoderConfiguration: Sendable, Equatable {
    public static let supportedModelTypes = ["llama", "cola", "cola_m", "colam", "qwen2"]

    public var modelType: String
    /// C, `hidden_size`.
    public var hiddenSize: Int
    /// F, `intermediate_size`.
    public var intermediateSize: Int
    /// L, `num_hidden_layers`.
    public var layers: Int
    /// H, `num_attention_heads`.
    public var heads: Int
    /// K, `num_key_value_heads`; divides H.
    public var keyValueHeads: Int
    /// D, `head_dim`; C / H if the file does not say.
    public var headSize: Int
    /// V, `vocab_size`.
    public var vocabularySize: Int
    /// ε of every RMSNorm, `rms_norm_eps`.
    public var normEpsilon: Float
    public var rotary: RotaryConfiguration
    /// Whether the head is the embedding's transpose, `tie_word_embeddings`.
    public var tiesEmbedding: Bool
    /// Largest number of positions the model was trained for, if the file says.
    public var maximumPositions: Int?
    public var placement: ActivationPlacement

    /// Reads a configuration. `path` names the file in errors.
    public init(json: String, path: String) throws(TransformerError) {
        let raw: RawConfiguration
        do {
            raw = try JSONDecoder().decode(RawConfiguration.self, from: Data(json.utf8))
        } catch let DecodingError.typeMismatch(type, context) {
            throw .configuration(path: path, key: name(context.codingPath), found: "another type", expected: "\(type)")
        } catch {
            throw .configuration(path: path, key: "config", found: "text that is not valid JSON", expected: "config.json")
        }
        modelType = raw.model_type ?? "llama"
        guard Self.supportedModelTypes.contains(modelType) else { throw .architecture(path: path, found: modelType) }

        func need(_ value: Int?, _ key: String) throws(TransformerError) -> Int {
            guard let value else { throw .configuration(path: path, key: key, found: "nothing", expected: "a number") }
            guard value > 0, value < 1 << 31 else {
                throw .configuration(path: path, key: key, found: "\(value)", expected: "a positive number")
            }
            return value
        }
        hiddenSize = try need(raw.hidden_size, "hidden_size")
        intermediateSize = try need(raw.intermediate_size, "intermediate_size")
        layers = try need(raw.num_hidden_layers, "num_hidden_layers")
        heads = try need(raw.num_attention_heads, "num_attention_heads")
        keyValueHeads = try need(raw.num_key_value_heads ?? raw.num_attention_heads, "num_key_value_heads")
        vocabularySize = try need(raw.vocab_size, "vocab_size")
        if let size = raw.head_dim {
            headSize = try need(size, "head_dim")
        } else {
            guard hiddenSize % heads == 0 else {
                throw .configuration(
                    path: path, key: "head_dim", found: "nothing",
                    expected: "a number, because hidden_size \(hiddenSize) is no multiple of \(heads) heads")
            }
            headSize = hiddenSize / heads
        }
        guard heads % keyValueHeads == 0 else {
            throw .configuration(
                path: path, key: "num_key_value_heads", found: "\(keyValueHeads)",
                expected: "a divisor of num_attention_heads \(heads)")
        }
        guard headSize % 2 == 0 else {
            throw .configuration(path: path, key: "head_dim", found: "\(headSize)", expected: "an even number")
        }
        let epsilon = raw.rms_norm_eps ?? 1e-6
        guard epsilon >= 0, epsilon < 1 else {
            throw .configuration(path: path, key: "rms_norm_eps", found: "\(epsilon)", expected: "a small number")
        }
        normEpsilon = Float(epsilon)
        if let act = raw.hidden_act, act != "silu", act != "swish" {
            throw .configuration(path: path, key: "hidden_act", found: act, expected: "silu")
        }
        if raw.sliding_window != nil, raw.use_sliding_window ?? (modelType != "qwen2") {
            throw .configuration(
                path: path, key: "sliding_window", found: "\(raw.sliding_window!)", expected: "none: not supported")
        }
        if let part = raw.partial_rotary_factor, part != 1 {
            throw .configuration(path: path, key: "partial_rotary_factor", found: "\(part)", expected: "1")
        }
        rotary = try RotaryConfiguration(raw, path: path)
        tiesEmbedding = raw.tie_word_embeddings ?? false
        maximumPositions = raw.max_position_embeddings
        placement = raw.cola_activation ?? ((raw.only_lr_act ?? false) ? .inner : .both)
    }

    /// Columns of q and rows of o's input: H · D.
    public var queryWidth: Int { heads * headSize }
    /// Columns of k and v: K · D.
    public var keyValueWidth: Int { keyValueHeads * headSize }

    /// Features entering and leaving a linear layer of the decoder.
    public func shape(of module: LinearModule) -> (inputs: Int, outputs: Int) {
        switch module {
        case .query: (hiddenSize, queryWidth)
        case .key, .value: (hiddenSize, keyValueWidth)
        case .output: (queryWidth, hiddenSize)
        case .gate, .up: (hiddenSize, intermediateSize)
        case .down: (intermediateSize, hiddenSize)
        }
    }
}

/// The keys of config.json that matter here, as they stand in the file.
struct RawConfiguration: Codable {
    struct Rotary: Codable {
        var type: String?
        var rope_type: String?
        var rope_theta: Double?
        var factor: Double?
        var low_freq_factor: Double?
        var high_freq_factor: Double?
        var original_max_position_embeddings: Double?
    }

    var model_type: String?
    var hidden_size: Int?
    var intermediate_size: Int?
    var num_hidden_layers: Int?
    var num_attention_heads: Int?
    var num_key_value_heads: Int?
    var head_dim: Int?
    var vocab_size: Int?
    var rms_norm_eps: Double?
    var rope_theta: Double?
    var rope_scaling: Rotary?
    var rope_parameters: Rotary?
    var tie_word_embeddings: Bool?
    var max_position_embeddings: Int?
    var hidden_act: String?
    var sliding_window: Int?
    var use_sliding_window: Bool?
    var partial_rotary_factor: Double?
    var only_lr_act: Bool?
    var cola_activation: ActivationPlacement?
}

private func name(_ path: [any CodingKey]) -> String { path.map(\.stringValue).joined(separator: ".") }
