import JSON

/// Where σ stands in a CoLA layer (the ablation in arXiv 2502.10940).
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
    /// Whether each projection of attention, or of the MLP, has a bias (`attention_bias`, `mlp_bias`). Biases that are stored
    /// count without that as well.
    public var hasAttentionBias: Bool
    public var hasMLPBias: Bool

    /// Reads a configuration. `path` names the file in errors.
    ///
    /// Throws `TransformerError` for a value that is missing or that no model has, another family, and any key that would
    /// change the arithmetic and is not understood (see `ConfigurationKeys`).
    public init(json: String, path: String) throws(TransformerError) {
        let raw = try ConfigurationText(json, path: path)
        modelType = try raw.string("model_type") ?? "llama"
        guard Self.supportedModelTypes.contains(modelType) else { throw .architecture(path: path, found: modelType) }

        hiddenSize = try raw.size("hidden_size")
        intermediateSize = try raw.size("intermediate_size")
        layers = try raw.size("num_hidden_layers")
        heads = try raw.size("num_attention_heads")
        keyValueHeads = try raw.size("num_key_value_heads", default: heads)
        vocabularySize = try raw.size("vocab_size")
        let isMultiple = hiddenSize % heads == 0
        headSize = try raw.size("head_dim", default: isMultiple ? hiddenSize / heads : nil)
        guard heads % keyValueHeads == 0 else {
            throw raw.error("num_key_value_heads", "\(keyValueHeads)", "a divisor of num_attention_heads \(heads)")
        }
        guard headSize % 2 == 0 else { throw raw.error("head_dim", "\(headSize)", "an even number") }
        let epsilon = try raw.number("rms_norm_eps") ?? 1e-6
        guard epsilon >= 0, epsilon < 1 else { throw raw.error("rms_norm_eps", "\(epsilon)", "a small number") }
        normEpsilon = Float(epsilon)
        if let act = try raw.string("hidden_act"), act != "silu", act != "swish" {
            throw raw.error("hidden_act", act, "silu")
        }
        try Self.checkWindow(raw, modelType: modelType, layers: layers)
        rotary = try RotaryConfiguration(raw)
        let rotated = Double(headSize) * rotary.share
        guard rotary.rotatedSize(of: headSize) >= 2, rotary.rotatedSize(of: headSize) % 2 == 0 else {
            throw raw.error(
                "partial_rotary_factor", "\(rotary.share)",
                "a share of the head size \(headSize) that is an even number of at least 2, not \(rotated)")
        }
        tiesEmbedding = try raw.flag("tie_word_embeddings") ?? false
        maximumPositions = try raw.number("max_position_embeddings").map { Int($0) }
        if let text = try raw.string("cola_activation") {
            guard let placement = ActivationPlacement(rawValue: text) else {
                let known = ActivationPlacement.allCases.map(\.rawValue).joined(separator: ", ")
                throw raw.error("cola_activation", text, "one of \(known)")
            }
            self.placement = placement
        } else {
            placement = try raw.flag("only_lr_act") ?? false ? .inner : .both
        }
        hasAttentionBias = try raw.flag("attention_bias") ?? false
        hasMLPBias = try raw.flag("mlp_bias") ?? false
        try ConfigurationKeys.check(raw, self)
    }

    /// Throws unless every layer attends to all earlier tokens.
    private static func checkWindow(
        _ raw: ConfigurationText, modelType: String, layers: Int
    ) throws(TransformerError) {
        if let kinds = try raw.texts("layer_types"), let other = kinds.first(where: { $0 != "full_attention" }) {
            throw raw.error("layer_types", other, "full_attention in all layers")
        }
        guard let window = try raw.number("sliding_window") else { return }
        let isQwen = modelType == "qwen2"
        guard try raw.flag("use_sliding_window") ?? !isQwen else { return }
        // Layers from this one on have the window.
        let first = try raw.number("max_window_layers") ?? 28
        if isQwen, try raw.texts("layer_types") == nil, first >= Double(layers) { return }
        throw raw.error("sliding_window", "\(window)", "none: attention here sees all earlier tokens")
    }

    /// Whether the configuration gives a projection a bias.
    func needsBias(_ module: LinearModule) -> Bool {
        switch module {
        case .query, .key, .value: hasAttentionBias
        case .output: hasAttentionBias && modelType != "qwen2"
        case .gate, .up, .down: hasMLPBias
        }
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

/// The values of a config.json, by key and type; a missing key and `null` are the same.
struct ConfigurationText {
    let path: String
    private let prefix: String
    private let values: JSONValue

    init(_ json: String, path: String) throws(TransformerError) {
        self.path = path
        prefix = ""
        do throws(JSONError) {
            values = try JSONValue(parsing: json, allowsNonFinite: true)
        } catch {
            throw .configuration(path: path, key: "config", found: "\(error)", expected: "JSON text")
        }
        guard values.objectValue != nil else {
            throw .configuration(path: path, key: "config", found: "another value", expected: "an object")
        }
    }

    private init(path: String, prefix: String, values: JSONValue) {
        self.path = path
        self.prefix = prefix
        self.values = values
    }

    /// A key with those of the objects around it.
    func name(_ key: String) -> String { prefix + key }

    func error(_ key: String, _ found: String, _ expected: String) -> TransformerError {
        .configuration(path: path, key: name(key), found: found, expected: expected)
    }

    /// All keys and values, those that are null included.
    var members: [JSONObject.Member] { values.objectValue?.members ?? [] }

    /// The value of a key that is there and not null.
    func value(_ key: String) -> JSONValue? {
        guard let value = values[key], !value.isNull else { return nil }
        return value
    }

    private func get<T>(_ key: String, _ kind: String, _ convert: (JSONValue) -> T?) throws(TransformerError) -> T? {
        guard let value = value(key) else { return nil }
        guard let converted = convert(value) else { throw error(key, value.text(writesNonFinite: true), kind) }
        return converted
    }

    func string(_ key: String) throws(TransformerError) -> String? { try get(key, "a text") { $0.stringValue } }
    func flag(_ key: String) throws(TransformerError) -> Bool? { try get(key, "true or false") { $0.boolValue } }
    func number(_ key: String) throws(TransformerError) -> Double? {
        try get(key, "a number") { $0.doubleValue.flatMap { $0.isFinite && abs($0) < 1e15 ? $0 : nil } }
    }

    func texts(_ key: String) throws(TransformerError) -> [String]? {
        try get(key, "an array of texts") { value in
            let texts = value.arrayValue?.compactMap(\.stringValue)
            return texts?.count == value.arrayValue?.count ? texts : nil
        }
    }

    /// A positive whole number, or `fallback` where the key is missing.
    func size(_ key: String, default fallback: Int? = nil) throws(TransformerError) -> Int {
        guard let value = value(key) else {
            guard let fallback else { throw error(key, "nothing", "a positive whole number") }
            return fallback
        }
        guard let size = value.intValue, size > 0, size < 1 << 31 else {
            throw error(key, value.text(writesNonFinite: true), "a positive whole number below \(1 << 31)")
        }
        return size
    }

    /// The values of an object inside this one.
    func object(_ key: String) throws(TransformerError) -> ConfigurationText? {
        try get(key, "an object") { value in
            value.objectValue.map { _ in ConfigurationText(path: path, prefix: "\(prefix)\(key).", values: value) }
        }
    }
}
