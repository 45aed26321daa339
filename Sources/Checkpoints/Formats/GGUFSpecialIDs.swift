/// The id of a special token as a GGUF file's metadata has it: `tokenizer.ggml.bos_token_id` and the like.
struct GGUFSpecialID {
    let key: String
    /// As it stands in the file.
    let found: String
    /// Nil for something else than a whole number that is not negative.
    private let number: Int?

    fileprivate init(key: String, value: GGUFValue) {
        self.key = key
        switch value {
        case .unsigned(let stored):
            // What is meant for "none" and was stored without its sign.
            let isMinusOne = stored == UInt64(UInt32.max) || stored == .max
            number = isMinusOne ? nil : Int(exactly: stored)
            found = isMinusOne ? "\(stored), which is -1 without its sign" : "\(stored)"
        case .signed(let stored):
            number = stored >= 0 ? Int(stored) : nil
            found = "\(stored)"
        default:
            number = nil
            found = "\(value)"
        }
    }

    /// The id if it is one of a vocabulary of so many tokens.
    func id(below count: Int) -> Int? { number.flatMap { $0 < count ? $0 : nil } }
}

extension GGUFReader {
    /// All ids of special tokens, in the order of the file.
    var specialIDs: [GGUFSpecialID] {
        scalars.filter { $0.key.hasPrefix("tokenizer.ggml.") && $0.key.hasSuffix("_token_id") }
            .map { GGUFSpecialID(key: $0.key, value: $0.value) }
    }

    /// Tokens of the vocabulary that the file carries, nil if it carries none.
    var vocabularyCount: Int? {
        guard case .array(let tokens) = self["tokenizer.ggml.tokens"] else { return nil }
        return tokens.count
    }
}
