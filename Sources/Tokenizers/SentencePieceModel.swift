import Checkpoints

/// What a serialised sentencepiece model says about itself, as far as it tells whether a text may be cut.
///
/// The library merges the pairs of a whole text in one queue, which for a corpus is slow, and each word anew. Where no
/// piece and no rule reaches across the space between two words, the words' ids are independent of each other.
struct SentencePieceModel {
    /// Whether the ids of `a b` – a space between two ASCII characters that are no spaces – are those of `a` followed
    /// by those of `b`, where every text gets a space in front.
    ///
    /// True for byte pair encoding (merges are local; the best path of a unigram model is a sum over the whole text and
    /// rounds differently) without character rules, whose pieces have white space at their start only, and whose
    /// unknown characters are bytes (neighbouring unknown characters would become one).
    private(set) var splitsAtSpaces = false

    private static let bytePairEncoding: UInt64 = 2

    init(_ bytes: [UInt8]) {
        var isBytePair = false
        var fallsBackToBytes = false
        var spacesGoLast = false
        var hasRules = false
        var addsSpace = true
        var escapesSpaces = true
        var piecesStartWords = true
        ProtobufReader.forEachField(of: bytes) { message, field, value in
            switch (message, field, value) {
            case (1, 1, .bytes(let piece)): piecesStartWords = piecesStartWords && Self.startsWord(piece)
            case (2, 3, .integer(let kind)): isBytePair = kind == Self.bytePairEncoding
            case (2, 24, .integer(let flag)): spacesGoLast = flag != 0
            case (2, 35, .integer(let flag)): fallsBackToBytes = flag != 0
            case (3, 2, .bytes(let rules)): hasRules = !rules.isEmpty
            case (3, 3, .integer(let flag)): addsSpace = flag != 0
            case (3, 5, .integer(let flag)): escapesSpaces = flag != 0
            default: break
            }
        }
        splitsAtSpaces =
            isBytePair && fallsBackToBytes && !spacesGoLast && !hasRules && addsSpace && escapesSpaces
            && piecesStartWords
    }

    /// Whether the marks for white space (U+2581) in a piece are all at its start.
    private static func startsWord(_ piece: ArraySlice<UInt8>) -> Bool {
        let mark: [UInt8] = [0xE2, 0x96, 0x81]
        var rest = piece
        while rest.starts(with: mark) { rest = rest.dropFirst(3) }
        return !rest.contains(0x20) && !rest.indices.contains { rest[$0...].starts(with: mark) }
    }
}
