/// The tokenizer that a GGUF file's metadata describe.
struct GGUFTokenizer {
    private let reader: GGUFReader
    private let path: String

    init(_ reader: GGUFReader, path: String) {
        self.reader = reader
        self.path = path
    }

    func blob() throws(CheckpointError) -> TokenizerBlob? {
        guard let model = try reader.string("tokenizer.ggml.model") else { return nil }
        switch model {
        case "gpt2": return .tokenizerJSON(try byteLevel().serialized())
        case "llama":
            return TokenizerBlob(
                .sentencepiece(try sentencepiece()),
                settings: TokenizerSettings(addsBOS: try reader.bool("tokenizer.ggml.add_bos_token")))
        default:
            throw .invalid(
                path: path, place: "tokenizer.ggml.model", found: model, expected: "gpt2 (byte-level BPE) or llama")
        }
    }

    // MARK: - Vocabulary

    private func vocabulary() throws(CheckpointError) -> [(text: String, type: SentencePieceModel.PieceType)] {
        guard let tokens = try reader.strings("tokenizer.ggml.tokens"), !tokens.isEmpty else {
            throw .invalid(path: path, place: "tokenizer.ggml.tokens", found: "nothing", expected: "a vocabulary")
        }
        let types = try reader.integers("tokenizer.ggml.token_type")
        guard types.isEmpty || types.count == tokens.count else {
            throw .invalid(
                path: path, place: "tokenizer.ggml.token_type", found: "\(types.count) types",
                expected: "\(tokens.count), one for each token")
        }
        var result: [(text: String, type: SentencePieceModel.PieceType)] = []
        result.reserveCapacity(tokens.count)
        for (index, token) in tokens.enumerated() {
            let number = types.isEmpty ? 1 : types[index]
            guard let type = SentencePieceModel.PieceType(rawValue: number) else {
                throw .invalid(
                    path: path, place: "tokenizer.ggml.token_type[\(index)]", found: "\(number)", expected: "1 to 6")
            }
            result.append((token, type))
        }
        return result
    }

    private func special(_ name: String, count: Int) throws(CheckpointError) -> Int? {
        let key = "tokenizer.ggml.\(name)_token_id"
        guard let index = try reader.count(key) else { return nil }
        guard index < count else {
            throw .invalid(path: path, place: key, found: "\(index)", expected: "an index below \(count)")
        }
        return index
    }

    private func sentencepiece() throws(CheckpointError) -> [UInt8] {
        let tokens = try vocabulary()
        guard let scores = try reader.floats("tokenizer.ggml.scores"), scores.count == tokens.count else {
            throw .invalid(
                path: path, place: "tokenizer.ggml.scores", found: "another number of scores",
                expected: "\(tokens.count), one for each token")
        }
        var pieces: [SentencePieceModel.Piece] = []
        for (token, score) in zip(tokens, scores) {
            // Pieces are matched in escaped text, but tokens that users defined are stored as they read.
            let text = token.type == .userDefined ? SentencePieceModel.escaped(token.text) : token.text
            pieces.append(.init(text: text, score: score, type: token.type))
        }
        let model = SentencePieceModel(
            pieces: pieces, addsDummyPrefix: try reader.bool("tokenizer.ggml.add_space_prefix") ?? true,
            bos: try special("bos", count: tokens.count), eos: try special("eos", count: tokens.count),
            pad: try special("padding", count: tokens.count))
        return try model.serialized(path: path)
    }

    // MARK: - Byte-level BPE

    /// The parts of tokenizer.json that depend on how a family splits text before merging.
    private struct Family {
        var normalizer: JSONValue = nil
        var preTokenizer: JSONValue
        var processor: JSONValue = nil
        var decoder = Family.byteLevel(prefix: true, trim: true, regex: true)
        var ignoresMerges = false
        var addsBOS = false

        static func byteLevel(prefix: Bool, trim: Bool, regex: Bool) -> JSONValue {
            [
                "type": "ByteLevel", "add_prefix_space": .bool(prefix), "trim_offsets": .bool(trim),
                "use_regex": .bool(regex),
            ]
        }

        private static func split(_ pattern: String, trim: Bool) -> JSONValue {
            [
                "type": "Sequence",
                "pretokenizers": [
                    ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false],
                    byteLevel(prefix: false, trim: trim, regex: false),
                ],
            ]
        }

        /// By `tokenizer.ggml.pre`; `nil` for one that is not known.
        init?(_ name: String) {
            switch name {
            case "default", "gpt-2":
                preTokenizer = Self.byteLevel(prefix: false, trim: true, regex: true)
            case "smollm":
                preTokenizer = [
                    "type": "Sequence",
                    "pretokenizers": [
                        ["type": "Digits", "individual_digits": true],
                        Self.byteLevel(prefix: false, trim: true, regex: true),
                    ],
                ]
            case "llama-bpe", "llama3", "llama-v3":
                preTokenizer = Self.split(Self.words(numbers: #"\p{N}{1,3}"#), trim: true)
                processor = Self.byteLevel(prefix: true, trim: false, regex: true)
                ignoresMerges = true
                addsBOS = true
            case "qwen2", "deepseek-r1-qwen":
                normalizer = ["type": "NFC"]
                preTokenizer = Self.split(Self.words(numbers: #"\p{N}"#), trim: false)
                processor = Self.byteLevel(prefix: false, trim: false, regex: false)
                decoder = processor
            default: return nil
            }
        }

        /// LLaMA 3 and Qwen 2 cut text alike but for the length of numbers.
        private static func words(numbers: String) -> String {
            #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + numbers
                + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
        }
    }

    private func byteLevel() throws(CheckpointError) -> JSONValue {
        let name = try reader.string("tokenizer.ggml.pre") ?? "default"
        guard let family = Family(name) else {
            throw .invalid(
                path: path, place: "tokenizer.ggml.pre", found: name,
                expected: "default, gpt-2, smollm, llama-bpe or qwen2; "
                    + "with another one, use the tokenizer.json of the original model")
        }
        let tokens = try vocabulary()
        guard let merges = try reader.strings("tokenizer.ggml.merges") else {
            throw .invalid(path: path, place: "tokenizer.ggml.merges", found: "nothing", expected: "the merges")
        }
        for (index, merge) in merges.enumerated() where merge.utf8.count(where: { $0 == 0x20 }) != 1 {
            throw .invalid(
                path: path, place: "tokenizer.ggml.merges[\(index)]", found: "\"\(merge)\"",
                expected: "two pieces and a space")
        }
        var seen: [[UInt8]: Int] = [:]
        var added: [JSONValue] = []
        for (index, token) in tokens.enumerated() {
            if let other = seen.updateValue(index, forKey: Array(token.text.utf8)) {
                throw .invalid(
                    path: path, place: "tokenizer.ggml.tokens[\(index)]",
                    found: "\"\(token.text)\", token \(other) again",
                    expected: "each token once")
            }
            guard [.control, .unknown, .userDefined].contains(token.type) else { continue }
            added.append([
                "id": .integer(index), "content": .string(token.text), "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": .bool(token.type != .userDefined),
            ])
        }
        let vocabulary = tokens.enumerated().map { (key: $1.text, value: JSONValue.integer($0)) }
        return [
            "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": .array(added),
            "normalizer": family.normalizer, "pre_tokenizer": family.preTokenizer,
            "post_processor": try processor(family, tokens: tokens.map(\.text)), "decoder": family.decoder,
            "model": [
                "type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
                "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": .bool(family.ignoresMerges), "vocab": .object(JSONObject(vocabulary)),
                "merges": .array(merges.map { .string($0) }),
            ],
        ]
    }

    /// What is put around the tokens of a text: those that the file says are added, or that the family adds by itself.
    private func processor(_ family: Family, tokens: [String]) throws(CheckpointError) -> JSONValue {
        let first = try reader.bool("tokenizer.ggml.add_bos_token") ?? family.addsBOS
        let last = try reader.bool("tokenizer.ggml.add_eos_token") ?? false
        let bos = first ? try special("bos", count: tokens.count) : nil
        let eos = last ? try special("eos", count: tokens.count) : nil
        guard bos != nil || eos != nil else { return family.processor }
        func item(_ index: Int?, _ segment: Int) -> [JSONValue] {
            index.map { [["SpecialToken": ["id": .string(tokens[$0]), "type_id": .integer(segment)]]] } ?? []
        }
        func text(_ name: String, _ segment: Int) -> [JSONValue] {
            item(bos, segment) + [["Sequence": ["id": .string(name), "type_id": .integer(segment)]]]
                + item(eos, segment)
        }
        var specials = JSONObject()
        for index in [bos, eos].compactMap({ $0 }) {
            let token = JSONValue.string(tokens[index])
            specials[tokens[index]] = ["id": token, "ids": [.integer(index)], "tokens": [token]]
        }
        let template: JSONValue = [
            "type": "TemplateProcessing", "single": .array(text("A", 0)), "pair": .array(text("A", 0) + text("B", 1)),
            "special_tokens": .object(specials),
        ]
        return family.processor.isNull ? template : ["type": "Sequence", "processors": [family.processor, template]]
    }
}
