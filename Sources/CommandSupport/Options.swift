import ArgumentParser
import Checkpoints
import Glibc
import Tokenizers
import Training
import Transformer

/// The checkpoint that a command reads.
public struct CheckpointOptions: ParsableArguments {
    @Argument(help: "HDF5 checkpoint; a GGUF, safetensors or llama2.c file or a Hugging Face folder works as well.")
    public var checkpoint: String

    @Option(help: ArgumentHelp("config.json for a checkpoint that carries none.", valueName: "file"))
    public var config: String?

    public init() {}

    public func open() throws -> any TensorSource {
        try Checkpoint.open(checkpoint, configurationPath: config)
    }
}

/// What is printed besides the result.
public struct ConsoleOptions: ParsableArguments {
    @Flag(help: "Print the result as JSON on standard output.")
    public var json = false

    @Flag(name: .shortAndLong, help: "No settings and no progress on standard error.")
    public var quiet = false

    public init() {}

    public var console: Console { Console(isQuiet: quiet) }
}

extension ModelPreset: ExpressibleByArgument {}

/// The text or the tokens that a command runs the model on.
public struct TokenOptions: ParsableArguments {
    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("Text files (UTF-8), split by the checkpoint's own tokenizer.", valueName: "file"))
    public var text: [String] = []

    @Option(
        help: ArgumentHelp(
            "Token ids instead of text: .npy, .u16, .u32, or file.h5:/path/to/dataset. A 2-D array is one sequence per row.",
            valueName: "file"))
    public var tokens: String?

    @Option(help: ArgumentHelp("Use this many tokens at most.", valueName: "count"))
    public var maxTokens: Int?

    public init() {}

    public func validate() throws {
        guard text.isEmpty != (tokens == nil) else {
            throw ValidationError("Give the input as either --text FILE… or --tokens FILE.")
        }
        if let maxTokens, maxTokens < 1 { throw ValidationError("--max-tokens \(maxTokens): expected at least 1.") }
    }

    /// The files that are read.
    public var paths: [String] { tokens.map { [TokenStream.path(of: $0)] } ?? text }

    /// Reads the input: one stream for each text, or the one token file. Every id is checked against the vocabulary.
    public func load(for source: any TensorSource, _ configuration: DecoderConfiguration) throws -> [TokenStream] {
        try TokenStream.load(text: text, tokens: tokens, maxTokens: maxTokens, for: source, configuration)
    }
}

/// The tokenizer that a checkpoint carries.
public func makeTokenizer(of source: any TensorSource) throws -> any Tokenizer {
    guard let blob = try source.tokenizer() else {
        throw InputError(
            "\(source.path): no tokenizer in this checkpoint; give token ids with --tokens, or import it from a folder "
                + "or file that has one")
    }
    return try makeTokenizer(from: blob, path: source.path)
}

/// The bytes of a text file.
public func readText(_ path: String) throws -> [UInt8] {
    guard access(path, F_OK) == 0 else { throw CheckpointError.missing(path: path) }
    guard let file = fopen(path, "rb") else {
        throw CheckpointError.unreadable(path: path, reason: String(cString: strerror(errno)))
    }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 18)
    while true {
        let count = fread(&chunk, 1, chunk.count, file)
        bytes.append(contentsOf: chunk.prefix(count))
        if count < chunk.count { break }
    }
    guard ferror(file) == 0 else {
        throw CheckpointError.unreadable(path: path, reason: String(cString: strerror(errno)))
    }
    return bytes
}

/// Token ids of one input.
public struct TokenStream: Sendable {
    public let name: String
    public private(set) var ids: [UInt32]
    /// Tokens of each sequence where the file says so; nil for a running text.
    public let rowLength: Int?

    public init(name: String, ids: [UInt32], rowLength: Int?) {
        self.name = name
        self.ids = ids
        self.rowLength = rowLength
    }

    /// The file of a specification such as `file.h5:/tokens`.
    static func path(of specification: String) -> String { TokenFile.path(of: specification) }

    /// One stream for each text, or that of the token file; no more than `maxTokens` in all. Every id is checked against
    /// the vocabulary.
    public static func load(
        text: [String], tokens: String?, maxTokens: Int?, for source: any TensorSource,
        _ configuration: DecoderConfiguration
    ) throws -> [TokenStream] {
        var streams: [TokenStream] = []
        if let tokens {
            let file = try TokenFile.read(tokens)
            streams = [TokenStream(name: tokens, ids: file.ids, rowLength: file.rowLength)]
        } else {
            let tokenizer = try makeTokenizer(of: source)
            for path in text {
                let ids = try tokenizer.encode(readText(path))
                guard !ids.isEmpty else { throw InputError("\(path): the text is empty, expected at least two tokens") }
                streams.append(TokenStream(name: path, ids: ids, rowLength: nil))
            }
        }
        var left = maxTokens ?? .max
        for index in streams.indices {
            streams[index].truncate(to: left)
            left -= streams[index].ids.count
        }
        streams.removeAll { $0.ids.isEmpty }
        let vocabulary = UInt32(clamping: configuration.vocabularySize)
        for stream in streams {
            guard let position = stream.ids.firstIndex(where: { $0 >= vocabulary }) else { continue }
            throw InputError(
                "\(stream.name): \(TransformerError.token(id: stream.ids[position], position: position, vocabulary: configuration.vocabularySize))"
            )
        }
        return streams
    }

    mutating func truncate(to count: Int) {
        if ids.count > count { ids.removeLast(ids.count - max(0, count)) }
    }

    /// The sequences of the input: its rows, or the text in pieces of `length`. Rows longer than `length` are cut; the last
    /// piece may be shorter.
    public func sequences(length: Int) -> [ArraySlice<UInt32>] {
        let rows = rowLength ?? ids.count
        guard rows > 0 else { return [] }
        return stride(from: 0, to: ids.count, by: rows).flatMap { start in
            let end = min(start + rows, ids.count)
            return stride(from: start, to: end, by: length).map { ids[$0..<min($0 + length, end)] }
        }
    }
}

/// The tokenizer of a file: a tokenizer.json, a sentencepiece model, a llama2.c tokenizer.
public func readTokenizer(_ path: String) throws -> TokenizerBlob {
    let bytes = try readText(path)
    let first = bytes.first { !" \n\r\t".utf8.contains($0) }
    if first == UInt8(ascii: "{") { return .tokenizerJSON(bytes) }
    let blob = TokenizerBlob.sentencepiece(bytes)
    do {
        _ = try makeTokenizer(from: blob, path: path)
        return blob
    } catch {
        // Not a sentencepiece model; the other binary format says best what is wrong with it.
        return try Llama2CTokenizer.read(path)
    }
}

/// Number of ids of a tokenizer that can be used; throws if it cannot.
public func checkTokenizer(_ blob: TokenizerBlob, path: String) throws -> Int {
    try makeTokenizer(from: blob, path: path).vocabularySize
}

/// The tokenizer of a checkpoint or of a tokenizer file.
public func tokenizer(at path: String) throws -> any Tokenizer {
    do {
        return try makeTokenizer(of: try Checkpoint.open(path))
    } catch let error as CheckpointError {
        guard case .unreadable = error else { throw error }
        guard let blob = try? readTokenizer(path) else { throw error }
        return try makeTokenizer(from: blob, path: path)
    }
}
