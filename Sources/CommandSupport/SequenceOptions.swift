import ArgumentParser
import Checkpoints
import JSON
import TokenData
import Tokenizers
import Transformer

/// When a BOS stands in front of a text.
public enum BOSRule: String, ExpressibleByArgument, CaseIterable, Sendable {
    /// Where the tokenizer puts one; token files are taken as they are.
    case auto
    /// In front of texts and of the rows of token files, unless they begin with it.
    case always
    case never

    /// The ids that are put in front of every text – or, if `isText` is false, of every row of a token file.
    ///
    /// - Parameters:
    ///   - tokenizer: of the model, if it has one.
    ///   - special: what the model's configuration says.
    /// - Throws: `InputError` for `always` without a known BOS, and for a BOS beyond the vocabulary.
    public func prefix(
        isText: Bool, tokenizer: () -> (any Tokenizer)?, _ special: SpecialIDs, vocabulary: Int = .max
    ) throws -> [UInt32] {
        if self == .never || (self == .auto && !isText) { return [] }
        let tokenizer = tokenizer()
        var prefix = tokenizer?.prefixIDs ?? []
        if self == .always, prefix.isEmpty {
            guard let id = try special.bos ?? tokenizer?.bosID else {
                throw InputError(
                    "--bos always: \(special.path): neither the tokenizer nor bos_token_id of the configuration names a BOS"
                )
            }
            prefix = [id]
        }
        if let id = prefix.first(where: { $0 >= vocabulary }) {
            throw InputError(
                "\(special.path): the BOS \(id), expected an id below the vocabulary size \(vocabulary); "
                    + "--bos never puts none in front")
        }
        return prefix
    }
}

/// Which id of a token file is padding.
public enum PaddingRule: ExpressibleByArgument, Equatable, Sendable {
    case none
    case id(UInt32)

    public init?(argument: String) {
        if argument == "none" {
            self = .none
        } else if let id = UInt32(argument) {
            self = .id(id)
        } else {
            return nil
        }
    }
}

/// What counts as text: what is put in front of it, and what fills rows up behind it.
public struct SequenceOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A BOS in front: auto, of texts as the tokenizer has it; always, of token files as well; never.",
            valueName: "rule"))
    public var bos = BOSRule.auto

    @Option(
        help: ArgumentHelp(
            "Id that fills the rows of a 2-D token file up and is left out, or none (default: pad_token_id of the configuration).",
            valueName: "id"))
    public var pad: PaddingRule?

    public init() {}

    /// Throws `ValidationError` for an option that no text, or no token file, is there for.
    public func validate(hasText: Bool = false, hasTokens: Bool) throws {
        if bos != .auto, !hasText, !hasTokens {
            throw ValidationError("--bos \(bos.rawValue): there is no text to put a BOS in front of.")
        }
        if case .id(let id) = pad, !hasTokens {
            throw ValidationError("--pad \(id): texts have no padding; it goes with a 2-D token file.")
        }
    }

    /// The padding of two-dimensional token files, if any. `ends` are the ids that end documents.
    public func padding(_ special: SpecialIDs, ends: () throws -> [UInt32]) throws -> Padding? {
        let id: UInt32?
        switch pad {
        case PaddingRule.none?: id = nil
        case .id(let given)?: id = given
        case nil: id = try special.padding
        }
        return try id.map { Padding(id: $0, ends: try ends()) }
    }
}

/// The ids that a model's configuration gives a meaning. A negative one, which some write for none, is none.
public struct SpecialIDs: Sendable {
    /// Names the configuration in errors.
    public let path: String
    private let values: JSONObject

    public init(_ values: JSONObject?, path: String) {
        self.values = values ?? JSONObject()
        self.path = path
    }

    public init(of source: any TensorSource) { self.init(source.configurationValues, path: source.path) }

    /// `bos_token_id`. Throws `InputError` for something else than an id.
    public var bos: UInt32? { get throws { try ids("bos_token_id").first } }
    /// `pad_token_id`. Throws `InputError` for something else than an id.
    public var padding: UInt32? { get throws { try ids("pad_token_id").first } }
    /// `eos_token_id`, which may be a list. Throws `InputError` for something else than ids.
    public var ends: [UInt32] { get throws { try ids("eos_token_id") } }

    /// A tokenizer with what the configuration says about it: some write `add_bos_token` there.
    public func completing(_ blob: TokenizerBlob?) -> TokenizerBlob? {
        var blob = blob
        if blob?.settings.addsBOS == nil { blob?.settings.addsBOS = values["add_bos_token"]?.boolValue }
        return blob
    }

    private func ids(_ key: String) throws -> [UInt32] {
        guard let value = values[key], !value.isNull else { return [] }
        return try (value.arrayValue ?? [value]).compactMap { element in
            guard let number = element.intValue, number <= Int(UInt32.max) else {
                throw InputError(
                    "\(path): \(key) \(value.text()), expected a token id"
                        + (key == "eos_token_id" ? " or a list of them" : ""))
            }
            return UInt32(exactly: number)
        }
    }

    /// The ids that end documents: the tokenizer's, and those of the configuration.
    public func ends(and tokenizer: (any Tokenizer)?) throws -> [UInt32] {
        let named = tokenizer?.endIDs ?? []
        return try named + ends.filter { !named.contains($0) }
    }
}
