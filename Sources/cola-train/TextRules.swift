import ArgumentParser
import CommandSupport
import Files
import JSON
import TokenData
import Tokenizers
import Training

/// Ids as options have them: one, or several with commas between them.
struct IDList: ExpressibleByArgument {
    let ids: [UInt32]

    init?(argument: String) {
        let numbers = argument.split(separator: ",", omittingEmptySubsequences: false).map { UInt32($0) }
        ids = numbers.compactMap { $0 }
        guard ids.count == numbers.count else { return nil }
    }
}

/// What counts as text in the data of a run: decided once, when the run starts, and kept with it.
struct TextRules: Equatable {
    /// Why there is something in front of the texts, or nothing.
    private(set) var bosRule = BOSRule.never
    /// What is put in front of each text, row or document.
    private(set) var prefix: [UInt32] = []
    /// What fills the rows of token files up.
    private(set) var padding: Padding?
    /// The ids that end documents.
    private(set) var ends: [UInt32] = []
    /// What stands between two texts that are packed.
    private(set) var separator: UInt32?
    /// Whether padding was asked for, so that there must be rows.
    private(set) var needsRows = false
    /// Whether a running text that nothing divides may be one document.
    private(set) var allowsOneDocument = false

    /// Of a new run.
    ///
    /// - Throws: `InputError` for ids that the configuration names and that are none, for a BOS that is asked for and not
    ///   known, and for an end of documents beyond the vocabulary.
    init(_ options: DataOptions, tokenizer: (any Tokenizer)?, _ special: SpecialIDs, vocabulary: Int) throws {
        let isText = !options.input.text.isEmpty
        bosRule = options.sequenceOptions.bos
        prefix = try bosRule.prefix(isText: isText, tokenizer: { tokenizer }, special, vocabulary: vocabulary)
        let given = options.documentEnd.flatMap(\.ids)
        if let id = given.first(where: { $0 >= vocabulary }) {
            throw InputError("--document-end \(id): expected an id below the model's vocabulary size \(vocabulary)")
        }
        func known() throws -> [UInt32] { given.isEmpty ? try special.ends(and: tokenizer) : given }
        if case .id = options.sequenceOptions.pad { needsRows = true }
        if !isText { padding = try options.sequenceOptions.padding(special, ends: known) }
        if options.packing == .documents || options.inputs > 1 {
            ends = try known().filter { $0 < vocabulary }
            separator = ends.first
        }
    }

    /// Of a run that was started before runs kept their rules: documents end in the tokenizer's end token alone.
    init(ofOldRunWith tokenizer: (any Tokenizer)?) {
        ends = tokenizer?.eosID.map { [$0] } ?? []
        separator = ends.first
        allowsOneDocument = true
    }

    // MARK: - As JSON

    static let key = "text_rules"

    var json: JSONValue {
        func list(_ ids: [UInt32]) -> JSONValue { .array(ids.map { .integer(Int($0)) }) }
        return [
            "bos": .string(bosRule.rawValue), "prefix": list(prefix),
            "padding": padding.map { .integer(Int($0.id)) } ?? .null,
            "padding_ends": list(padding?.ends ?? []), "document_ends": list(ends),
            "separator": separator.map { .integer(Int($0)) } ?? .null,
        ]
    }

    /// Those that a run file keeps; `path` names it in errors. Throws `CheckpointError.invalid` for something else than
    /// `json` writes.
    init(_ settings: JSONObject, tokenizer: (any Tokenizer)?, path: String) throws {
        guard let json = settings[Self.key] else {
            self = TextRules(ofOldRunWith: tokenizer)
            return
        }
        func get<Value>(_ name: String, _ kind: String, _ convert: (JSONValue) -> Value?) throws -> Value {
            guard let value = json[name].flatMap(convert) else {
                throw CheckpointError.invalid(
                    path: path, place: "/training, settings, \(Self.key), \(name)",
                    found: json[name]?.text() ?? "nothing", expected: kind)
            }
            return value
        }
        func id(_ value: JSONValue) -> UInt32? { value.intValue.flatMap { UInt32(exactly: $0) } }
        func ids(_ name: String) throws -> [UInt32] {
            try get(name, "a list of ids") { value in
                let ids = value.arrayValue?.compactMap(id)
                return ids?.count == value.arrayValue?.count ? ids : nil
            }
        }
        func optional(_ name: String) throws -> UInt32? {
            try get(name, "an id or null") { value -> UInt32?? in
                value.isNull ? .some(nil) : id(value).map { .some($0) }
            }
        }
        bosRule = try get("bos", "auto, always or never") { $0.stringValue.flatMap(BOSRule.init) }
        prefix = try ids("prefix")
        let paddingEnds = try ids("padding_ends")
        padding = try optional("padding").map { Padding(id: $0, ends: paddingEnds) }
        ends = try ids("document_ends")
        separator = try optional("separator")
    }
}
