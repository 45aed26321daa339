// The standard library has canonical composition for its own string comparison; under this name it is not API, but it
// is the one implementation that needs neither Foundation's start-up time nor tables of our own.
@_spi(_Unicode) import Swift

/// What is done to a text before it is cut into words.
enum TextNormalizer: Equatable, Sendable {
    case none
    /// Canonical composition, Unicode normalisation form C.
    case nfc

    /// The normalised text, or `nil` if `text` is normalised already. Under `nfc`, invalid UTF-8 becomes U+FFFD.
    func normalize(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        // Characters below U+0300, the first combining mark, are alike in both forms.
        guard self == .nfc, text.contains(where: { $0 >= 0xCC }) else { return nil }
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        for scalar in String(decoding: text, as: UTF8.self)._nfc { result.append(contentsOf: UTF8.encode(scalar)!) }
        return result
    }
}
