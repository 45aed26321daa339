import CSentencePiece
import Glibc

/// A sentencepiece model (`tokenizer.model`) run by libsentencepiece, as Llama 1 and 2 and Mistral use it.
///
/// Yields the ids that the library yields. Invalid UTF-8 in a text becomes U+FFFD.
public final class SentencePieceTokenizer: Tokenizer, @unchecked Sendable {
    public let vocabularySize: Int
    public let bosID: UInt32?
    public let eosID: UInt32?

    /// Never changed after `init`; the library's encoding and decoding are const.
    private let model: OpaquePointer

    /// Loads a serialised model.
    ///
    /// - Parameters:
    ///   - model: the bytes of the `tokenizer.model`.
    ///   - path: where it came from, for error messages.
    /// - Throws: `TokenizerError.unreadable` with the library's reason if it is no sentencepiece model.
    public init(model bytes: [UInt8], path: String) throws(TokenizerError) {
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
        vocabularySize = Int(csentencepiece_piece_count(loaded))
        bosID = UInt32(exactly: csentencepiece_bos(loaded))
        eosID = UInt32(exactly: csentencepiece_eos(loaded))
    }

    deinit { csentencepiece_free(model) }

    /// With `addSpecialTokens`, begins with `bosID` as Llama and Mistral do; nothing is added at the end.
    public func encode(
        utf8 text: UnsafeBufferPointer<UInt8>, addSpecialTokens: Bool
    ) throws(TokenizerError) -> [UInt32] {
        // Places in a text are 32-bit numbers inside the library.
        guard text.count < Int32.max / 4 else {
            throw .encodingFailed(reason: "it has \(text.count) bytes; sentencepiece takes 512 MiB at once")
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
        var result: [UInt32] = []
        result.reserveCapacity(count + 1)
        if addSpecialTokens, let bosID { result.append(bosID) }
        result.append(contentsOf: UnsafeBufferPointer(start: ids, count: count))
        return result
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
