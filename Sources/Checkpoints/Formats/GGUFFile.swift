import Files
import JSON

/// A GGUF file (version 2 or 3) of a LLaMA-type model, as llama.cpp and the tools around it write.
///
/// Architectures `llama` and `qwen2`. Tensors appear under Hugging Face names, dequantised when read. In `llama` files the
/// rows of the query and key projections stand in the order of the interleaved rotation; they are put back into Hugging
/// Face's half-split order. The configuration is the text of a config.json made from the metadata.
///
/// `rope_freqs.weight`, by which llama.cpp keeps LLaMA 3's scaling of the rotation, is no tensor of the model: it becomes
/// `rope_scaling` in the configuration if parameters are found that give every entry to single precision, and is an
/// error otherwise.
///
/// A model in several files (`-00001-of-00003.gguf`) is opened by any of them. Ids of special tokens that the vocabulary
/// lacks are left out, with a warning.
public final class GGUFFile: TensorSource {
    public let path: String
    public let configuration: String?
    public let provenance: String?
    public let tensors: [TensorInfo]
    public let warnings: [String]
    public var formatName: String {
        "GGUF v\(reader.version)" + (parts.files.count > 1 ? ", \(parts.files.count) parts" : "")
    }

    private let parts: GGUFParts
    private var reader: GGUFReader { parts.readers[0] }
    private let stored: [String: (part: Int, tensor: StoredTensor)]

    /// Architectures that are read.
    static let architectures = ["llama", "qwen2"]

    /// Opens a file: reads the metadata and the directory and checks them against the file's size.
    ///
    /// Throws `CheckpointError` if the file is missing, cut short or corrupt, or holds another architecture. Tensors that a
    /// dense model does not have are listed under the file's names; those of a type that is not read cannot be read.
    public convenience init(path: String) throws(CheckpointError) {
        try self.init(MappedFile(path))
    }

    init(_ file: MappedFile) throws(CheckpointError) {
        path = file.path
        parts = try GGUFParts(file)
        let (reader, file) = (parts.readers[0], parts.files[0])
        let architecture = try reader.string("general.architecture") ?? "missing"
        guard Self.architectures.contains(architecture) else {
            throw .invalid(
                path: file.path, place: "general.architecture", found: architecture,
                expected: "one of \(Self.architectures.joined(separator: ", "))")
        }
        var frequencies: [Float]?
        var stored: [String: (part: Int, tensor: StoredTensor)] = [:]
        var tensors: [TensorInfo] = []
        var problems: [String] = []
        let geometry = try GGUFConfiguration(reader, architecture: architecture, path: file.path)
        let all = parts.readers.enumerated().flatMap { part, reader in reader.tensors.map { (part, $0) } }
        var places: [String: Int] = [:]
        for (part, tensor) in all {
            if tensor.name == "rope_freqs.weight", !tensor.isEmpty {
                frequencies = try Self.frequencies(tensor, file: parts.files[part])
                continue
            }
            // A tensor that such a model does not have keeps its name; whether it matters is not a question of the format.
            let name = Self.canonical(tensor.name) ?? tensor.name
            let info = TensorInfo(
                name: name, shape: tensor.shape, storedType: tensor.typeName, storedBytes: tensor.bytes,
                obstacle: tensor.obstacle)
            if let other = places.updateValue(part, forKey: name) {
                problems.append("\(tensor.name): in \(parts.files[other].path) and \(parts.files[part].path)")
                continue
            }
            tensors.append(info)
            guard let type = tensor.type else { continue }
            var place = StoredTensor(info: info, type: type, offset: tensor.offset)
            if architecture == "llama", let heads = geometry.rotatedHeads(tensor.name) {
                guard tensor.shape[0] % (2 * heads) == 0 else {
                    problems.append("\(tensor.name): \(tensor.shape[0]) rows are not \(heads) heads of even size")
                    continue
                }
                place.interleavedHeads = heads
            }
            stored[name] = (part, place)
        }
        guard problems.isEmpty else { throw .tensors(path: file.path, problems: problems) }
        self.stored = stored
        self.tensors = tensors
        configuration = try geometry.json(tensors: tensors, frequencies: frequencies).text(indent: 2)
        warnings =
            try tensors.first { $0.name == "model.embed_tokens.weight" }.map { embedding throws(CheckpointError) in
                try geometry.warnings(embedding: embedding)
            } ?? []
        provenance = Self.provenance(reader)
    }

    public func read(_ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>) throws {
        guard let (part, tensor) = stored[name] else {
            throw CheckpointError.tensors(path: path, problems: ["\(name): \(info(name)?.obstacle ?? "missing")"])
        }
        tensor.read(from: parts.files[part], rows: rows, into: destination)
    }

    /// The tokenizer made from the metadata: a tokenizer.json for a byte-level vocabulary (`gpt2`) – see `UncutVocabulary`
    /// for one without a known rule –, a sentencepiece model for a `llama` one, `nil` if the file carries none or one of
    /// another kind.
    public func tokenizer() throws -> TokenizerBlob? {
        try GGUFTokenizer(reader, path: path).blob()
    }

    // MARK: - Names

    /// The Hugging Face name, or `nil` for a tensor that such a model does not have.
    private static func canonical(_ name: String) -> String? {
        switch name {
        case "token_embd.weight": return "model.embed_tokens.weight"
        case "output_norm.weight": return "model.norm.weight"
        case "output.weight": return "lm_head.weight"
        default: break
        }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "blk", let layer = Int(parts[1]), layer >= 0, "\(layer)" == parts[1],
            parts[3] == "weight" || parts[3] == "bias"
        else { return nil }
        let modules: [Substring: String] = [
            "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj",
        ]
        if let module = modules[parts[2]] { return "model.layers.\(layer).\(module).\(parts[3])" }
        guard parts[3] == "weight" else { return nil }
        switch parts[2] {
        case "attn_norm": return "model.layers.\(layer).input_layernorm.weight"
        case "ffn_norm": return "model.layers.\(layer).post_attention_layernorm.weight"
        default: return nil
        }
    }

    private static func frequencies(_ tensor: GGUFTensor, file: MappedFile) throws(CheckpointError) -> [Float] {
        guard tensor.shape.count == 1, tensor.type == .f32 else {
            throw .invalid(
                path: file.path, place: "tensor \(tensor.name)", found: "\(tensor.shape) of \(tensor.typeName)",
                expected: "a vector of f32")
        }
        let info = TensorInfo(name: tensor.name, shape: tensor.shape, storedType: "f32", storedBytes: tensor.bytes)
        return [Float](unsafeUninitializedCapacity: tensor.shape[0]) { buffer, count in
            let part = UnsafeMutableBufferPointer(rebasing: buffer[..<tensor.shape[0]])
            StoredTensor(info: info, type: .f32, offset: tensor.offset).read(from: file, rows: nil, into: part)
            count = tensor.shape[0]
        }
    }

    private static func provenance(_ reader: GGUFReader) -> String {
        var members: [JSONObject.Member] = [("format", .string("GGUF v\(reader.version)"))]
        for (key, value) in reader.scalars where key.hasPrefix("general.") {
            switch value {
            case .string(let text): members.append((key, .string(text)))
            case .unsigned(let number): members.append((key, .integer(Int(clamping: number))))
            default: break
            }
        }
        return JSONValue.object(JSONObject(members)).text()
    }
}
