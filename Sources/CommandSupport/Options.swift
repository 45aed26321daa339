import ArgumentParser
import Checkpoints
import Files
import Glibc
import TokenData
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

    public func open() throws -> any TensorSource { try openCheckpoint(checkpoint, config: config) }
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
        help: ArgumentHelp(
            "Texts (UTF-8), split by the checkpoint's own tokenizer: files, folders for the .txt files in them, - for standard input.",
            valueName: "file"))
    public var text: [String] = []

    @Option(
        help: ArgumentHelp(
            "Token ids instead of text: .npy, .u16, .u32, or file.h5:/path/to/dataset. A 2-D array is one sequence per row.",
            valueName: "file"))
    public var tokens: String?

    @Option(help: ArgumentHelp("Use this many tokens at most.", valueName: "count"))
    public var maxTokens: Int?

    @OptionGroup public var sequenceOptions: SequenceOptions
    @OptionGroup public var tokenizer: TokenizerOptions

    public init() {}

    public func validate() throws {
        guard text.isEmpty != (tokens == nil) else {
            throw ValidationError("Give the input as either --text FILE… or --tokens FILE.")
        }
        if let maxTokens, maxTokens < 1 { throw ValidationError("--max-tokens \(maxTokens): expected at least 1.") }
        try sequenceOptions.validate(hasText: !text.isEmpty, hasTokens: tokens != nil)
        try tokenizer.validate(isNeeded: tokens == nil || sequenceOptions.bos == .always)
        try TextInput.validate(text)
    }

    /// The files that are read.
    public var paths: [String] {
        (tokens.map { [TokenStream.path(of: $0)] } ?? TextInput.paths(text)) + (tokenizer.tokenizer.map { [$0] } ?? [])
    }

    /// Reads the input: one stream for each text, or the one token file. Every id is checked against the vocabulary.
    public func load(
        for source: any TensorSource, _ description: ModelDescription, _ console: Console
    ) throws -> [TokenStream] {
        try TokenStream.load(
            TokenStream.Request(
                text: text, tokens: tokens, maxTokens: maxTokens, sequences: sequenceOptions, tokenizer: tokenizer),
            for: source, description, console)
    }
}

/// The bytes of a file that is read as a whole. For texts see `TextInput`.
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

extension TokenStream {
    /// The file of a specification such as `file.h5:/tokens`.
    static func path(of specification: String) -> String { TokenFile.path(of: specification) }

    /// What is to be read.
    public struct Request {
        /// Texts, or else a token file.
        public var text: [String]
        public var tokens: String?
        /// No more than so many tokens in all, what is put in front included.
        public var maxTokens: Int?
        public var sequences: SequenceOptions
        public var tokenizer: TokenizerOptions
        /// Whether `--pad` is meant for other files, too.
        public var mayLackRows = false

        public init(
            text: [String], tokens: String?, maxTokens: Int?, sequences: SequenceOptions, tokenizer: TokenizerOptions,
            mayLackRows: Bool = false
        ) {
            self.text = text
            self.tokens = tokens
            self.maxTokens = maxTokens
            self.sequences = sequences
            self.tokenizer = tokenizer
            self.mayLackRows = mayLackRows
        }
    }

    /// One stream for each text, or that of the token file. Every id is checked against the vocabulary.
    public static func load(
        _ request: Request, for source: any TensorSource, _ description: ModelDescription, _ console: Console
    ) throws -> [TokenStream] {
        // Token files need none: a tokenizer that cannot be read has nothing to say about them.
        var known: () -> (any Tokenizer)? = { try? request.tokenizer.make(for: source) }
        var streams: [TokenStream] = []
        if let tokens = request.tokens {
            let file = try TokenFile.read(tokens)
            streams = [TokenStream(name: tokens, ids: file.ids, rowLength: file.rowLength)]
        } else {
            let tokenizer = try request.tokenizer.make(for: source)
            known = { tokenizer }
            for path in try TextInput.list(request.text, console) {
                let ids = try tokenizer.encode(TextInput.read(path, console))
                let name = TextInput.name(path)
                guard !ids.isEmpty else { throw InputError("\(name): the text is empty, expected at least two tokens") }
                streams.append(TokenStream(name: name, ids: ids, rowLength: nil))
            }
        }
        var left = request.maxTokens ?? .max
        for index in streams.indices {
            try streams[index].apply(
                request.sequences, isText: request.tokens == nil, mayLackRows: request.mayLackRows, tokenizer: known,
                SpecialIDs(of: source), description)
            streams[index].truncate(to: left)
            left -= streams[index].tokenCount
        }
        return streams.filter { $0.tokenCount > 0 }
    }
}

/// Number of ids of a tokenizer that can be used; throws if it cannot.
public func checkTokenizer(_ blob: TokenizerBlob, path: String) throws -> Int {
    try makeTokenizer(from: blob, path: path).vocabularySize
}
