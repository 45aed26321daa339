import Files
import JSON

/// A GGUF file (version 2 or 3), as llama.cpp and the tools around it write.
///
/// Tensors appear under canonical names, dequantised when read, and as an architecture (see `GGUFArchitecture`) has them: rows
/// of q and k that stand in the order of the interleaved rotation are put back into Hugging Face's half-split order, 1 is
/// subtracted from weights of norms that were stored as 1 + w, and q, k and v are parts of one tensor where the file has no
/// others. The configuration is the text of a config.json made from the metadata.
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

    /// Opens a file: reads the metadata and the directory and checks them against the file's size.
    ///
    /// Throws `CheckpointError` if the file is missing, cut short or corrupt, or holds an architecture that is not among the
    /// given ones. Tensors that such a model does not have are listed under the file's names; those of a type that is not
    /// read cannot be read.
    public convenience init(path: String, architectures: [GGUFArchitecture]) throws(CheckpointError) {
        try self.init(MappedFile(path), architectures: architectures)
    }

    init(_ file: MappedFile, architectures: [GGUFArchitecture]) throws(CheckpointError) {
        path = file.path
        parts = try GGUFParts(file)
        let (reader, file) = (parts.readers[0], parts.files[0])
        let name = try reader.string("general.architecture") ?? "missing"
        guard let architecture = architectures.first(where: { $0.name == name }) else {
            throw .invalid(
                path: file.path, place: "general.architecture", found: name,
                expected: "one of \(architectures.map(\.name).joined(separator: ", "))")
        }
        var frequencies: [Float]?
        var stored: [String: (part: Int, tensor: StoredTensor)] = [:]
        var tensors: [TensorInfo] = []
        var problems: [String] = []
        let metadata = try GGUFMetadata(reader, architecture: architecture, path: file.path)
        let all = parts.readers.enumerated().flatMap { part, reader in reader.tensors.map { (part, $0) } }
        let layout = GGUFLayout(architecture, metadata, names: Set(all.map(\.1.name)))
        var places: [String: Int] = [:]
        for (part, tensor) in all {
            if tensor.name == "rope_freqs.weight", !tensor.isEmpty {
                frequencies = try Self.frequencies(tensor, file: parts.files[part])
                continue
            }
            for piece in layout.pieces(of: tensor, &problems) {
                if let other = places.updateValue(part, forKey: piece.info.name) {
                    problems.append("\(tensor.name): in \(parts.files[other].path) and \(parts.files[part].path)")
                    continue
                }
                tensors.append(piece.info)
                if let place = piece.place { stored[piece.info.name] = (part, place) }
            }
        }
        guard problems.isEmpty else { throw .tensors(path: file.path, problems: problems) }
        self.stored = stored
        self.tensors = tensors
        configuration = try metadata.json(tensors: tensors, frequencies: frequencies).text(indent: 2)
        warnings =
            try tensors.first { $0.name == "model.embed_tokens.weight" }.map { embedding throws(CheckpointError) in
                try metadata.warnings(embedding: embedding)
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
