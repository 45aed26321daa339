import Files
import Glibc
import JSON

/// A folder as `transformers` saves it – or a single `.safetensors` file with a config.json beside it.
///
/// Reads `config.json`, `model.safetensors` or the shards of `model.safetensors.index.json`, and the tokenizer. Names become
/// canonical ones (see `TensorNames`). A name of a shared tensor that only the files' metadata keep, as `save_model` of
/// safetensors writes, is there as well.
public final class HuggingFaceFolder: TensorSource {
    public let path: String
    public let configuration: String?
    public let tensors: [TensorInfo]
    public let provenance: String?
    public let contradictions: [Contradiction]
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
        guard stat(path, &status) == 0 else { throw MappedFile.absence(of: path) }
        self.path = path
        let isFolder = status.st_mode & S_IFMT == S_IFDIR
        folder = isFolder ? path : Self.parent(of: path)

        let configurationFile = configurationPath ?? "\(folder)/config.json"
        var values: JSONValue = [:]
        let isGiven = configurationPath != nil
        let isBeside = isGiven ? false : try MappedFile.isThere(configurationFile)
        if isGiven || isBeside {
            let text = try MappedFile.contents(configurationFile)
            values = try MappedFile.json(text, path: configurationFile, place: "", allowsNonFinite: true)
            configuration = String(decoding: text, as: UTF8.self)
        } else {
            configuration = nil
        }
        let files = isFolder ? try ShardIndex(folder: path, configuration: values) : ShardIndex(file: path)
        if configuration == nil, isFolder { throw .missing(path: configurationFile) }
        var shards: [SafetensorsFile] = []
        for file in files.paths { shards.append(try SafetensorsFile(path: file)) }
        self.shards = shards
        (tensors, places, contradictions) = try Self.directory(shards, files, path: path)
        let saved = shards.reduce(into: [String: String]()) { $0.merge($1.metadata) { first, _ in first } }
        provenance = saved["provenance"]
    }

    /// The `tokenizer.json` if it is byte-level BPE; otherwise the sentencepiece `tokenizer.model`, and failing that the
    /// `tokenizer.json` whatever it is; `nil` if there is neither. With it comes what `tokenizer_config.json` says.
    ///
    /// Where nothing else says whether texts get a BOS, a sentencepiece model has it from the `tokenizer.json` beside it.
    public func tokenizer() throws -> TokenizerBlob? { try Self.tokenizer(in: folder) }

    /// The tokenizer in a folder that may hold nothing else; see `tokenizer()`.
    public static func tokenizer(in folder: String) throws -> TokenizerBlob? {
        let (json, model) = ("\(folder)/tokenizer.json", "\(folder)/tokenizer.model")
        let hasModel = try MappedFile.isThere(model)
        let hasText = try MappedFile.isThere(json)
        guard hasModel || hasText else { return nil }
        var settings = try TokenizerSettings.beside(json)
        if hasText {
            let text = try MappedFile.contents(json)
            let value = try MappedFile.json(text, path: json, place: "")
            if isByteLevel(value) || !hasModel { return TokenizerBlob(.tokenizerJSON(text), settings: settings) }
            settings.addsBOS = settings.addsBOS ?? templateBegins(value["post_processor"])
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

    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private typealias Directory = (
        tensors: [TensorInfo], places: [String: (shard: Int, name: String)], contradictions: [Contradiction]
    )

    private static func directory(
        _ shards: [SafetensorsFile], _ files: ShardIndex, path: String
    ) throws(CheckpointError) -> Directory {
        var problems: [String] = []
        var tensors: [TensorInfo] = []
        var places: [String: (shard: Int, name: String)] = [:]
        var entries = shards.enumerated().flatMap { index, shard in
            shard.tensors.map { (shard: index, info: $0, stored: $0.name) }
        }
        // Of a tensor with several names one is stored; the metadata say which, and take no room.
        let stored = Dictionary(entries.map { ($0.info.name, $0) }) { first, _ in first }
        for shard in shards {
            for (alias, name) in shard.metadata.sorted(by: { $0.key < $1.key }) where stored[alias] == nil {
                guard let entry = stored[name], !TensorNames.isRecomputed(alias) else { continue }
                let info = TensorInfo(
                    name: alias, shape: entry.info.shape, storedType: entry.info.storedType, storedBytes: 0,
                    obstacle: entry.info.obstacle)
                entries.append((entry.shard, info, entry.info.name))
            }
        }
        let listed = files.weightMap.map(\.name)
        let names = TensorNames.canonical(entries.map(\.info.name) + listed)
        for (name, entry) in zip(names, entries) {
            let info = entry.info
            if let other = places[name] {
                // Tables that nobody reads may be there more than once.
                if TensorNames.isRecomputed(name) { continue }
                problems.append("\(entry.stored): also in \(shards[other.shard].path) as \(other.name)")
            }
            places[name] = (entry.shard, entry.stored)
            tensors.append(
                TensorInfo(
                    name: name, shape: info.shape, storedType: info.storedType, storedBytes: info.storedBytes,
                    obstacle: info.obstacle))
        }
        guard problems.isEmpty else { throw .tensors(path: path, problems: problems) }
        let contradictions = files.contradictions(
            zip(names.dropFirst(entries.count), files.weightMap).map { ($0, $1) },
            stored: zip(names, entries).map {
                .init(name: $0, stored: $1.info.name, path: shards[$1.shard].path, isAlias: $1.info.name != $1.stored)
            })
        return (tensors, places, contradictions)
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
