import Glibc

/// A folder as `transformers` saves it – or a single `.safetensors` file with a config.json beside it.
///
/// Reads `config.json`, `model.safetensors` or the shards of `model.safetensors.index.json`, and the tokenizer. Names of
/// the published CoLA-M code become canonical ones.
public final class HuggingFaceFolder: TensorSource {
    public let path: String
    public let configuration: String?
    public let tensors: [TensorInfo]
    public let provenance: String?
    public var formatName: String { shards.count == 1 ? "safetensors" : "safetensors, \(shards.count) shards" }

    private let folder: String
    private let shards: [SafetensorsFile]
    /// Canonical name to the shard and the name in it.
    private let places: [String: (shard: Int, name: String)]

    /// Opens a folder or a `.safetensors` file.
    ///
    /// - Parameter configurationPath: a config.json to use instead of the one in the folder.
    /// - Throws: `CheckpointError` for what is missing or damaged; for a folder that has weights only as pickled
    ///   `pytorch_model.bin` an error that says how to convert them.
    public init(path: String, configurationPath: String? = nil) throws(CheckpointError) {
        var status = stat()
        guard stat(path, &status) == 0 else { throw .missing(path: path) }
        self.path = path
        let isFolder = status.st_mode & S_IFMT == S_IFDIR
        folder = isFolder ? path : Self.parent(of: path)
        let files = isFolder ? try Self.shardPaths(in: path) : (paths: [path], weightMap: nil)
        var shards: [SafetensorsFile] = []
        for file in files.paths { shards.append(try SafetensorsFile(path: file)) }
        self.shards = shards

        let configurationFile = configurationPath ?? "\(folder)/config.json"
        if configurationPath != nil || access(configurationFile, F_OK) == 0 {
            let text = try MappedFile.contents(configurationFile)
            _ = try MappedFile.json(text, path: configurationFile, place: "")
            configuration = String(decoding: text, as: UTF8.self)
        } else if isFolder {
            throw .missing(path: configurationFile)
        } else {
            configuration = nil
        }
        (tensors, places) = try Self.directory(shards, weightMap: files.weightMap, path: path)
        let saved = shards.reduce(into: [String: String]()) { $0.merge($1.metadata) { first, _ in first } }
        provenance = saved["provenance"]
    }

    /// The `tokenizer.json` if it is byte-level BPE; otherwise the sentencepiece `tokenizer.model`, and failing that the
    /// `tokenizer.json` whatever it is; `nil` if there is neither. With it comes what `tokenizer_config.json` says.
    ///
    /// Where nothing else says whether texts get a BOS, a sentencepiece model has it from the `tokenizer.json` beside it.
    public func tokenizer() throws -> TokenizerBlob? {
        let (json, model) = ("\(folder)/tokenizer.json", "\(folder)/tokenizer.model")
        let hasModel = MappedFile.exists(model)
        let hasText = MappedFile.exists(json)
        guard hasModel || hasText else { return nil }
        var settings = try TokenizerSettings.beside(tokenizerIn: folder)
        if hasText {
            let text = try MappedFile.contents(json)
            let value = try MappedFile.json(text, path: json, place: "")
            if Self.isByteLevel(value) || !hasModel { return TokenizerBlob(.tokenizerJSON(text), settings: settings) }
            settings.addsBOS = settings.addsBOS ?? Self.templateBegins(value["post_processor"])
        }
        return TokenizerBlob(.sentencepiece(try MappedFile.contents(model)), settings: settings)
    }

    /// Whether a template puts a token in front of a text; nil if there is none.
    private static func templateBegins(_ processor: JSONValue?) -> Bool? {
        if let steps = processor?["processors"]?.arrayValue { return steps.lazy.compactMap(templateBegins).first }
        return processor?["single"]?[0].map { $0["SpecialToken"] != nil }
    }

    public func read(_ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>) throws {
        guard let place = places[name] else {
            throw CheckpointError.tensors(path: path, problems: ["\(name): missing"])
        }
        try shards[place.shard].read(place.name, rows: rows, into: destination)
    }

    // MARK: - Opening

    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private static func shardPaths(
        in folder: String
    ) throws(CheckpointError) -> (paths: [String], weightMap: [(name: String, path: String)]?) {
        let single = "\(folder)/model.safetensors"
        if access(single, F_OK) == 0 { return ([single], nil) }
        let index = "\(folder)/model.safetensors.index.json"
        guard access(index, F_OK) == 0 else {
            for pickled in ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"]
            where access("\(folder)/\(pickled)", F_OK) == 0 {
                throw .unreadable(
                    path: folder,
                    reason: """
                        its weights are pickled (\(pickled)), which is not read because unpickling runs code; convert \
                        them once with transformers: AutoModelForCausalLM.from_pretrained(folder)\
                        .save_pretrained(other), which writes model.safetensors
                        """)
            }
            throw .unreadable(
                path: folder, reason: "holds neither model.safetensors nor model.safetensors.index.json")
        }
        guard let members = try MappedFile.json(index)["weight_map"]?.objectValue?.members, !members.isEmpty else {
            throw .invalid(path: index, place: "weight_map", found: "nothing", expected: "tensor names and their files")
        }
        var paths: [String] = []
        var weightMap: [(name: String, path: String)] = []
        for (name, value) in members {
            guard let file = value.stringValue, !file.contains("/"), file.hasSuffix(".safetensors") else {
                throw .invalid(
                    path: index, place: "weight_map, \(name)", found: value.text(),
                    expected: "the name of a .safetensors file in the same folder")
            }
            let path = "\(folder)/\(file)"
            if paths.last != path, !paths.contains(path) { paths.append(path) }
            weightMap.append((name, path))
        }
        return (paths.sorted(), weightMap)
    }

    private static func directory(
        _ shards: [SafetensorsFile], weightMap: [(name: String, path: String)]?, path: String
    ) throws(CheckpointError) -> ([TensorInfo], [String: (shard: Int, name: String)]) {
        var problems: [String] = []
        var tensors: [TensorInfo] = []
        var places: [String: (shard: Int, name: String)] = [:]
        for (index, shard) in shards.enumerated() {
            for info in shard.tensors {
                // Old checkpoints store the rotation's frequencies, which follow from the configuration.
                if info.name.hasSuffix(".rotary_emb.inv_freq") { continue }
                let name = PublishedNames.canonical(info.name)
                if let other = places.updateValue((index, info.name), forKey: name) {
                    problems.append("\(info.name): also in \(shards[other.shard].path) as \(other.name)")
                }
                tensors.append(
                    TensorInfo(
                        name: name, shape: info.shape, storedType: info.storedType, storedBytes: info.storedBytes))
            }
        }
        if let weightMap {
            var listed: Set<String> = []
            for (name, file) in weightMap {
                listed.insert(name)
                let shard = shards.firstIndex { $0.path == file }
                if places[PublishedNames.canonical(name)]?.shard != shard, !name.hasSuffix(".rotary_emb.inv_freq") {
                    problems.append("\(name): not in \(file), where the index has it")
                }
            }
            for (_, place) in places.sorted(by: { $0.key < $1.key }) where !listed.contains(place.name) {
                problems.append("\(place.name): in \(shards[place.shard].path), but not in the index")
            }
        }
        guard problems.isEmpty else { throw .tensors(path: path, problems: problems) }
        return (tensors, places)
    }

    private static func isByteLevel(_ tokenizer: JSONValue) -> Bool {
        func mentions(_ value: JSONValue?) -> Bool {
            guard let value else { return false }
            if value["type"]?.stringValue == "ByteLevel" { return true }
            return [value["pretokenizers"], value["decoders"]].contains { list in
                list?.arrayValue?.contains(where: mentions) ?? false
            }
        }
        return tokenizer["model"]?["type"]?.stringValue == "BPE"
            && (mentions(tokenizer["pre_tokenizer"]) || mentions(tokenizer["decoder"]))
    }
}
