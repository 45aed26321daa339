import Files
import Glibc
import JSON

/// Writes a checkpoint as a Hugging Face folder: config.json, model.safetensors (or shards and their index) and the
/// tokenizer.
///
/// Each file appears when it is complete, config.json last, so that a folder without it is an unfinished one.
public struct HuggingFaceExporter: Sendable {
    /// What the folder is for.
    public enum Layout: String, Sendable, CaseIterable {
        /// A dense model, for `transformers` as it is. Tensors are written as the source has them: under canonical names,
        /// which are those of LLaMA and its relatives, or seen in another family's own layout.
        case dense
        /// Low-rank projections under the names of the paper's published CoLA model, factors as `[in, rank]` and
        /// `[rank, out]`; for that code. Models of families that it does not have keep their configuration and canonical
        /// names, with which this toolkit reads them.
        case cola
        /// The same under the names of its CoLA-M model.
        case colaM = "cola-m"
    }

    public var layout: Layout
    /// Type of all tensors in the folder: f32, f16 or bf16.
    public var type: ElementType
    /// Whether files of a model that is already in the folder may be replaced.
    public var replacesExisting: Bool
    /// Above so many bytes of weights the model is split into shards of at most so many, if tensors allow.
    public var maximumShardBytes: Int
    /// How a vocabulary that does not say it cuts text; without it such a vocabulary is left out.
    public var preTokenizer: PreTokenizerRule?
    /// JSON text that is kept in the files' metadata as their origin.
    public var provenance: String?
    /// The classes of the transformers library by `model_type`, of further families that the dense layout may hold.
    public var architectures: [String: String] = [:]
    /// Names of the tensors to write, of those that are in the source; nil: all that have elements and can be read.
    public var tensors: Set<String>?

    public init(
        layout: Layout = .dense, type: ElementType = .bf16, replacesExisting: Bool = false,
        maximumShardBytes: Int = 5_000_000_000, preTokenizer: PreTokenizerRule? = nil, provenance: String? = nil
    ) {
        self.layout = layout
        self.type = type
        self.replacesExisting = replacesExisting
        self.maximumShardBytes = maximumShardBytes
        self.preTokenizer = preTokenizer
        self.provenance = provenance
    }

    /// Writes `source` into the folder, which is made if need be, and returns the paths of the files written.
    ///
    /// A folder that was made and into which nothing could be written is removed again.
    ///
    /// - Parameter progress: called with the elements written so far and in all.
    /// - Throws: `CheckpointError` if the layout cannot express the model, a value is not finite in the chosen type, the
    ///   folder holds something and `replacesExisting` is not set, it is where `source` is read from, or cannot be written.
    @discardableResult
    public func export(
        _ source: any TensorSource, to folder: String, progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
    ) throws -> [String] {
        guard type != .f64 else {
            throw CheckpointError.cannotWrite(path: folder, reason: "elements of type f64; choose f32, f16 or bf16")
        }
        let plan = try ExportPlan(
            source, tensors: tensors, layout: layout, type: type, architectures: architectures)
        let tokenizer = try tokenizerFiles(source, configuration: plan.configuration)
        let output = try OutputFolder(folder)
        try prepare(folder, source: source)

        let shards = split(plan.items)
        let total = plan.items.reduce(0) { $0 + $1.count }
        var metadata: [JSONObject.Member] = [("format", "pt")]
        if let provenance { metadata.append(("provenance", .string(provenance))) }
        let writer = SafetensorsWriter(type: type, metadata: metadata)
        var written: [String] = []
        var done = 0
        for (index, items) in shards.enumerated() {
            let path = "\(folder)/\(Self.shardName(index, of: shards.count))"
            try writer.write(items, from: source, to: path) { count in
                done += count
                progress(done, total)
            }
            try verify(path, items)
            written.append(path)
        }
        if shards.count > 1 {
            written.append("\(folder)/model.safetensors.index.json")
            try AtomicFile.write(index(shards).text(indent: 2) + "\n", to: written.last!, needsFile: true)
        }
        for (name, bytes) in tokenizer {
            let file = try AtomicFile("\(folder)/\(name)", needsFile: true)
            try bytes.withUnsafeBytes { try file.write($0) }
            try file.commit()
            written.append(file.path)
        }
        written.append("\(folder)/config.json")
        output.keep()
        let configuration = plan.configuration.text(indent: 2, writesNonFinite: true)
        try AtomicFile.write(configuration + "\n", to: "\(folder)/config.json", needsFile: true)
        return written
    }

    // MARK: - Weights

    private func split(_ items: [SafetensorsWriter.Item]) -> [[SafetensorsWriter.Item]] {
        var shards: [[SafetensorsWriter.Item]] = [[]]
        var size = 0
        for item in items {
            let bytes = item.count * type.bytes
            if size > 0, size + bytes > maximumShardBytes {
                shards.append([])
                size = 0
            }
            shards[shards.count - 1].append(item)
            size += bytes
        }
        return shards
    }

    private static func shardName(_ index: Int, of count: Int) -> String {
        guard count > 1 else { return "model.safetensors" }
        func padded(_ number: Int) -> String {
            String(repeating: "0", count: max(0, 5 - "\(number)".count)) + "\(number)"
        }
        return "model-\(padded(index + 1))-of-\(padded(count)).safetensors"
    }

    private func index(_ shards: [[SafetensorsWriter.Item]]) -> JSONValue {
        var map: [JSONObject.Member] = []
        var bytes = 0
        for (index, items) in shards.enumerated() {
            for item in items {
                map.append((item.name, .string(Self.shardName(index, of: shards.count))))
                bytes += item.count * type.bytes
            }
        }
        map.sort { $0.key < $1.key }
        return ["metadata": ["total_size": .integer(bytes)], "weight_map": .object(JSONObject(map))]
    }

    /// Opens what was written, which checks its size, and compares the directory.
    private func verify(_ path: String, _ items: [SafetensorsWriter.Item]) throws {
        let file = try SafetensorsFile(path: path)
        let agrees =
            file.tensors.count == items.count
            && zip(file.tensors, items).allSatisfy {
                $0.name == $1.name && $0.shape == $1.shape && $0.storedType == type.rawValue
            }
        guard agrees else {
            throw CheckpointError.cannotWrite(
                path: path, reason: "what was written does not read back as the same tensors")
        }
    }

    // MARK: - Folder

    /// Names that belong to a model in a folder.
    private static func isOfModel(_ name: String) -> Bool {
        let names = [
            "config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
            "model.safetensors.index.json", "generation_config.json", "added_tokens.json", "chat_template.jinja",
        ]
        return names.contains(name) || (name.hasPrefix("model") && name.hasSuffix(".safetensors"))
    }

    /// Names of the files of a model that are in a folder, which an export replaces. Of one that cannot be read: none.
    public static func modelFiles(in folder: String) -> [String] { names(in: folder).filter(isOfModel) }

    /// Names of further files in a folder that other programs take for parts of a model. An export leaves them.
    public static func otherModelFiles(in folder: String) -> [String] {
        let endings = [".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".index.json"]
        let tokenizers = ["vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model"]
        return names(in: folder).filter { name in
            !isOfModel(name) && (tokenizers.contains(name) || endings.contains(where: name.hasSuffix))
        }
    }

    private static func names(in folder: String) -> [String] {
        guard let directory = opendir(folder) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    private func prepare(_ folder: String, source: any TensorSource) throws {
        let names = Self.names(in: folder)
        if names.isEmpty { return }
        guard replacesExisting else {
            throw CheckpointError.cannotWrite(path: folder, reason: "the folder is not empty")
        }
        let (target, origin) = (Self.resolved(folder), Self.resolved(source.path))
        guard origin != target, !origin.hasPrefix(target + "/") else {
            throw CheckpointError.cannotWrite(path: folder, reason: "it is the folder that the model is read from")
        }
        let replaced = names.filter(Self.isOfModel)
        for name in replaced {
            var status = stat()
            guard lstat("\(folder)/\(name)", &status) == 0, [S_IFREG, S_IFLNK].contains(status.st_mode & S_IFMT) else {
                throw CheckpointError.cannotWrite(
                    path: "\(folder)/\(name)", reason: "it is no file that can be replaced")
            }
        }
        // config.json first: without it the folder is an unfinished one from here on.
        for name in replaced.sorted(by: { $0 == "config.json" && $1 != "config.json" }) {
            guard unlink("\(folder)/\(name)") == 0 else {
                throw CheckpointError.cannotWrite(path: "\(folder)/\(name)", reason: String(cString: strerror(errno)))
            }
        }
    }

    private static func resolved(_ path: String) -> String {
        guard let resolved = realpath(path, nil) else { return path }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    // MARK: - Tokenizer

    private func tokenizerFiles(
        _ source: any TensorSource, configuration: JSONValue
    ) throws -> [(name: String, bytes: [UInt8])] {
        var settings: JSONObject = [:]
        let file: (name: String, bytes: [UInt8])
        var blob = try source.tokenizer()
        if let vocabulary = blob.flatMap({ UncutVocabulary($0) }) {
            // Nobody else could read it as it is.
            guard let preTokenizer else { return [] }
            blob?.content = .tokenizerJSON(vocabulary.tokenizerJSON(preTokenizer))
        }
        switch blob?.content {
        case nil: return []
        case .sentencepiece(let bytes):
            file = ("tokenizer.model", bytes)
            settings["tokenizer_class"] = "LlamaTokenizer"
            settings["add_bos_token"] = true
            settings["add_eos_token"] = false
            // The class would assume a space in front of a text, and the tokens of LLaMA.
            let summary = SentencePieceSummary(bytes)
            if !summary.addsDummyPrefix { settings["add_prefix_space"] = false }
            for (key, token) in summary.specialTokens { settings[key] = .string(token) }
        case .tokenizerJSON(let bytes):
            file = ("tokenizer.json", bytes)
            settings["tokenizer_class"] = "PreTrainedTokenizerFast"
            let tokenizer = try MappedFile.json(bytes, path: source.path, place: "tokenizer")
            for key in ["bos_token", "eos_token", "pad_token"] {
                guard let identifier = configuration["\(key)_id"]?.intValue else { continue }
                settings[key] = Self.token(identifier, tokenizer)
            }
        }
        for member in blob?.settings.json.members ?? [] { settings[member.key] = member.value }
        settings["clean_up_tokenization_spaces"] = false
        if let length = configuration["max_position_embeddings"] { settings["model_max_length"] = length }
        return [file, ("tokenizer_config.json", JSONValue.object(settings).serialized(indent: 2))]
    }

    private static func token(_ identifier: Int, _ tokenizer: JSONValue) -> JSONValue? {
        let added = tokenizer["added_tokens"]?.arrayValue?.first { $0["id"]?.intValue == identifier }
        if let content = added?["content"] { return content }
        let vocabulary = tokenizer["model"]?["vocab"]?.objectValue?.members
        return vocabulary?.first { $0.value.intValue == identifier }.map { .string($0.key) }
    }
}
