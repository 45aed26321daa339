import Checkpoints

/// Text to token ids and back.
///
/// A tokenizer is immutable to its users and may be shared between threads.
public protocol Tokenizer: Sendable {
    /// One more than the largest id that `encode` can return: the least number of rows of an embedding.
    var vocabularySize: Int { get }

    /// The id that starts a text, if the tokenizer names one. A model's config.json, where there is one, knows better.
    var bosID: UInt32? { get }

    /// The id that ends a text, if the tokenizer names one. A model's config.json, where there is one, knows better.
    var eosID: UInt32? { get }

    /// All ids by which the tokenizer has a text end: `eosID` first, and what is known by its name.
    var endIDs: [UInt32] { get }

    /// The ids that the tokenizer's author puts in front of every text: usually the BOS, or nothing.
    var prefixIDs: [UInt32] { get }

    /// The ids that the tokenizer's author puts behind every text: usually nothing.
    var suffixIDs: [UInt32] { get }

    /// The ids of a text given as UTF-8.
    ///
    /// - Parameters:
    ///   - text: UTF-8; NUL is a character like any other, and invalid bytes do no harm (each kind says what it makes
    ///     of them).
    ///   - addSpecialTokens: whether the ids that the tokenizer's author puts around a text – begin, end – are added.
    ///     Special tokens spelled out inside `text` become their ids either way, except in sentencepiece models.
    /// - Throws: `TokenizerError.encodingFailed` if the text is too large.
    func encode(utf8 text: UnsafeBufferPointer<UInt8>, addSpecialTokens: Bool) throws(TokenizerError) -> [UInt32]

    /// The bytes that the ids stand for. They may end in the middle of a character; ids that the tokenizer does not
    /// know (the padding of an embedding) stand for nothing.
    func decodeBytes(_ ids: [UInt32]) -> [UInt8]
}

extension Tokenizer {
    /// The ids of a text; by default without begin and end tokens.
    ///
    /// - Throws: `TokenizerError.encodingFailed` if the text is too large.
    public func encode(_ text: String, addSpecialTokens: Bool = false) throws(TokenizerError) -> [UInt32] {
        var text = text
        let result: Result<[UInt32], TokenizerError> = text.withUTF8 { bytes in
            do throws(TokenizerError) {
                return .success(try encode(utf8: bytes, addSpecialTokens: addSpecialTokens))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// The ids of a text given as UTF-8 bytes; by default without begin and end tokens.
    ///
    /// - Throws: `TokenizerError.encodingFailed` if the text is too large.
    public func encode(_ text: [UInt8], addSpecialTokens: Bool = false) throws(TokenizerError) -> [UInt32] {
        let result: Result<[UInt32], TokenizerError> = text.withUnsafeBufferPointer { bytes in
            do throws(TokenizerError) {
                return .success(try encode(utf8: bytes, addSpecialTokens: addSpecialTokens))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// The text that the ids stand for; bytes that are no UTF-8 become U+FFFD.
    public func decode(_ ids: [UInt32]) -> String {
        String(decoding: decodeBytes(ids), as: UTF8.self)
    }
}

/// The tokenizer that travels with a checkpoint.
///
/// - Parameters:
///   - blob: what the checkpoint carries.
///   - path: where it came from, for error messages.
/// - Throws: `TokenizerError`.
public func makeTokenizer(from blob: TokenizerBlob, path: String) throws(TokenizerError) -> any Tokenizer {
    switch blob.content {
    case .tokenizerJSON(let bytes):
        try ByteLevelBPETokenizer(tokenizerJSON: bytes, settings: blob.settings, path: path)
    case .sentencepiece(let bytes): try SentencePieceTokenizer(model: bytes, settings: blob.settings, path: path)
    }
}
