import Files
import Glibc
import JSON

/// The metadata of a LLaMA-type GGUF file as a Hugging Face configuration.
struct GGUFConfiguration {
    private let reader: GGUFReader
    private let architecture: String
    private let path: String
    private let hidden: Int
    private let heads: Int
    private let keyValueHeads: Int
    private let headSize: Int
    private let theta: Double

    init(_ reader: GGUFReader, architecture: String, path: String) throws(CheckpointError) {
        self.reader = reader
        self.architecture = architecture
        self.path = path
        func required(_ key: String) throws(CheckpointError) -> Int {
            guard let value = try reader.count("\(architecture).\(key)") else {
                throw .invalid(
                    path: path, place: "metadata \(architecture).\(key)", found: "nothing", expected: "a number")
            }
            guard (1...1 << 30).contains(value) else {
                throw .invalid(
                    path: path, place: "metadata \(architecture).\(key)", found: "\(value)", expected: "1 to 2^30")
            }
            return value
        }
        hidden = try required("embedding_length")
        heads = try required("attention.head_count")
        keyValueHeads =
            reader["\(architecture).attention.head_count_kv"] == nil ? heads : try required("attention.head_count_kv")
        if reader["\(architecture).attention.key_length"] != nil {
            headSize = try required("attention.key_length")
        } else {
            headSize = hidden / heads
            guard hidden % heads == 0 else {
                throw .invalid(
                    path: path, place: "metadata \(architecture).attention.head_count", found: "\(heads)",
                    expected: "a divisor of the hidden size \(hidden)")
            }
        }
        theta = try reader.number("\(architecture).rope.freq_base") ?? 10000
        guard theta > 1 else {
            throw .invalid(
                path: path, place: "metadata \(architecture).rope.freq_base", found: "\(theta)", expected: "more than 1"
            )
        }
        for (key, expected) in [("attention.value_length", headSize), ("rope.dimension_count", headSize)] {
            guard let value = try reader.count("\(architecture).\(key)"), value != expected else { continue }
            throw .invalid(
                path: path, place: "metadata \(architecture).\(key)", found: "\(value)",
                expected: "the head size \(expected)")
        }
        if let window = try reader.count("\(architecture).attention.sliding_window"), window > 0 {
            throw .unreadable(
                path: path, reason: "attends within a sliding window of \(window) tokens, which is not supported")
        }
        if let experts = try reader.count("\(architecture).expert_count"), experts > 0 {
            throw .unreadable(path: path, reason: "is a mixture of \(experts) experts; only dense models are read")
        }
    }

    /// Heads of a tensor whose rows are rotated, `nil` for all other tensors.
    func rotatedHeads(_ name: String) -> Int? {
        guard name.hasPrefix("blk.") else { return nil }
        if name.hasSuffix(".attn_q.weight") || name.hasSuffix(".attn_q.bias") { return heads }
        if name.hasSuffix(".attn_k.weight") || name.hasSuffix(".attn_k.bias") { return keyValueHeads }
        return nil
    }

    /// The configuration, with Hugging Face's keys.
    ///
    /// A value of the architecture that has no such key stands there under its own, so that it is not lost and those who
    /// compute can refuse what they do not know.
    func json(tensors: [TensorInfo], frequencies: [Float]?) throws(CheckpointError) -> JSONValue {
        let names = Set(tensors.map(\.name))
        func count(_ key: String) throws(CheckpointError) -> JSONValue {
            guard let value = try reader.count("\(architecture).\(key)"), value > 0 else {
                throw .invalid(
                    path: path, place: "metadata \(architecture).\(key)", found: "nothing", expected: "a number")
            }
            return .integer(value)
        }
        guard let epsilon = try reader.number("\(architecture).attention.layer_norm_rms_epsilon") else {
            throw .invalid(
                path: path, place: "metadata \(architecture).attention.layer_norm_rms_epsilon", found: "nothing",
                expected: "a number")
        }
        guard let embedding = tensors.first(where: { $0.name == "model.embed_tokens.weight" }),
            embedding.shape.count == 2
        else {
            throw .tensors(path: path, problems: ["token_embd.weight: missing or no matrix"])
        }
        let isLlama = architecture == "llama"
        var object: JSONObject = [
            "architectures": [isLlama ? "LlamaForCausalLM" : "Qwen2ForCausalLM"],
            "model_type": .string(architecture),
            "hidden_act": "silu",
            "hidden_size": .integer(hidden),
            "intermediate_size": try count("feed_forward_length"),
            "num_hidden_layers": try count("block_count"),
            "num_attention_heads": .integer(heads),
            "num_key_value_heads": .integer(keyValueHeads),
            "head_dim": .integer(headSize),
            "max_position_embeddings": try count("context_length"),
            "vocab_size": .integer(embedding.shape[0]),
            "rms_norm_eps": .number(epsilon),
            "rope_theta": .number(theta),
            "rope_scaling": try scaling(frequencies),
            "tie_word_embeddings": .bool(!names.contains("lm_head.weight")),
        ]
        if isLlama {
            object["attention_bias"] = .bool(names.contains("model.layers.0.self_attn.q_proj.bias"))
            object["mlp_bias"] = .bool(names.contains("model.layers.0.mlp.gate_proj.bias"))
        }
        let specialKeys = [
            "tokenizer.ggml.bos_token_id": "bos_token_id", "tokenizer.ggml.eos_token_id": "eos_token_id",
            "tokenizer.ggml.padding_token_id": "pad_token_id",
        ]
        for special in reader.specialIDs {
            guard let name = specialKeys[special.key] else { continue }
            if let id = special.id(below: vocabulary(embedding)) { object[name] = .integer(id) }
        }
        for (key, value) in reader.values where key.hasPrefix("\(architecture).") {
            guard !Self.known.contains(key.dropFirst(architecture.count + 1)) else { continue }
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
    private func vocabulary(_ embedding: TensorInfo) -> Int {
        min(embedding.shape[0], reader.vocabularyCount ?? .max)
    }

    /// What the metadata hold that is left out: ids of special tokens that the vocabulary lacks, and a tokenizer of a kind
    /// that is not read.
    func warnings(embedding: TensorInfo) throws(CheckpointError) -> [String] {
        let count = vocabulary(embedding)
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

    // MARK: - Scaling of the rotation

    private func scaling(_ frequencies: [Float]?) throws(CheckpointError) -> JSONValue {
        let key = "\(architecture).rope.scaling.type"
        let type = try reader.string(key) ?? "none"
        let linear = try reader.number("\(architecture).rope.scale_linear")
        let factor = try reader.number("\(architecture).rope.scaling.factor") ?? linear ?? 1
        switch type {
        case "none" where (linear ?? 1) == 1, "linear" where factor == 1:
            return try frequencies.map { list throws(CheckpointError) in try llama3(list) } ?? .null
        case "linear" where frequencies == nil, "none" where frequencies == nil:
            guard factor > 0 else {
                throw .invalid(path: path, place: "metadata \(key)", found: "factor \(factor)", expected: "more than 0")
            }
            return ["rope_type": "linear", "factor": .number(factor)]
        default:
            throw .invalid(
                path: path, place: "metadata \(key)",
                found: frequencies == nil ? type : "\(type) beside rope_freqs.weight",
                expected: "none, linear or LLaMA 3's factors")
        }
    }

    /// The parameters of LLaMA 3's scaling that give these divisors of the frequencies.
    ///
    /// The file holds only the result. The factor is the largest divisor; the original context and the two bounds are
    /// searched among the values that models use, and taken only if each divisor comes out to single precision.
    private func llama3(_ divisors: [Float]) throws(CheckpointError) -> JSONValue {
        guard divisors.count == headSize / 2, divisors.allSatisfy({ $0.isFinite && $0 > 0 }) else {
            throw .invalid(
                path: path, place: "tensor rope_freqs.weight", found: "\(divisors.count) values",
                expected: "\(headSize / 2) finite positive ones, half the head size")
        }
        if divisors.allSatisfy({ $0 == 1 }) { return .null }
        let factor = Double(divisors.max() ?? 1)
        for context in [8192, 4096, 16384, 2048, 32768, 65536, 131_072] {
            for (low, high) in [(1.0, 4.0), (1.0, 2.0), (1.0, 8.0), (2.0, 4.0), (1.0, 32.0)] {
                let agrees = divisors.indices.allSatisfy { index in
                    let expected = divisor(index, factor: factor, low: low, high: high, context: Double(context))
                    return abs(Double(divisors[index]) - expected) <= 4e-6 * expected
                }
                guard agrees else { continue }
                return [
                    "rope_type": "llama3", "factor": .number(factor), "low_freq_factor": .number(low),
                    "high_freq_factor": .number(high), "original_max_position_embeddings": .integer(context),
                ]
            }
        }
        throw .invalid(
            path: path, place: "tensor rope_freqs.weight", found: "divisors of no LLaMA 3 scaling that is known",
            expected: "those of a factor with low_freq_factor 1 and high_freq_factor 4 or the like; "
                + "use the original Hugging Face folder instead")
    }

    private func divisor(_ index: Int, factor: Double, low: Double, high: Double, context: Double) -> Double {
        let wavelength = 2 * Double.pi * pow(theta, Double(2 * index) / Double(headSize))
        if wavelength < context / high { return 1 }
        if wavelength > context / low { return factor }
        let smooth = (context / wavelength - low) / (high - low)
        return 1 / ((1 - smooth) / factor + smooth)
    }
}
