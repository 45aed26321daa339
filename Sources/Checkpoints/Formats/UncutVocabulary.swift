import JSON

/// A byte-level vocabulary with its merges, of which it is not yet said by which rule text is cut into words: what a GGUF
/// file gives. A `PreTokenizerRule` makes a tokenizer of it.
///
/// Where the file names no rule, or one that is not known, the vocabulary travels on as it is, as a `tokenizer.json` whose
/// pre-tokenizer has the type `pending`; it can be completed later, and until then is no tokenizer for text.
public struct UncutVocabulary {
    /// The type of the object in place of a pre-tokenizer.
    public static let pending = "PendingRule"

    /// What the file says about a begin and an end token.
    struct Ends {
        /// Whether they are put around a text; nil: as the rule has it.
        var addsBOS: Bool?
        var addsEOS: Bool?
        var bos: Int?
        var eos: Int?
    }

    /// The name of a rule that the file has: one that is not known, or `default`, which stands for none; nil if it has none.
    public let ruleName: String?
    private let addedTokens: JSONValue
    private let vocabulary: JSONValue
    private let merges: JSONValue
    private let ends: Ends

    init(ruleName: String?, addedTokens: JSONValue, vocabulary: JSONValue, merges: JSONValue, ends: Ends) {
        self.ruleName = ruleName
        self.addedTokens = addedTokens
        self.vocabulary = vocabulary
        self.merges = merges
        self.ends = ends
    }

    /// What is there in place of a known rule, in words.
    public static func describe(_ ruleName: String?) -> String {
        switch ruleName {
        case nil: "nothing"
        case "default": "\"default\", which says nothing"
        case let name?: "\"\(name)\", a rule that is not known"
        }
    }

    /// What a tokenizer.json holds; nil if it is a tokenizer, or no tokenizer.json.
    public init?(_ blob: TokenizerBlob) {
        guard case .tokenizerJSON(let text) = blob.content, let root = try? JSONValue(parsing: text),
            let rule = root["pre_tokenizer"], rule["type"]?.stringValue == Self.pending,
            let vocabulary = root["model"]?["vocab"], let merges = root["model"]?["merges"]
        else { return nil }
        self.init(
            ruleName: rule["name"]?.stringValue, addedTokens: root["added_tokens"] ?? [], vocabulary: vocabulary,
            merges: merges,
            ends: Ends(
                addsBOS: rule["add_bos_token"]?.boolValue, addsEOS: rule["add_eos_token"]?.boolValue,
                bos: rule["bos_token_id"]?.intValue, eos: rule["eos_token_id"]?.intValue))
    }

    /// The text of a tokenizer.json, complete with a rule and otherwise pending.
    public func tokenizerJSON(_ rule: PreTokenizerRule?) -> [UInt8] {
        let document: JSONValue = [
            "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": addedTokens,
            "normalizer": rule?.normalizer ?? nil, "pre_tokenizer": rule?.preTokenizer ?? pendingRule,
            "post_processor": rule.map(processor) ?? nil, "decoder": rule?.decoder ?? nil,
            "model": [
                "type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
                "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": .bool(rule?.ignoresMerges ?? false), "vocab": vocabulary, "merges": merges,
            ],
        ]
        return document.serialized()
    }

    /// What stands where the rule will: its name, if the file has one, and which special tokens are added.
    private var pendingRule: JSONValue {
        var object: JSONObject = ["type": .string(Self.pending), "name": ruleName.map { .string($0) } ?? nil]
        if let flag = ends.addsBOS { object["add_bos_token"] = .bool(flag) }
        if let flag = ends.addsEOS { object["add_eos_token"] = .bool(flag) }
        if let id = ends.bos { object["bos_token_id"] = .integer(id) }
        if let id = ends.eos { object["eos_token_id"] = .integer(id) }
        return .object(object)
    }

    /// What is put around the tokens of a text: those that the file says are added, or that the family adds by itself.
    private func processor(_ rule: PreTokenizerRule) -> JSONValue {
        let bos = ends.addsBOS ?? rule.addsBOS ? ends.bos : nil
        let eos = ends.addsEOS ?? false ? ends.eos : nil
        guard bos != nil || eos != nil else { return rule.processor }
        let spellings = (vocabulary.objectValue?.members ?? []).reduce(into: [Int: String]()) { names, member in
            if let id = member.value.intValue, id == bos || id == eos { names[id] = member.key }
        }
        func token(_ id: Int) -> JSONValue { .string(spellings[id] ?? "") }
        func item(_ id: Int?, _ segment: Int) -> [JSONValue] {
            id.map { [["SpecialToken": ["id": token($0), "type_id": .integer(segment)]]] } ?? []
        }
        func text(_ name: String, _ segment: Int) -> [JSONValue] {
            item(bos, segment) + [["Sequence": ["id": .string(name), "type_id": .integer(segment)]]]
                + item(eos, segment)
        }
        var specials = JSONObject()
        for id in [bos, eos].compactMap({ $0 }) {
            specials[spellings[id] ?? ""] = ["id": token(id), "ids": [.integer(id)], "tokens": [token(id)]]
        }
        let template: JSONValue = [
            "type": "TemplateProcessing", "single": .array(text("A", 0)), "pair": .array(text("A", 0) + text("B", 1)),
            "special_tokens": .object(specials),
        ]
        return rule.processor.isNull ? template : ["type": "Sequence", "processors": [rule.processor, template]]
    }
}
