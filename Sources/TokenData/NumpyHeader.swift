import Files

/// The description at the start of a `.npy` file: format versions 1.0 to 3.0.
struct NumpyHeader: Equatable {
    /// Element type as NumPy spells it, for example `<u4`: byte order, kind, bytes.
    var elementType: String
    var isFortranOrder: Bool
    /// Slowest extent first.
    var shape: [Int]
    /// Where the elements start.
    var dataOffset: Int

    private static let magic: [UInt8] = [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]

    /// Reads the header of a file whose first bytes (or all) are given.
    init(_ bytes: UnsafeRawBufferPointer, path: String) throws(CheckpointError) {
        guard bytes.count >= 10, bytes.prefix(6).elementsEqual(Self.magic) else {
            throw .unreadable(path: path, reason: "not an .npy file: it does not start with \\x93NUMPY")
        }
        let major = bytes[6]
        guard (1...3).contains(major) else {
            throw .invalid(
                path: path, place: "format version", found: "\(major).\(bytes[7])", expected: "1.0, 2.0 or 3.0")
        }
        let lengthBytes = major == 1 ? 2 : 4
        let start = 8 + lengthBytes
        var length = 0
        for index in (8..<start).reversed() { length = length << 8 | Int(bytes.count > index ? bytes[index] : 0) }
        guard bytes.count >= start, length <= bytes.count - start else {
            throw .unreadable(
                path: path,
                reason: "cut short: the .npy header needs \(start + length) bytes, the file has \(bytes.count)")
        }
        let text = Array(bytes[start..<start + length])
        var parser = LiteralParser(text)
        var members: [String: Literal] = [:]
        do throws(LiteralParser.Failure) {
            members = try parser.dictionary()
        } catch {
            throw .invalid(
                path: path, place: ".npy header, byte \(start + error.offset)",
                found: String(decoding: text.prefix(200), as: UTF8.self), expected: error.expected)
        }
        func missing(_ key: String, _ expected: String) -> CheckpointError {
            .invalid(
                path: path, place: ".npy header, \(key)", found: members[key].map { "\($0)" } ?? "nothing",
                expected: expected)
        }
        guard case .string(let descr)? = members["descr"] else { throw missing("descr", "a plain element type") }
        guard case .bool(let fortran)? = members["fortran_order"] else {
            throw missing("fortran_order", "True or False")
        }
        guard case .tuple(let extents)? = members["shape"] else { throw missing("shape", "a tuple of integers") }
        elementType = descr
        isFortranOrder = fortran
        shape = extents
        dataOffset = start + length
    }

    /// The bytes of a version 1.0 header, padded so that the elements start at a multiple of 64 bytes.
    static func bytes(elementType: String, shape: [Int]) -> [UInt8] {
        let extents = shape.map(String.init).joined(separator: ", ") + (shape.count == 1 ? "," : "")
        var text = "{'descr': '\(elementType)', 'fortran_order': False, 'shape': (\(extents)), }"
        let unpadded = 10 + text.utf8.count + 1
        text += String(repeating: " ", count: (64 - unpadded % 64) % 64) + "\n"
        return magic + [1, 0, UInt8(text.utf8.count & 0xFF), UInt8(text.utf8.count >> 8)] + Array(text.utf8)
    }
}

/// The Python literals that occur in a header.
private enum Literal: CustomStringConvertible {
    case string(String)
    case bool(Bool)
    case tuple([Int])
    /// A list: the fields of a structured type.
    case list

    var description: String {
        switch self {
        case .string(let text): "\"\(text)\""
        case .bool(let value): value ? "True" : "False"
        case .tuple(let extents): "\(extents)"
        case .list: "a list"
        }
    }
}

private struct LiteralParser {
    struct Failure: Error {
        var offset: Int
        var expected: String
    }

    private let text: [UInt8]
    private var position = 0

    init(_ text: [UInt8]) { self.text = text }

    mutating func dictionary() throws(Failure) -> [String: Literal] {
        var result: [String: Literal] = [:]
        try expect("{")
        while !skip("}") {
            let key = try string()
            try expect(":")
            result[key] = try value()
            if !skip(",") {
                try expect("}")
                break
            }
        }
        return result
    }

    private mutating func value() throws(Failure) -> Literal {
        skipSpace()
        switch peek {
        case UInt8(ascii: "'"), UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "("): return .tuple(try tuple())
        case UInt8(ascii: "["):
            var depth = 0
            repeat {
                guard let byte = peek else { throw Failure(offset: position, expected: "]") }
                if byte == UInt8(ascii: "[") { depth += 1 }
                if byte == UInt8(ascii: "]") { depth -= 1 }
                position += 1
            } while depth > 0
            return .list
        default:
            for (word, value) in [("True", true), ("False", false)]
            where text[position...].starts(with: Array(word.utf8)) {
                position += word.utf8.count
                return .bool(value)
            }
            throw Failure(offset: position, expected: "a string, a tuple, True or False")
        }
    }

    private mutating func tuple() throws(Failure) -> [Int] {
        var result: [Int] = []
        try expect("(")
        while !skip(")") {
            skipSpace()
            let digits = text[position...].prefix { $0 &- 0x30 < 10 }
            guard let extent = Int(String(decoding: digits, as: UTF8.self)) else {
                throw Failure(offset: position, expected: "an extent")
            }
            position += digits.count
            // Files of Python 2 write 3L.
            _ = skip("L")
            result.append(extent)
            if !skip(",") {
                try expect(")")
                break
            }
        }
        return result
    }

    private mutating func string() throws(Failure) -> String {
        skipSpace()
        guard let quote = peek, quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"") else {
            throw Failure(offset: position, expected: "a string")
        }
        let rest = text[(position + 1)...]
        guard let close = rest.firstIndex(of: quote) else {
            throw Failure(offset: position, expected: "a closed string")
        }
        position = close + 1
        return String(decoding: rest[..<close], as: UTF8.self)
    }

    private var peek: UInt8? { position < text.count ? text[position] : nil }

    private mutating func skipSpace() {
        while let byte = peek, byte == 0x20 || byte == 0x0A || byte == 0x09 { position += 1 }
    }

    private mutating func skip(_ character: Unicode.Scalar) -> Bool {
        skipSpace()
        guard peek == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    private mutating func expect(_ character: Unicode.Scalar) throws(Failure) {
        guard skip(character) else { throw Failure(offset: position, expected: "\(character)") }
    }
}
