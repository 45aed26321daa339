/// The printable characters that byte-level vocabularies write for the 256 bytes: a byte that is a printable character
/// of Latin-1 stands for itself, the other 68 in their order are U+0100 and up.
enum ByteAlphabet {
    private static let isPrintable: [Bool] = (0..<256).map {
        (0x21...0x7E).contains($0) || (0xA1...0xAC).contains($0) || (0xAE...0xFF).contains($0)
    }

    /// The scalar values of the bytes.
    static let scalars: [UInt32] = {
        var next: UInt32 = 0x100
        return (0..<256).map { byte in
            if isPrintable[byte] { return UInt32(byte) }
            defer { next += 1 }
            return next
        }
    }()

    private static let bytes: [UInt8?] = {
        var result = [UInt8?](repeating: nil, count: 0x100 + 68)
        for (byte, scalar) in scalars.enumerated() { result[Int(scalar)] = UInt8(byte) }
        return result
    }()

    /// Appends the bytes that a vocabulary's spelling stands for. A spelling with any other character in it – an added
    /// token – stands for itself.
    static func decode(_ spelling: String, into output: inout [UInt8]) {
        let start = output.count
        for scalar in spelling.unicodeScalars {
            guard scalar.value < bytes.count, let byte = bytes[Int(scalar.value)] else {
                output.removeSubrange(start...)
                output.append(contentsOf: spelling.utf8)
                return
            }
            output.append(byte)
        }
    }

    /// The spelling of one byte, as UTF-8.
    static func spelling(of byte: UInt8) -> [UInt8] { Array(String(Unicode.Scalar(scalars[Int(byte)])!).utf8) }
}
