/// What a serialised sentencepiece model says that programs want to be told beside it.
struct SentencePieceSummary {
    /// Whether a text gets a space in front.
    private(set) var addsDummyPrefix = true
    /// The special tokens that there are, as they are spelled, under the keys of a `tokenizer_config.json`.
    private(set) var specialTokens: [(key: String, token: String)] = []

    /// Reads as far as the model is intact.
    init(_ bytes: [UInt8]) {
        var pieces: [ArraySlice<UInt8>] = []
        // By the numbers of the fields; a model without them has the library's ids. −1 means none.
        var ids: [UInt64: Int] = [40: 0, 41: 1, 42: 2, 43: -1]
        var addsSpace = addsDummyPrefix
        ProtobufReader.forEachField(of: bytes) { message, field, value in
            switch (message, field, value) {
            case (1, 1, .bytes(let piece)): pieces.append(piece)
            case (2, 40...43, .integer(let id)): ids[field] = Int(truncatingIfNeeded: id)
            case (3, 3, .integer(let flag)): addsSpace = flag != 0
            default: break
            }
        }
        addsDummyPrefix = addsSpace
        for (field, key) in [(41, "bos_token"), (42, "eos_token"), (40, "unk_token"), (43, "pad_token")] {
            guard let id = ids[UInt64(field)], pieces.indices.contains(id) else { continue }
            specialTokens.append((key, String(decoding: pieces[id], as: UTF8.self)))
        }
    }
}
