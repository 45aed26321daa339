import Checkpoints
import JSON

/// What a `tokenizer.json` says, checked and ready for use.
struct TokenizerDefinition: Sendable {
    private(set) var model: BytePairModel
    let preTokenizer: PreTokenizer
    let normalizer: TextNormalizer
    private(set) var addedTokens: [AddedToken] = []
    private(set) var prefixIDs: [UInt32] = []
    private(set) var suffixIDs: [UInt32] = []
    private(set) var bosID: UInt32?
    private(set) var eosID: UInt32?
    private(set) var endIDs: [UInt32] = []

    /// The bytes of all tokens end to end, and where each id's are in it.
    private var pieceBytes: [UInt8] = []
    private var pieceRanges: [(start: UInt32, count: UInt32)] = []

    var vocabularySize: Int { pieceRanges.count }

    /// The bytes that an id stands for: none if there is no such id.
    func piece(_ id: UInt32) -> ArraySlice<UInt8> {
        guard id < pieceRanges.count else { return [] }
        let (start, count) = pieceRanges[Int(id)]
        return pieceBytes[Int(start)..<Int(start + count)]
    }

    init(
        _ text: [UInt8], settings: TokenizerSettings = TokenizerSettings(), path: String
    ) throws(TokenizerError) {
        let root: JSONValue
        do throws(JSONError) {
            root = try JSONValue(parsing: text)
        } catch {
            throw .unreadable(path: path, reason: "not JSON: \(error)")
        }
        let reader = TokenizerReader(path: path)
        // Before anything about the vocabulary: of an unsuitable tokenizer people should learn that it is one.
        let modelObject = try reader.byteLevelModel(root)
        normalizer = try reader.normalizer(root["normalizer"] ?? .null)
        preTokenizer = try reader.preTokenizer(root["pre_tokenizer"] ?? .null)

        let vocabulary = try reader.vocabulary(modelObject)
        let merges = try reader.merges(modelObject, vocabulary.ids)
        var symbols = [UInt32?](repeating: nil, count: 256)
        for byte in 0..<256 { symbols[byte] = vocabulary.ids.find(ByteAlphabet.spelling(of: UInt8(byte))) }
        guard symbols.contains(where: { $0 != nil }) else {
            throw reader.damaged("the vocabulary has no token for any single byte")
        }
        model = BytePairModel(symbols: symbols, merges: merges)
        model.fusesUnknown = modelObject["fuse_unk"]?.boolValue ?? false
        if let unknown = modelObject["unk_token"]?.stringValue {
            // One that is not there is missed by a text with a byte that is not there, and by no other.
            model.unknown = vocabulary.ids.find(Array(unknown.utf8))
            if model.unknown == nil { model.missingUnknown = unknown }
        }

        var pieces = vocabulary.members.map { member in
            var bytes: [UInt8] = []
            ByteAlphabet.decode(member.spelling, into: &bytes)
            return (id: member.id, bytes: bytes)
        }
        if modelObject["ignore_merges"]?.boolValue ?? false {
            var wholeWords = ByteStringTable(capacity: pieces.count)
            for piece in pieces { _ = wholeWords.insert(piece.bytes, value: piece.id) }
            model.wholeWords = wholeWords
        }
        try addTokens(root, vocabulary, reader, &pieces)
        arrange(pieces)
        let template = try reader.template(root["post_processor"] ?? .null) { id in id < vocabularySize }
        prefixIDs = template.prefix
        suffixIDs = template.suffix
        func known(_ token: String?) -> UInt32? {
            token.flatMap { spelling in
                addedTokens.first { $0.content.elementsEqual(spelling.utf8) }?.id
                    ?? vocabulary.ids.find(Array(spelling.utf8))
            }
        }
        let begins = specials(named: ["<|begin_of_text|>", "<s>", "<bos>", "<|startoftext|>"])
        let ends = specials(named: ["<|end_of_text|>", "</s>", "<eos>", "<|endoftext|>"])
        bosID = known(settings.bosToken) ?? prefixIDs.first ?? begins.first
        eosID = known(settings.eosToken) ?? suffixIDs.last ?? ends.first
        endIDs = (eosID.map { [$0] } ?? []) + ends.filter { $0 != eosID }
        switch settings.addsBOS {
        case true? where prefixIDs.isEmpty: prefixIDs = bosID.map { [$0] } ?? []
        case false?: prefixIDs = []
        default: break
        }
    }

    private mutating func addTokens(
        _ root: JSONValue, _ vocabulary: Vocabulary, _ reader: TokenizerReader,
        _ pieces: inout [(id: UInt32, bytes: [UInt8])]
    ) throws(TokenizerError) {
        var owners = [UInt32: String]()
        for token in try reader.addedTokens(root) {
            let spelling = Array(token.spelling.utf8)
            if let id = vocabulary.ids.find(spelling), id != token.token.id {
                throw reader.damaged(
                    "added token \(quoted(token.spelling)) has id \(token.token.id), but \(id) in the vocabulary")
            }
            if let owner = owners.updateValue(token.spelling, forKey: token.token.id) {
                throw reader.damaged(
                    "added tokens \(quoted(owner)) and \(quoted(token.spelling)) have the same id \(token.token.id)")
            }
            var added = token.token
            if added.isNormalized {
                added.content = added.content.withUnsafeBufferPointer { normalizer.normalize($0) } ?? added.content
            }
            addedTokens.append(added)
            pieces.append((added.id, spelling))
        }
    }

    /// Lays the pieces out by id; a later one for the same id – an added token – replaces the earlier.
    private mutating func arrange(_ pieces: [(id: UInt32, bytes: [UInt8])]) {
        pieceRanges = Array(repeating: (0, 0), count: Int(pieces.lazy.map(\.id).max() ?? 0) + 1)
        for piece in pieces {
            pieceRanges[Int(piece.id)] = (UInt32(pieceBytes.count), UInt32(piece.bytes.count))
            pieceBytes.append(contentsOf: piece.bytes)
        }
    }

    private func specials(named names: [String]) -> [UInt32] {
        names.compactMap { name in
            addedTokens.first { $0.isSpecial && $0.content.elementsEqual(name.utf8) }?.id
        }
    }
}

/// A vocabulary as the file spells it.
struct Vocabulary {
    var members: [(spelling: String, id: UInt32)]
    /// From the UTF-8 of the spelling to the id.
    var ids: ByteStringTable
}

/// A name from a file, as error messages show it.
func quoted(_ name: String) -> String { "\"\(name)\"" }
