import Files
import JSON

/// The tokenizer that a GGUF file's metadata describe.
struct GGUFTokenizer {
    /// Kinds of tokenizers that are read, `tokenizer.ggml.model`.
    static let models = ["gpt2", "llama"]

    private let reader: GGUFReader
    private let path: String

    init(_ reader: GGUFReader, path: String) {
        self.reader = reader
        self.path = path
    }

    /// Nil if there is none, or one of a kind that is not read.
    func blob() throws(CheckpointError) -> TokenizerBlob? {
        switch try reader.string("tokenizer.ggml.model") {
        case "gpt2": return try byteLevel()
        case "llama":
            return TokenizerBlob(
                .sentencepiece(try sentencepiece()),
                settings: TokenizerSettings(addsBOS: try reader.bool("tokenizer.ggml.add_bos_token")))
        default: return nil
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
            // 0 is what llama.cpp calls undefined, and takes for a token like others.
            let number = types.isEmpty || types[index] == 0 ? 1 : types[index]
            guard let type = SentencePieceModel.PieceType(rawValue: number) else {
                throw .invalid(
                    path: path, place: "tokenizer.ggml.token_type[\(index)]", found: "\(number)", expected: "0 to 6")
            }
            // A hole in the vocabulary, by the name that llama.cpp gives it.
            result.append((token.isEmpty ? "[EMPTY_\(index)]" : token, type))
        }
        return result
    }

    /// The id of a special token; nil for one that is no token of the vocabulary.
    private func special(_ name: String, count: Int) -> Int? {
        reader.specialIDs.first { $0.key == "tokenizer.ggml.\(name)_token_id" }?.id(below: count)
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
        // Some converters write all special tokens as control tokens, and which is the unknown one beside them.
        if !pieces.contains(where: { $0.type == .unknown }), let unknown = special("unknown", count: pieces.count) {
            pieces[unknown].type = .unknown
        }
        let model = SentencePieceModel(
            pieces: pieces, addsDummyPrefix: try reader.bool("tokenizer.ggml.add_space_prefix") ?? true,
            bos: special("bos", count: tokens.count), eos: special("eos", count: tokens.count),
            pad: special("padding", count: tokens.count))
        return try model.serialized(path: path)
    }

    // MARK: - Byte-level BPE

    private func byteLevel() throws(CheckpointError) -> TokenizerBlob {
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
        // The converters of before May 2024 wrote none, and later ones "default" for a tokenizer they did not know.
        let name = try reader.string("tokenizer.ggml.pre")
        let uncut = UncutVocabulary(
            ruleName: name, addedTokens: .array(added), vocabulary: .object(JSONObject(vocabulary)),
            merges: .array(merges.map { .string($0) }),
            ends: UncutVocabulary.Ends(
                addsBOS: try reader.bool("tokenizer.ggml.add_bos_token"),
                addsEOS: try reader.bool("tokenizer.ggml.add_eos_token"),
                bos: special("bos", count: tokens.count), eos: special("eos", count: tokens.count)))
        return .tokenizerJSON(uncut.tokenizerJSON(name.flatMap { PreTokenizerRule($0) }))
    }
}
