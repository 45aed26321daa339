import CSentencePiece
import Checkpoints
import Glibc
import Synchronization

/// A sentencepiece model (`tokenizer.model`) run by libsentencepiece, as Llama 1 and 2 and Mistral use it.
///
/// Yields the ids that the library yields. Invalid UTF-8 in a text becomes U+FFFD.
public final class SentencePieceTokenizer: Tokenizer, @unchecked Sendable {
    public let vocabularySize: Int
    public let bosID: UInt32?
    public let eosID: UInt32?
    public let prefixIDs: [UInt32]
    public var suffixIDs: [UInt32] { [] }
    public var endIDs: [UInt32] { eosID.map { [$0] } ?? [] }

    /// Never changed after `init`; the library's encoding and decoding are const.
    private let model: OpaquePointer
    let splitsAtSpaces: Bool
    /// What an encoding takes and puts back when it is done; two at a time each have one.
    private let spareCache = Mutex<WordCache?>(nil)

    /// Loads a serialised model.
    ///
    /// - Parameters:
    ///   - model: the bytes of the `tokenizer.model`.
    ///   - settings: what is said about it elsewhere. Without a word about it a text gets the BOS in front, as Llama and
    ///     Mistral have it.
    ///   - path: where it came from, for error messages.
    /// - Throws: `TokenizerError.unreadable` with the library's reason if it is no sentencepiece model.
    public init(
        model bytes: [UInt8], settings: TokenizerSettings = TokenizerSettings(), path: String
    ) throws(TokenizerError) {
        // The library takes an empty message for a model without a normaliser and goes on.
        guard !bytes.isEmpty else { throw .unreadable(path: path, reason: "the sentencepiece model is empty") }
        var reason: UnsafeMutablePointer<CChar>?
        let loaded = bytes.withUnsafeBytes { csentencepiece_load($0.baseAddress, $0.count, &reason) }
        guard let loaded else {
            throw .unreadable(path: path, reason: "no sentencepiece model: \(Self.take(reason))")
        }
        guard csentencepiece_piece_count(loaded) > 0 else {
            csentencepiece_free(loaded)
            throw .unreadable(path: path, reason: "the sentencepiece model has no pieces")
        }
        model = loaded
        splitsAtSpaces = SentencePieceModel(bytes).splitsAtSpaces
        vocabularySize = Int(csentencepiece_piece_count(loaded))
        bosID = UInt32(exactly: csentencepiece_bos(loaded))
        eosID = UInt32(exactly: csentencepiece_eos(loaded))
        prefixIDs = settings.addsBOS == false ? [] : bosID.map { [$0] } ?? []
    }

    deinit { csentencepiece_free(model) }

    /// With `addSpecialTokens`, begins with `prefixIDs`; nothing is added at the end.
    public func encode(
        utf8 text: UnsafeBufferPointer<UInt8>, addSpecialTokens: Bool
    ) throws(TokenizerError) -> [UInt32] {
        var result: [UInt32] = []
        result.reserveCapacity(text.count / 3 + 16)
        if addSpecialTokens { result.append(contentsOf: prefixIDs) }
        if splitsAtSpaces {
            try encodeWords(text, into: &result)
        } else {
            try encodeWhole(text, into: &result)
        }
        return result
    }

    /// Cuts the text where `SentencePieceModel.splitsAtSpaces` allows, and remembers the words.
    private func encodeWords(
        _ text: UnsafeBufferPointer<UInt8>, into result: inout [UInt32]
    ) throws(TokenizerError) {
        guard let bytes = text.baseAddress else { return }
        var cache =
            spareCache.withLock { cache in
                defer { cache = nil }
                return cache
            } ?? WordCache()
        var start = 0
        while start < text.count {
            var end = start + 1
            while end < text.count {
                let isBetweenWords =
                    bytes[end] == 0x20 && isSolid(bytes[end - 1]) && end + 1 < text.count
                    && isSolid(bytes[end + 1])
                if isBetweenWords { break }
                end += 1
            }
            let word = UnsafeBufferPointer(start: bytes + start, count: end - start)
            // The space goes: the library puts one in front of every text.
            start = end + 1
            guard word.count <= WordCache.longestWord else {
                try encodeWhole(word, into: &result)
                continue
            }
            let hash = ByteStringTable.hash(word.baseAddress!, word.count)
            if cache.append(word.baseAddress!, word.count, hash: hash, to: &result) { continue }
            let before = result.count
            try encodeWhole(word, into: &result)
            cache.insert(word.baseAddress!, word.count, hash: hash, result[before...])
        }
        let used = cache
        spareCache.withLock { $0 = used }
    }

    /// Lets the library encode a text in one go.
    func encodeWhole(_ text: UnsafeBufferPointer<UInt8>, into result: inout [UInt32]) throws(TokenizerError) {
        // Places in a text are 32-bit numbers inside the library, and a character may become several symbols.
        guard text.count < Int32.max / 4 else {
            throw .encodingFailed(
                reason: "it has \(text.count) bytes without a place to cut; sentencepiece takes 512 MiB at once")
        }
        var ids: UnsafeMutablePointer<UInt32>?
        var count = 0
        var reason: UnsafeMutablePointer<CChar>?
        let status = text.withMemoryRebound(to: CChar.self) { characters in
            withUnsafePointer(to: CChar(0)) { empty in
                csentencepiece_encode(
                    model, characters.baseAddress ?? empty, characters.count, &ids, &count, &reason)
            }
        }
        guard status == 0, let ids else { throw .encodingFailed(reason: "sentencepiece: \(Self.take(reason))") }
        defer { free(ids) }
        result.append(contentsOf: UnsafeBufferPointer(start: ids, count: count))
    }

    public func decodeBytes(_ ids: [UInt32]) -> [UInt8] {
        let known = ids.filter { $0 < vocabularySize }
        var bytes: UnsafeMutablePointer<CChar>?
        var count = 0
        var reason: UnsafeMutablePointer<CChar>?
        let status = known.withUnsafeBufferPointer {
            csentencepiece_decode(model, $0.baseAddress, $0.count, &bytes, &count, &reason)
        }
        // Ids in range always decode; if the library runs out of memory there is nothing to say.
        guard status == 0, let bytes else {
            free(reason)
            return []
        }
        defer { free(bytes) }
        return Array(UnsafeRawBufferPointer(start: bytes, count: count))
    }

    /// The text of an error, which is freed.
    private static func take(_ text: UnsafeMutablePointer<CChar>?) -> String {
        guard let text else { return "out of memory" }
        defer { free(text) }
        return String(cString: text)
    }
}

/// A character other than a space whose one byte says all about it.
@inline(__always) private func isSolid(_ byte: UInt8) -> Bool { byte < 0x80 && byte != 0x20 }
