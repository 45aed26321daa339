import ArgumentParser
import Checkpoints
import Files
import Tokenizers
import Transformer

extension PreTokenizerRule: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }

    public static var allValueStrings: [String] { examples }
}

/// The rule by which a vocabulary that names none cuts text.
public struct PreTokenizerOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "How a GGUF vocabulary that does not say it cuts text into words: \(PreTokenizerRule.examples.joined(separator: ", ")), or another of llama.cpp's names for these rules.",
            valueName: "name"))
    public var preTokenizer: PreTokenizerRule?

    public init() {}

    /// A tokenizer completed with the rule, if one is given.
    ///
    /// - Throws: `InputError` if a rule is given and the tokenizer has one.
    public func completing(_ blob: TokenizerBlob?, path: String) throws -> TokenizerBlob? {
        guard let blob, let preTokenizer else { return blob }
        guard let vocabulary = UncutVocabulary(blob) else {
            throw InputError(
                "--pre-tokenizer \(preTokenizer.name): \(path): its tokenizer has a rule of its own; the option is for a "
                    + "GGUF vocabulary that names none that is known")
        }
        return TokenizerBlob(.tokenizerJSON(vocabulary.tokenizerJSON(preTokenizer)), settings: blob.settings)
    }

    /// The tokenizer of a checkpoint, or of a tokenizer file.
    ///
    /// - Throws: `CheckpointError`; `InputError` for a checkpoint that has none.
    public func tokenizer(at path: String) throws -> TokenizerBlob {
        let blob: TokenizerBlob?
        do {
            let source = try openStoredModel(path)
            blob = SpecialIDs(of: source).completing(try source.tokenizer())
        } catch is CheckpointError {
            blob = try readTokenizer(path)
        }
        guard let blob = try completing(blob, path: path) else {
            throw InputError("\(path): no tokenizer in this checkpoint")
        }
        return blob
    }
}

/// The tokenizer that text is split by.
public struct TokenizerOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Tokenizer for the text in place of the checkpoint's own: tokenizer.json, a sentencepiece model, or a checkpoint that has one.",
            valueName: "file"))
    public var tokenizer: String?

    @OptionGroup public var rule: PreTokenizerOptions

    public init() {}

    /// The option that is given, if any.
    public var given: String? {
        tokenizer != nil ? "--tokenizer" : rule.preTokenizer != nil ? "--pre-tokenizer" : nil
    }

    /// Throws `ValidationError` for a tokenizer that nothing needs.
    public func validate(isNeeded: Bool) throws {
        if let given, !isNeeded { throw ValidationError("\(given): token ids need no tokenizer; it goes with --text.") }
    }

    /// The tokenizer that is given, or the checkpoint's; nil if there is none.
    public func blob(of source: any TensorSource) throws -> TokenizerBlob? {
        try tokenizer.map { try rule.tokenizer(at: $0) } ?? rule.completing(source.tokenizer(), path: source.path)
    }

    /// The same, ready for use, with what the configuration says about it. Throws `InputError` if there is none.
    public func make(for source: any TensorSource) throws -> any Tokenizer {
        guard let blob = SpecialIDs(of: source).completing(try blob(of: source)) else {
            throw InputError(
                "\(source.path): no tokenizer in this checkpoint; give one with --tokenizer FILE, or token ids with --tokens"
            )
        }
        return try makeTokenizer(from: blob, path: tokenizer ?? source.path)
    }
}

extension TokenizerBlob {
    /// Number of ids; nil, with a warning, for a tokenizer that text cannot be split with: it comes along as it is.
    ///
    /// - Throws: `TokenizerError.unreadable` for one that is damaged.
    public func size(path: String, _ console: Console) throws -> Int? {
        do throws(TokenizerError) {
            return try makeTokenizer(from: self, path: path).vocabularySize
        } catch {
            guard error.isOfKind else { throw error }
            console.warn("\(error); the tokenizer comes along, but text cannot be split with it")
            return nil
        }
    }
}

extension TokenizerError {
    /// Whether the tokenizer is sound, but not of a kind that can be used.
    fileprivate var isOfKind: Bool {
        switch self {
        case .unsupported, .noRule: true
        case .unreadable, .encodingFailed: false
        }
    }
}
