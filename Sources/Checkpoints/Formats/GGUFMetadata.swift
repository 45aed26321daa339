import Files
import JSON

/// What the metadata of a GGUF file say about its model, of which an architecture makes a Hugging Face configuration.
public struct GGUFMetadata {
    /// C, H, K and D.
    public let hiddenSize: Int
    public let heads: Int
    public let keyValueHeads: Int
    public let headSize: Int
    /// θ.
    public let rotaryBase: Double

    let reader: GGUFReader
    let path: String
    private let architecture: GGUFArchitecture
    /// The file's tensors by canonical names.
    private var tensors: [String: TensorInfo] = [:]
    /// What the frequencies of the rotation are divided by, if a tensor says so.
    private(set) var frequencies: [Float]?

    init(_ reader: GGUFReader, architecture: GGUFArchitecture, path: String) throws(CheckpointError) {
        self.reader = reader
        self.architecture = architecture
        self.path = path
        func required(_ key: String) throws(CheckpointError) -> Int {
            guard let value = try reader.count("\(architecture.name).\(key)") else {
                throw .invalid(
                    path: path, place: "metadata \(architecture.name).\(key)", found: "nothing", expected: "a number")
            }
            guard (1...1 << 30).contains(value) else {
                throw .invalid(
                    path: path, place: "metadata \(architecture.name).\(key)", found: "\(value)", expected: "1 to 2^30")
            }
            return value
        }
        hiddenSize = try required("embedding_length")
        heads = try required("attention.head_count")
        keyValueHeads =
            reader["\(architecture.name).attention.head_count_kv"] == nil
            ? heads : try required("attention.head_count_kv")
        if reader["\(architecture.name).attention.key_length"] != nil {
            headSize = try required("attention.key_length")
        } else {
            headSize = hiddenSize / heads
            guard hiddenSize % heads == 0 else {
                throw .invalid(
                    path: path, place: "metadata \(architecture.name).attention.head_count", found: "\(heads)",
                    expected: "a divisor of the hidden size \(hiddenSize)")
            }
        }
        rotaryBase = try reader.number("\(architecture.name).rope.freq_base") ?? 10000
        guard rotaryBase > 1 else {
            throw .invalid(
                path: path, place: "metadata \(architecture.name).rope.freq_base", found: "\(rotaryBase)",
                expected: "more than 1"
            )
        }
        for (key, expected) in [("attention.value_length", headSize), ("rope.dimension_count", headSize)] {
            guard let value = try reader.count("\(architecture.name).\(key)"), value != expected else { continue }
            throw .invalid(
                path: path, place: "metadata \(architecture.name).\(key)", found: "\(value)",
                expected: "the head size \(expected)")
        }
        if !architecture.hasWindow,
            let window = try reader.count("\(architecture.name).attention.sliding_window"), window > 0
        {
            throw .unreadable(
                path: path, reason: "attends within a sliding window of \(window) tokens, which is not supported")
        }
        if let experts = try reader.count("\(architecture.name).expert_count"), experts > 0 {
            throw .unreadable(path: path, reason: "is a mixture of \(experts) experts; only dense models are read")
        }
    }

    // MARK: - Values

    /// The name of the architecture.
    var name: String { architecture.name }

    /// A value of the architecture, if there is one.
    public func number(_ key: String) throws(CheckpointError) -> Double? {
        try reader.number("\(architecture.name).\(key)")
    }

    /// A whole number that is not negative.
    public func count(_ key: String) throws(CheckpointError) -> Int? { try reader.count("\(architecture.name).\(key)") }

    /// The flags of an array.
    public func flags(_ key: String) throws(CheckpointError) -> [Bool]? {
        try reader.flags("\(architecture.name).\(key)")
    }

    public func isArray(_ key: String) -> Bool {
        if case .array = reader["\(architecture.name).\(key)"] { true } else { false }
    }

    /// A number that must be there and is not 0.
    public func size(_ key: String) throws(CheckpointError) -> Int {
        guard let value = try count(key), value > 0 else { throw missing(key) }
        return value
    }

    /// ε of the norms.
    public func epsilon(_ key: String = "attention.layer_norm_rms_epsilon") throws(CheckpointError) -> Double {
        guard let epsilon = try number(key) else { throw missing(key) }
        return epsilon
    }

    private func missing(_ key: String) -> CheckpointError {
        .invalid(path: path, place: "metadata \(architecture.name).\(key)", found: "nothing", expected: "a number")
    }

    /// Whether there is a tensor of a canonical name.
    public func has(_ name: String) -> Bool { tensors[name] != nil }

    /// Rows of a tensor of a canonical name, if there is one.
    public func rows(_ name: String) -> Int? { tensors[name]?.shape.first }

    /// V, rows of the embedding.
    public func vocabularySize() throws(CheckpointError) -> Int {
        guard let embedding = tensors["model.embed_tokens.weight"], embedding.shape.count == 2 else {
            throw .tensors(path: path, problems: ["token_embd.weight: missing or no matrix"])
        }
        return embedding.shape[0]
    }

    /// The configuration of a model that is built like LLaMA, under its keys.
    public func llama(class name: String, modelType: String) throws(CheckpointError) -> JSONObject {
        let epsilon = try epsilon()
        let vocabulary = try vocabularySize()
        return [
            "architectures": [.string(name)],
            "model_type": .string(modelType),
            "hidden_act": "silu",
            "hidden_size": .integer(hiddenSize),
            "intermediate_size": .integer(try size("feed_forward_length")),
            "num_hidden_layers": .integer(try size("block_count")),
            "num_attention_heads": .integer(heads),
            "num_key_value_heads": .integer(keyValueHeads),
            "head_dim": .integer(headSize),
            "max_position_embeddings": .integer(try size("context_length")),
            "vocab_size": .integer(vocabulary),
            "rms_norm_eps": .number(epsilon),
            "rope_theta": .number(rotaryBase),
            "rope_scaling": try scaling(),
            "tie_word_embeddings": .bool(!has("lm_head.weight")),
        ]
    }

    // MARK: - Configuration

    /// The configuration, with Hugging Face's keys.
    ///
    /// A value of the architecture that has no such key stands there under its own, so that it is not lost and those who
    /// compute can refuse what they do not know.
    func json(tensors: [TensorInfo], frequencies: [Float]?) throws(CheckpointError) -> JSONValue {
        var metadata = self
        metadata.tensors = Dictionary(tensors.map { ($0.name, $0) }) { first, _ in first }
        metadata.frequencies = frequencies
        var object = try architecture.configuration(metadata)
        let specialKeys = [
            "tokenizer.ggml.bos_token_id": "bos_token_id", "tokenizer.ggml.eos_token_id": "eos_token_id",
            "tokenizer.ggml.padding_token_id": "pad_token_id",
        ]
        let vocabulary = vocabulary(rows: try metadata.vocabularySize())
        for special in reader.specialIDs {
            guard let name = specialKeys[special.key] else { continue }
            if let id = special.id(below: vocabulary) { object[name] = .integer(id) }
        }
        let prefix = architecture.name + "."
        for (key, value) in reader.values where key.hasPrefix(prefix) {
            let rest = key.dropFirst(prefix.count)
            guard !Self.known.contains(rest), !architecture.keys.contains(String(rest)) else { continue }
            object[key] =
                switch value {
                case .unsigned(let number): Int(exactly: number).map { .integer($0) } ?? .number(Double(number))
                case .signed(let number): .integer(Int(number))
                case .float(let number): .number(Double("\(number)") ?? Double(number))
                case .double(let number): .number(number)
                case .bool(let flag): .bool(flag)
                case .string(let text): .string(text)
                case .array(let array): .string("an array of \(array.count) values")
                }
        }
        return .object(object)
    }

    /// Number of ids that stand for tokens: rows of the embedding, or the tokens of the file's vocabulary if it has fewer.
    private func vocabulary(rows: Int) -> Int { min(rows, reader.vocabularyCount ?? .max) }

    /// What the metadata hold that is left out: ids of special tokens that the vocabulary lacks, and a tokenizer of a kind
    /// that is not read.
    func warnings(embedding: TensorInfo) throws(CheckpointError) -> [String] {
        let count = vocabulary(rows: embedding.shape[0])
        var warnings = reader.specialIDs.filter { $0.id(below: count) == nil }.map {
            "\(path): metadata \($0.key): found \($0.found), expected an id below \(count); it is left out"
        }
        if let model = try reader.string("tokenizer.ggml.model"), !GGUFTokenizer.models.contains(model) {
            warnings.append(
                "\(path): metadata tokenizer.ggml.model: a tokenizer of the kind \(model) is not read (known are "
                    + "\(GGUFTokenizer.models.joined(separator: " and "))); text needs --tokenizer FILE")
        }
        return warnings
    }

    /// What is read here, and what says nothing about the arithmetic.
    private static let known: Set<Substring> = [
        "embedding_length", "attention.head_count", "attention.head_count_kv", "attention.key_length",
        "attention.value_length", "attention.layer_norm_rms_epsilon", "attention.sliding_window", "block_count",
        "context_length", "feed_forward_length", "vocab_size", "expert_count", "rope.freq_base", "rope.dimension_count",
        "rope.scaling.type", "rope.scaling.factor", "rope.scale_linear", "rope.scaling.original_context_length",
        "rope.scaling.finetuned", "tensor_data_layout",
    ]
}
