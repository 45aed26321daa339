import Checkpoints
import JSON
import Tensors

/// A random model of two layers with a byte-level tokenizer, in all formats. Its weights are multiples of 1/256 with seven
/// significant bits, so that every type stores them as they are.
struct TinyModel {
    struct Entry {
        var name: String
        var shape: [Int]
        var values: [Float]
    }

    var configuration: JSONObject
    var tensors: [Entry]
    var tokenizer: [UInt8]? = TinyModel.tokenizerJSON

    static let vocabulary = 300
    static let hidden = 24
    static let intermediate = 40
    static let layers = 2
    static let heads = 3

    /// A dense LLaMA: heads of ten features, so that queries are wider than the residual stream, and one head of keys.
    static let dense = TinyModel(headSize: 10, keyValueHeads: 1, rank: nil)
    /// A dense LLaMA with as many heads of keys as of queries.
    static let ungrouped = TinyModel(headSize: 8, keyValueHeads: heads, rank: nil)
    /// A CoLA model, with as many heads of keys as of queries because the published code knows nothing else.
    static let cola = TinyModel(headSize: 8, keyValueHeads: heads, rank: 5)

    private init(headSize: Int, keyValueHeads: Int, rank: Int?) {
        let (c, f, d) = (Self.hidden, Self.intermediate, headSize)
        configuration = [
            "model_type": rank == nil ? "llama" : "cola", "hidden_size": .integer(c), "intermediate_size": .integer(f),
            "num_hidden_layers": .integer(Self.layers), "num_attention_heads": .integer(Self.heads),
            "num_key_value_heads": .integer(keyValueHeads), "head_dim": .integer(d),
            "vocab_size": .integer(Self.vocabulary),
            "rms_norm_eps": 1e-5, "rope_theta": 10000, "tie_word_embeddings": false, "hidden_act": "silu",
            "max_position_embeddings": 512,
        ]
        if let rank { configuration["rank"] = .integer(rank) }
        tensors = []
        add("model.embed_tokens.weight", [Self.vocabulary, c])
        for layer in 0..<Self.layers {
            let prefix = "model.layers.\(layer)."
            add(prefix + "input_layernorm.weight", [c])
            add(prefix + "post_attention_layernorm.weight", [c])
            let (q, kv) = (Self.heads * d, keyValueHeads * d)
            for (module, inputs, outputs) in [
                ("self_attn.q_proj", c, q), ("self_attn.k_proj", c, kv), ("self_attn.v_proj", c, kv),
                ("self_attn.o_proj", q, c), ("mlp.gate_proj", c, f), ("mlp.up_proj", c, f), ("mlp.down_proj", f, c),
            ] {
                if let rank {
                    add(prefix + module + ".cola_a", [inputs, rank])
                    add(prefix + module + ".cola_b", [rank, outputs])
                } else {
                    add(prefix + module + ".weight", [outputs, inputs])
                }
            }
        }
        add("model.norm.weight", [c])
        add("lm_head.weight", [Self.vocabulary, c])
    }

    private mutating func add(_ name: String, _ shape: [Int]) {
        var generator = SeededGenerator(seed: UInt64(tensors.count + 1))
        let offset = shape.count == 1 ? 128 : 0
        let values = (0..<shape.reduce(1, *)).map { _ in
            Float(Int.random(in: -63...63, using: &generator) * (offset == 0 ? 2 : 1) + offset)
                / Float(offset == 0 ? 256 : 128)
        }
        tensors.append(Entry(name: name, shape: shape, values: values))
    }

    var parameters: Int { tensors.reduce(0) { $0 + $1.values.count } }
    var configurationText: String { JSONValue.object(configuration).text() }

    /// The model after changes to one of its tensors.
    func changing(_ name: String, _ change: (inout Entry) -> Void) -> TinyModel {
        var copy = self
        change(&copy.tensors[copy.tensors.firstIndex { $0.name == name }!])
        return copy
    }

    /// The model with other values in its configuration; nil removes a key.
    func configured(_ changes: [(String, JSONValue?)]) -> TinyModel {
        var copy = self
        for (key, value) in changes { copy.configuration[key] = value }
        return copy
    }

    // MARK: - Tokenizer

    static let merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("an", "d"), ("Ġ", "and"), ("i", "n")]

    /// All pieces by id: the bytes in the alphabet of byte-level vocabularies, what the merges make, an added token.
    static let pieces: [String] = {
        let printable = (0..<256).map { (0x21...0x7E).contains($0) || (0xA1...0xAC).contains($0) || $0 >= 0xAE }
        var next = 0x100
        var pieces = (0..<256).map { byte -> String in
            if printable[byte] { return String(Unicode.Scalar(UInt8(byte))) }
            defer { next += 1 }
            return String(Unicode.Scalar(UInt32(next))!)
        }
        pieces += merges.map { $0.0 + $0.1 }
        return pieces + ["<|end|>"]
    }()

    static let tokenizerJSON: [UInt8] = {
        let vocabulary = pieces.dropLast().enumerated().map { (key: $1, value: JSONValue.integer($0)) }
        let byteLevel: JSONValue = [
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
        ]
        let end: JSONValue = [
            "id": .integer(pieces.count - 1), "content": .string(pieces.last!), "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false,
        ]
        let document: JSONValue = [
            "version": "1.0", "added_tokens": [end], "normalizer": nil, "pre_tokenizer": byteLevel,
            "post_processor": nil, "decoder": byteLevel,
            "model": [
                "type": "BPE", "vocab": .object(JSONObject(vocabulary)),
                "merges": .array(merges.map { .string("\($0.0) \($0.1)") }),
            ],
        ]
        return document.serialized()
    }()

    /// A text of about so many bytes, the same each time.
    static func text(_ count: Int, seed: UInt64 = 7) -> String {
        var generator = SeededGenerator(seed: seed)
        let words = ["the", "and", "rank", "in", "of", "größe", "then", "spectrum", "a", "low,", "band.", "7"]
        var text = "The"
        while text.utf8.count < count { text += " " + words[Int.random(in: 0..<words.count, using: &generator)] }
        return text
    }
}

// MARK: - Files

extension TinyModel {
    /// This project's own format.
    func writeCheckpoint(_ path: String) throws {
        let writer = try CheckpointWriter(
            path: path, configuration: configurationText, provenance: "{}",
            tokenizer: tokenizer.map { .tokenizerJSON($0) })
        for tensor in tensors {
            let matrix = Matrix(uninitialized: tensor.shape)
            for (index, value) in tensor.values.enumerated() { matrix.pointer[index] = value }
            try writer.write(tensor.name, matrix)
        }
        try writer.finish()
    }

    /// A Hugging Face folder with tensors of a safetensors type: `F32`, `BF16`, …
    func writeFolder(_ workplace: Workplace, _ name: String, type: String = "F32") throws {
        try workplace.makeFolder(name)
        try workplace.write(safetensors(type: type), "\(name)/model.safetensors")
        try workplace.write(configurationText, "\(name)/config.json")
        if let tokenizer { try workplace.write(tokenizer, "\(name)/tokenizer.json") }
    }

    /// A safetensors file, or one of a type with the given bytes for each element.
    func safetensors(type: String = "F32") -> [UInt8] {
        var members: [JSONObject.Member] = []
        var data: [UInt8] = []
        for tensor in tensors {
            let start = data.count
            switch type {
            case "F32": data += tensor.values.flatMap { littleEndian($0) }
            case "BF16": data += tensor.values.flatMap { littleEndian(UInt16($0.bitPattern >> 16)) }
            case "F64": data += tensor.values.flatMap { littleEndian(Double($0)) }
            default: data += tensor.values.flatMap { littleEndian(Int32($0 * 256)) }
            }
            let offsets: JSONValue = .array([.integer(start), .integer(data.count)])
            let shape = JSONValue.array(tensor.shape.map { .integer($0) })
            members.append((tensor.name, ["dtype": .string(type), "shape": shape, "data_offsets": offsets]))
        }
        var header = JSONValue.object(JSONObject(members)).serialized()
        while header.count % 8 != 0 { header.append(0x20) }
        return littleEndian(UInt64(header.count)) + header + data
    }
}

func littleEndian<T: BitwiseCopyable>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

/// The GGUF file of a dense model, by the published layout.
extension TinyModel {
    private static func string(_ text: String) -> [UInt8] { littleEndian(UInt64(text.utf8.count)) + Array(text.utf8) }

    private var metadata: [(key: String, value: [UInt8])] {
        func text(_ value: String) -> [UInt8] { littleEndian(UInt32(8)) + Self.string(value) }
        func number(_ value: Int) -> [UInt8] { littleEndian(UInt32(4)) + littleEndian(UInt32(value)) }
        func float(_ value: Float) -> [UInt8] { littleEndian(UInt32(6)) + littleEndian(value) }
        func list(_ type: UInt32, _ items: [[UInt8]]) -> [UInt8] {
            littleEndian(UInt32(9)) + littleEndian(type) + littleEndian(UInt64(items.count)) + items.flatMap { $0 }
        }
        func setting(_ key: String) -> Int { configuration[key]?.intValue ?? 0 }
        let types = Self.pieces.indices.map { littleEndian(Int32($0 == Self.pieces.count - 1 ? 3 : 1)) }
        return [
            ("general.architecture", text("llama")), ("llama.block_count", number(Self.layers)),
            ("llama.context_length", number(512)), ("llama.embedding_length", number(Self.hidden)),
            ("llama.feed_forward_length", number(Self.intermediate)),
            ("llama.attention.head_count", number(Self.heads)),
            ("llama.attention.head_count_kv", number(setting("num_key_value_heads"))),
            ("llama.attention.key_length", number(setting("head_dim"))),
            ("llama.attention.value_length", number(setting("head_dim"))),
            ("llama.attention.layer_norm_rms_epsilon", float(1e-5)), ("llama.rope.freq_base", float(10000)),
            ("tokenizer.ggml.model", text("gpt2")), ("tokenizer.ggml.pre", text("gpt-2")),
            ("tokenizer.ggml.tokens", list(8, Self.pieces.map(Self.string))),
            ("tokenizer.ggml.token_type", list(5, types)),
            ("tokenizer.ggml.merges", list(8, Self.merges.map { Self.string("\($0.0) \($0.1)") })),
        ]
    }

    private static func ggufName(_ name: String) -> String {
        let parts = name.split(separator: ".")
        guard parts.count > 4 || name.contains("layernorm") else {
            return [
                "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                "lm_head.weight": "output.weight",
            ][name]!
        }
        let modules: [Substring: String] = [
            "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "q_proj": "attn_q",
            "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
            "up_proj": "ffn_up", "down_proj": "ffn_down",
        ]
        return "blk.\(parts[2]).\(modules[parts[parts.count - 2]]!).weight"
    }

    /// The rows of queries and keys in the order of the interleaved rotation.
    private func interleaved(_ tensor: Entry) -> [Float] {
        guard tensor.name.hasSuffix("q_proj.weight") || tensor.name.hasSuffix("k_proj.weight") else {
            return tensor.values
        }
        let (columns, size) = (tensor.shape[1], configuration["head_dim"]!.intValue!)
        return (0..<tensor.shape[0]).flatMap { row in
            let (head, place) = (row / size, row % size)
            let source = head * size + (place % 2) * (size / 2) + place / 2
            return tensor.values[source * columns..<(source + 1) * columns]
        }
    }

    var gguf: [UInt8] { gguf() }

    /// One file of several, counted from 0, as gguf-split makes them.
    func ggufPart(_ number: Int, of count: Int) -> [UInt8] {
        var part = self
        let cuts = (0...count).map { $0 * tensors.count / count }
        part.tensors = Array(tensors[cuts[number]..<cuts[number + 1]])
        return part.gguf(
            without: number == 0 ? [] : metadata.map(\.key),
            numbers: [
                ("split.no", Int32(number)), ("split.count", Int32(count)),
                ("split.tensors.count", Int32(tensors.count)),
            ])
    }

    /// Without some keys of the metadata, and with signed or floating-point numbers under others.
    func gguf(
        without keys: [String] = [], numbers: [(key: String, value: Int32)] = [],
        values: KeyValuePairs<String, Float> = [:]
    ) -> [UInt8] {
        let metadata =
            self.metadata.filter { !keys.contains($0.key) }
            + numbers.map { ($0.key, littleEndian(UInt32(5)) + littleEndian($0.value)) }
            + values.map { ($0.key, littleEndian(UInt32(6)) + littleEndian($0.value)) }
        var out = Array("GGUF".utf8) + littleEndian(UInt32(3))
        out += littleEndian(UInt64(tensors.count)) + littleEndian(UInt64(metadata.count))
        for (key, value) in metadata { out += Self.string(key) + value }
        var data: [UInt8] = []
        for tensor in tensors {
            out += Self.string(Self.ggufName(tensor.name)) + littleEndian(UInt32(tensor.shape.count))
            out += tensor.shape.reversed().flatMap { littleEndian(UInt64($0)) }
            out += littleEndian(UInt32(0)) + littleEndian(UInt64(data.count))
            data += interleaved(tensor).flatMap { littleEndian($0) }
            while data.count % 32 != 0 { data.append(0) }
        }
        while out.count % 32 != 0 { out.append(0) }
        return out + data
    }
}
