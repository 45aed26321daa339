import Glibc

/// What the bytes of a text are: UTF-8, or what they look like instead.
struct TextEncoding {
    /// The first byte that is not UTF-8, or that shows that the text is something else.
    struct Fault {
        let offset: Int
        /// What is there, and what the text looks like.
        let description: String
    }

    /// UTF-8's mark for the order of bytes, which UTF-8 does not need.
    static let mark: [UInt8] = [0xEF, 0xBB, 0xBF]

    /// What is wrong with a text; nil for UTF-8.
    ///
    /// UTF-16 and UTF-32 of ASCII characters are UTF-8 as well – with a NUL beside every letter –, so that texts with control
    /// characters in them are looked at more closely.
    static func fault(in bytes: UnsafeBufferPointer<UInt8>) -> Fault? {
        guard let base = bytes.baseAddress else { return nil }
        let invalid = firstInvalid(base, bytes.count)
        let control = invalid ?? firstControl(base, bytes.count)
        guard let offset = invalid ?? control else { return nil }
        let wide = wideEncoding(bytes, isUTF8: invalid == nil)
        guard invalid != nil || wide != nil else { return nil }
        if let kind = fileKind(bytes) {
            return Fault(offset: offset, description: "not UTF-8 text: it looks like \(kind)")
        }
        let hex = bytes[offset..<min(offset + 4, bytes.count)].map { byte in
            (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }
        let found = "bytes \(hex.joined(separator: " "))"
        guard let wide else {
            return Fault(
                offset: offset,
                description: offset + 4 > bytes.count && isCut(base + offset, bytes.count - offset)
                    ? "\(found): not UTF-8: the text ends within a character"
                    : "\(found): not UTF-8: it looks like \(narrowEncoding(bytes, offset))")
        }
        return Fault(
            offset: offset,
            description: "\(found): not UTF-8: it looks like \(wide.name); convert it, for example with "
                + "iconv -f \(wide.code) -t UTF-8")
    }

    /// The place of a byte as people look for it.
    static func place(_ offset: Int, in bytes: UnsafeBufferPointer<UInt8>) -> String {
        let before = bytes[..<offset]
        let line = before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
        // Bytes that begin a character.
        let column = before[line...].count { $0 & 0xC0 != 0x80 } + 1
        return "byte \(offset) (line \(before.count { $0 == 0x0A } + 1), column \(column))"
    }

    // MARK: - Bytes

    /// The first byte of the first sequence that is not UTF-8.
    private static func firstInvalid(_ text: UnsafePointer<UInt8>, _ count: Int) -> Int? {
        var index = 0
        while index < count {
            while index + 8 <= count,
                UnsafeRawPointer(text + index).loadUnaligned(as: UInt64.self) & 0x8080_8080_8080_8080 == 0
            {
                index += 8
            }
            guard index < count else { break }
            let length = sequenceLength(text + index, count - index)
            guard length > 0 else { return index }
            index += length
        }
        return nil
    }

    /// The length of the sequence at the start, 0 if it is not UTF-8.
    private static func sequenceLength(_ text: UnsafePointer<UInt8>, _ count: Int) -> Int {
        let first = text[0]
        if first < 0x80 { return 1 }
        let length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
        guard (0xC2...0xF4).contains(first), length <= count, (1..<length).allSatisfy({ text[$0] & 0xC0 == 0x80 })
        else {
            return 0
        }
        // Neither longer than need be, nor half of a pair, nor beyond U+10FFFF.
        switch first {
        case 0xE0: return text[1] >= 0xA0 ? length : 0
        case 0xED: return text[1] < 0xA0 ? length : 0
        case 0xF0: return text[1] >= 0x90 ? length : 0
        case 0xF4: return text[1] < 0x90 ? length : 0
        default: return length
        }
    }

    /// Whether the bytes at the end of a text are the beginning of a character.
    private static func isCut(_ text: UnsafePointer<UInt8>, _ count: Int) -> Bool {
        let length = text[0] < 0xE0 ? 2 : text[0] < 0xF0 ? 3 : 4
        return (0xC2...0xF4).contains(text[0]) && count < length && (1..<count).allSatisfy { text[$0] & 0xC0 == 0x80 }
    }

    /// The first NUL, or other control character among the first ones, that no text needs.
    private static func firstControl(_ text: UnsafePointer<UInt8>, _ count: Int) -> Int? {
        let early = (0..<min(count, sample)).first { isControl(text[$0]) }
        return early ?? memchr(text, 0, count).map { UnsafeRawPointer($0) - UnsafeRawPointer(text) }
    }

    private static func isControl(_ byte: UInt8) -> Bool { byte < 0x20 && !(8...13).contains(byte) && byte != 0x1B }

    /// How much of a text is looked at to guess what it is.
    private static let sample = 1 << 16

    // MARK: - What else it could be

    /// UTF-16 or UTF-32, by a mark at the start or by where control characters – the high halves of characters below
    /// U+0800 – stand: of a text that is UTF-8 as well, nearly all of them must.
    private static func wideEncoding(
        _ bytes: UnsafeBufferPointer<UInt8>, isUTF8: Bool
    ) -> (name: String, code: String)? {
        let marks: [([UInt8], String, String)] = [
            ([0xFF, 0xFE, 0, 0], "UTF-32 in little-endian order", "UTF-32"),
            ([0, 0, 0xFE, 0xFF], "UTF-32 in big-endian order", "UTF-32"),
            ([0xFF, 0xFE], "UTF-16 in little-endian order", "UTF-16"),
            ([0xFE, 0xFF], "UTF-16 in big-endian order", "UTF-16"),
        ]
        for (mark, name, code) in marks where bytes.starts(with: mark) { return ("\(name), with its mark", code) }
        let part = bytes.prefix(sample / 4 * 4)
        guard part.count >= 2 else { return nil }
        var nulls = [0, 0, 0, 0]
        var controls = [0, 0, 0, 0]
        for (index, byte) in part.enumerated() {
            if byte == 0 { nulls[index % 4] += 1 }
            if isControl(byte) { controls[index % 4] += 1 }
        }
        let quarter = Double(part.count / 4)
        if part.count >= 8 {
            if Double(nulls[3]) > 0.9 * quarter, Double(controls[2]) > 0.9 * quarter {
                return ("UTF-32 in little-endian order", "UTF-32LE")
            }
            if Double(nulls[0]) > 0.9 * quarter, Double(controls[1]) > 0.9 * quarter {
                return ("UTF-32 in big-endian order", "UTF-32BE")
            }
        }
        let half = Double(part.count / 2)
        func isHigh(_ controls: Int, _ nulls: Int, besides others: Int) -> Bool {
            // Spaces and ends of lines have a high half of 0 in every script.
            let isEnough = isUTF8 ? Double(controls) > 0.9 * half : Double(controls) > 0.05 * half && nulls > 0
            return isEnough && others * 4 <= controls
        }
        let (even, odd) = (controls[0] + controls[2], controls[1] + controls[3])
        if isHigh(odd, nulls[1] + nulls[3], besides: even) { return ("UTF-16 in little-endian order", "UTF-16LE") }
        if isHigh(even, nulls[0] + nulls[2], besides: odd) { return ("UTF-16 in big-endian order", "UTF-16BE") }
        return nil
    }

    /// A guess for a text in which single bytes are not UTF-8.
    private static func narrowEncoding(_ bytes: UnsafeBufferPointer<UInt8>, _ offset: Int) -> String {
        let part = bytes.prefix(sample)
        let high = part.count { $0 >= 0x80 }
        if bytes[..<offset].contains(where: { $0 >= 0x80 }) { return "UTF-8 that was damaged there" }
        return high * 3 <= part.count
            ? "Latin-1, Windows-1252 or another encoding of one byte a character; convert it, for example with "
                + "iconv -f WINDOWS-1252 -t UTF-8"
            : "another encoding, or no text"
    }

    /// Files that are no text, by how they begin.
    private static func fileKind(_ bytes: UnsafeBufferPointer<UInt8>) -> String? {
        let kinds: [([UInt8], String)] = [
            ([0x93] + "NUMPY".utf8, "a NumPy file; token ids are given with --tokens"),
            ([0x89] + "HDF".utf8, "an HDF5 file; token ids are given with --tokens FILE.h5:/DATASET"),
            ([0x1F, 0x8B], "data compressed by gzip; unpack it"),
            ([0x28, 0xB5, 0x2F, 0xFD], "data compressed by zstd; unpack it"),
            ([0xFD] + "7zXZ".utf8, "data compressed by xz; unpack it"),
            (Array("BZh".utf8), "data compressed by bzip2; unpack it"),
            (Array("PK\u{3}\u{4}".utf8), "a ZIP archive; unpack it"),
            (Array("PAR1".utf8), "a Parquet file"),
            (Array("%PDF".utf8), "a PDF file"),
            (Array("GGUF".utf8), "a GGUF file"),
        ]
        return kinds.first { bytes.starts(with: $0.0) }?.1
    }
}
