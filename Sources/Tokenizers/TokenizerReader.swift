import Checkpoints
import JSON

/// Reads the parts of a `tokenizer.json`, each with its errors.
struct TokenizerReader {
    let path: String

    /// Larger ids are damage: a table of this length would not fit any model.
    private static let largestID = 1 << 26
    private static let wayOut = "for this kind, give the tokenizer.model that came with it"

    func damaged(_ reason: String) -> TokenizerError { .unreadable(path: path, reason: reason) }

    private func unsupported(_ feature: String, _ found: String, _ understood: String) -> TokenizerError {
        .unsupported(path: path, feature: feature, found: found, understood: understood)
    }

    // MARK: - Model

    /// The `model` object, if it is byte-level byte pair encoding.
    func byteLevelModel(_ root: JSONValue) throws(TokenizerError) -> JSONValue {
        guard case .object = root else { throw damaged("the document is not an object") }
        guard let model = root["model"], case .object = model else { throw damaged("it has no object \"model\"") }
        let kind = model["type"]?.stringValue ?? (model["merges"] == nil ? "no type" : "BPE")
        let understood = "byte-level BPE; \(Self.wayOut)"
        guard kind == "BPE" else { throw unsupported("model", kind, understood) }
        let preTokenizer = root["pre_tokenizer"] ?? .null
        if preTokenizer["type"]?.stringValue == UncutVocabulary.pending {
            throw .noRule(path: path, found: preTokenizer["name"]?.stringValue)
        }
        guard steps(preTokenizer).contains(where: { $0["type"]?.stringValue == "ByteLevel" }) else {
            let names = steps(preTokenizer).map { $0["type"]?.stringValue ?? "?" }.joined(separator: ", ")
            let bytes = model["byte_fallback"]?.boolValue == true ? " with byte fallback" : ""
            throw unsupported(
                "model", "BPE over characters\(bytes) (pre-tokenizer: \(names.isEmpty ? "none" : names))", understood)
        }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if let affix = model[key]?.stringValue, !affix.utf8.isEmpty {
                throw unsupported("model.\(key)", quoted(affix), "none")
            }
        }
        if let dropout = model["dropout"]?.doubleValue, dropout != 0 {
            throw unsupported("model.dropout", "\(dropout)", "none: the same text must give the same ids")
        }
        return model
    }

    func vocabulary(_ model: JSONValue) throws(TokenizerError) -> Vocabulary {
        guard let members = model["vocab"]?.objectValue?.members else { throw damaged("model.vocab is not an object") }
        var result = Vocabulary(members: [], ids: ByteStringTable(capacity: members.count))
        result.members.reserveCapacity(members.count)
        var owners: [UInt32: String] = [:]
        for (spelling, value) in members {
            let id = try id(value, of: spelling)
            guard result.ids.insert(Array(spelling.utf8), value: id) else {
                throw damaged("model.vocab has \(quoted(spelling)) twice or empty")
            }
            if let owner = owners.updateValue(spelling, forKey: id) {
                throw damaged("model.vocab gives \(quoted(owner)) and \(quoted(spelling)) the same id \(id)")
            }
            result.members.append((spelling, id))
        }
        return result
    }

    private func id(_ value: JSONValue?, of spelling: String) throws(TokenizerError) -> UInt32 {
        guard let id = value?.intValue, (0...Self.largestID).contains(id) else {
            throw damaged(
                "the id of \(quoted(spelling)) is \(value?.text() ?? "missing"), expected 0 to \(Self.largestID)")
        }
        return UInt32(id)
    }

    func merges(_ model: JSONValue, _ ids: ByteStringTable) throws(TokenizerError) -> MergeTable {
        guard let elements = model["merges"]?.arrayValue else { throw damaged("model.merges is not an array") }
        var result: [MergeTable.Merge] = []
        result.reserveCapacity(elements.count)
        for (index, element) in elements.enumerated() {
            let (left, right) = try pair(element, index)
            func find(_ spelling: [UInt8]) throws(TokenizerError) -> UInt32 {
                guard let id = ids.find(spelling) else {
                    throw damaged(
                        "model.merges[\(index)] names \(quoted(String(decoding: spelling, as: UTF8.self))), "
                            + "which is not in the vocabulary")
                }
                return id
            }
            result.append(.init(left: try find(left), right: try find(right), result: try find(left + right)))
        }
        return MergeTable(result)
    }

    /// The halves of a merge: `"a b"`, or `["a", "b"]` since halves may hold spaces.
    private func pair(_ element: JSONValue, _ index: Int) throws(TokenizerError) -> ([UInt8], [UInt8]) {
        if let text = element.stringValue {
            let parts = text.utf8.split(separator: 0x20, omittingEmptySubsequences: false)
            if parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty { return (Array(parts[0]), Array(parts[1])) }
        } else if element.arrayValue?.count == 2, let left = element[0]?.stringValue,
            let right = element[1]?.stringValue, !left.utf8.isEmpty, !right.utf8.isEmpty
        {
            return (Array(left.utf8), Array(right.utf8))
        }
        throw damaged("model.merges[\(index)] is \(element.text()), expected two tokens")
    }

    // MARK: - Normaliser and pre-tokenizer

    func normalizer(_ value: JSONValue) throws(TokenizerError) -> TextNormalizer {
        switch value["type"]?.stringValue {
        case nil where value.isNull: return .none
        case "NFC": return .nfc
        case "Sequence":
            var result = TextNormalizer.none
            for step in value["normalizers"]?.arrayValue ?? [] {
                if try normalizer(step) == .nfc { result = .nfc }
            }
            return result
        default: throw unsupported("normalizer", value.text(), "none, NFC")
        }
    }

    /// The pre-tokenizers that are applied one after the other.
    private func steps(_ value: JSONValue) -> [JSONValue] {
        if value.isNull { return [] }
        guard value["type"]?.stringValue == "Sequence" else { return [value] }
        return (value["pretokenizers"]?.arrayValue ?? []).flatMap { steps($0) }
    }

    func preTokenizer(_ value: JSONValue) throws(TokenizerError) -> PreTokenizer {
        var result = PreTokenizer()
        let all = steps(value)
        for (index, step) in all.enumerated() {
            switch step["type"]?.stringValue {
            case "ByteLevel":
                guard index == all.count - 1 else {
                    throw unsupported("pre_tokenizer", value.text(), "ByteLevel as the last step")
                }
                if step["add_prefix_space"]?.boolValue ?? true { result.prefixSpaceStep = result.steps.count }
                if step["use_regex"]?.boolValue ?? true { result.steps.append(.gpt2) }
            case "Digits": result.steps.append(.digits(individual: step["individual_digits"]?.boolValue ?? false))
            case "Split": result.steps.append(try split(step))
            default:
                throw unsupported(
                    "pre_tokenizer", step["type"]?.stringValue ?? step.text(), "ByteLevel, Split, Digits, Sequence")
            }
        }
        return result
    }

    private func split(_ step: JSONValue) throws(TokenizerError) -> WordSplitter {
        let expression = step["pattern"]?["Regex"]?.stringValue
        guard let expression, let splitter = Self.expressions.first(where: { $0.text == expression })?.splitter else {
            throw unsupported(
                "the expression of a Split pre-tokenizer", expression ?? step["pattern"]?.text() ?? "none",
                "those of GPT-2, Llama 3 and Qwen2")
        }
        // The expressions leave no gaps, so to remove what is between the matches is to isolate them.
        switch (step["behavior"]?.stringValue, step["invert"]?.boolValue ?? false) {
        case ("Isolated", _), ("Removed", true): return splitter
        case (let behavior, let invert):
            throw unsupported(
                "the behaviour of a Split pre-tokenizer", "\(behavior ?? "none")\(invert ? ", inverted" : "")",
                "Isolated")
        }
    }

    /// Published spellings of the known expressions. `?+` and `++` take as much as they can and give nothing back,
    /// which makes no difference here: what follows them could not use what they would give back.
    private static let expressions: [(text: String, splitter: WordSplitter)] = {
        let gpt2 = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
        func llama3(_ number: String) -> [String] {
            let tails = [
                #"|[^\r\n\p{L}\p{N}]?\p{L}+|\#(number)| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#,
                #"|[^\r\n\p{L}\p{N}]?+\p{L}+|\#(number)| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"#,
                #"|[^\r\n\p{L}\p{N}]?+\p{L}+|\#(number)| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#,
            ]
            let heads = ["(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)"]
            return heads.flatMap { head in tails.map { head + $0 } }
        }
        return [(gpt2, .gpt2)] + llama3(#"\p{N}{1,3}"#).map { ($0, .llama3(digits: 3)) }
            + llama3(#"\p{N}"#).map { ($0, .llama3(digits: 1)) }
    }()

    // MARK: - Added tokens and template

    func addedTokens(_ root: JSONValue) throws(TokenizerError) -> [(spelling: String, token: AddedToken)] {
        var result: [(spelling: String, token: AddedToken)] = []
        for (index, value) in (root["added_tokens"]?.arrayValue ?? []).enumerated() {
            guard let spelling = value["content"]?.stringValue, !spelling.utf8.isEmpty else {
                throw damaged("added_tokens[\(index)] has no content")
            }
            func flag(_ name: String) -> Bool { value[name]?.boolValue ?? false }
            var token = AddedToken(id: try id(value["id"], of: spelling), content: Array(spelling.utf8))
            token.isSingleWord = flag("single_word")
            token.stripsLeft = flag("lstrip")
            token.stripsRight = flag("rstrip")
            token.isSpecial = flag("special")
            token.isNormalized = value["normalized"]?.boolValue ?? !token.isSpecial
            result.append((spelling, token))
        }
        return result
    }

    /// The ids that a template puts before and after a single text.
    func template(
        _ value: JSONValue, isKnown: (UInt32) -> Bool
    ) throws(TokenizerError) -> (prefix: [UInt32], suffix: [UInt32]) {
        switch value["type"]?.stringValue {
        case nil where value.isNull: return ([], [])
        // Shifts offsets only.
        case "ByteLevel": return ([], [])
        case "Sequence":
            var result: (prefix: [UInt32], suffix: [UInt32]) = ([], [])
            for step in value["processors"]?.arrayValue ?? [] {
                let (prefix, suffix) = try template(step, isKnown: isKnown)
                result = (prefix + result.prefix, result.suffix + suffix)
            }
            return result
        case "TemplateProcessing": return try single(value, isKnown: isKnown)
        case "RobertaProcessing", "BertProcessing":
            return (
                [try ending(value, "cls", isKnown: isKnown)], [try ending(value, "sep", isKnown: isKnown)]
            )
        default:
            throw unsupported(
                "post_processor", value["type"]?.stringValue ?? value.text(),
                "TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel, Sequence")
        }
    }

    /// The id of `["<s>", 0]`.
    private func ending(
        _ processor: JSONValue, _ key: String, isKnown: (UInt32) -> Bool
    ) throws(TokenizerError) -> UInt32 {
        guard let spelling = processor[key]?[0]?.stringValue else {
            throw damaged(
                "post_processor.\(key) is \(processor[key]?.text() ?? "missing"), expected a token and its id")
        }
        let id = try id(processor[key]?[1], of: spelling)
        guard isKnown(id) else { throw damaged("post_processor: \(quoted(spelling)) has the unknown id \(id)") }
        return id
    }

    private func single(
        _ template: JSONValue, isKnown: (UInt32) -> Bool
    ) throws(TokenizerError) -> (prefix: [UInt32], suffix: [UInt32]) {
        var prefix: [UInt32] = []
        var suffix: [UInt32] = []
        var hasText = false
        for part in template["single"]?.arrayValue ?? [] {
            if part["Sequence"] != nil {
                guard !hasText else { throw damaged("post_processor.single holds the text twice") }
                hasText = true
            } else if let name = part["SpecialToken"]?["id"]?.stringValue {
                guard let values = template["special_tokens"]?[name]?["ids"]?.arrayValue, !values.isEmpty else {
                    throw damaged("post_processor has no ids for \(quoted(name))")
                }
                for value in values {
                    let id = try id(value, of: name)
                    guard isKnown(id) else { throw damaged("post_processor: \(quoted(name)) has the unknown id \(id)") }
                    if hasText { suffix.append(id) } else { prefix.append(id) }
                }
            } else {
                throw damaged("post_processor.single holds \(part.text()), expected Sequence or SpecialToken")
            }
        }
        guard hasText else { throw damaged("post_processor.single holds no text") }
        return (prefix, suffix)
    }
}
