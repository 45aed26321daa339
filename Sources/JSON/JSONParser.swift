/// Where a text stops being JSON.
public struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Bytes before the place.
    public let offset: Int
    /// Counted from 1; the column in bytes.
    public let line: Int
    public let column: Int
    public let reason: String

    public var description: String { "line \(line), column \(column) (byte \(offset)): \(reason)" }
}

extension JSONValue {
    /// Arrays and objects may stand this deep in one another.
    public static let maximumDepth = 256

    /// Parses one JSON document (RFC 8259), and nothing beside it but white space.
    ///
    /// Strict: the text is valid UTF-8 without a byte order mark, an object has no key twice, escaped surrogates come
    /// in pairs, numbers are finite. Integers beyond 64 bits become `number`.
    ///
    /// - Parameter allowsNonFinite: whether `NaN`, `Infinity`, `-Infinity` and numbers too large for double precision are
    ///   taken as well. They are no JSON, but Python reads and writes them.
    public init(parsing bytes: UnsafeBufferPointer<UInt8>, allowsNonFinite: Bool = false) throws(JSONError) {
        var parser = JSONParser(bytes, allowsNonFinite: allowsNonFinite)
        self = try parser.document()
    }

    public init(parsing text: [UInt8], allowsNonFinite: Bool = false) throws(JSONError) {
        self = try text.withUnsafeBufferPointer { bytes in
            Result { () throws(JSONError) in try Self(parsing: bytes, allowsNonFinite: allowsNonFinite) }
        }.get()
    }

    public init(parsing text: String, allowsNonFinite: Bool = false) throws(JSONError) {
        try self.init(parsing: Array(text.utf8), allowsNonFinite: allowsNonFinite)
    }
}

private struct JSONParser {
    let bytes: UnsafeBufferPointer<UInt8>
    let allowsNonFinite: Bool
    var position = 0
    var scratch: [UInt8] = []

    init(_ bytes: UnsafeBufferPointer<UInt8>, allowsNonFinite: Bool) {
        self.bytes = bytes
        self.allowsNonFinite = allowsNonFinite
    }

    mutating func document() throws(JSONError) -> JSONValue {
        let value = try value(depth: 0)
        skipSpace()
        guard position == bytes.count else { throw error("found \(seen()) after the end of the document") }
        return value
    }

    // MARK: values

    private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
        skipSpace()
        guard depth <= JSONValue.maximumDepth else {
            throw error("arrays and objects are nested deeper than \(JSONValue.maximumDepth)")
        }
        switch peek() {
        case UInt8(ascii: "{"): return .object(try object(depth: depth))
        case UInt8(ascii: "["): return .array(try array(depth: depth))
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "N") where allowsNonFinite: return try word("NaN", .number(.nan))
        case UInt8(ascii: "I") where allowsNonFinite: return try word("Infinity", .number(.infinity))
        case UInt8(ascii: "-") where allowsNonFinite && bytes[position...].dropFirst().first == UInt8(ascii: "I"):
            return try word("-Infinity", .number(-.infinity))
        case let byte? where byte == UInt8(ascii: "-") || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte:
            return try number()
        default: throw error("found \(seen()), expected a value")
        }
    }

    private mutating func object(depth: Int) throws(JSONError) -> JSONObject {
        position += 1
        var members: [JSONObject.Member] = []
        skipSpace()
        if peek() == UInt8(ascii: "}") {
            position += 1
            return JSONObject()
        }
        while true {
            skipSpace()
            guard peek() == UInt8(ascii: "\"") else { throw error("found \(seen()), expected a key in quotes") }
            let key = try string()
            skipSpace()
            try expect(UInt8(ascii: ":"), "':' after the key")
            members.append((key, try value(depth: depth + 1)))
            skipSpace()
            if peek() == UInt8(ascii: "}") { break }
            try expect(UInt8(ascii: ","), "',' or '}'")
        }
        if let key = Self.duplicate(in: members) { throw error("an object has the key \"\(key)\" twice") }
        position += 1
        return JSONObject(members)
    }

    private mutating func array(depth: Int) throws(JSONError) -> [JSONValue] {
        position += 1
        var elements: [JSONValue] = []
        skipSpace()
        if peek() == UInt8(ascii: "]") {
            position += 1
            return elements
        }
        while true {
            elements.append(try value(depth: depth + 1))
            skipSpace()
            if peek() == UInt8(ascii: "]") { break }
            try expect(UInt8(ascii: ","), "',' or ']'")
        }
        position += 1
        return elements
    }

    /// Compares by bytes: pairs for a small object, sorted hashes for a vocabulary.
    private static func duplicate(in members: [JSONObject.Member]) -> String? {
        if members.count <= 8 {
            for i in members.indices {
                for j in 0..<i where members[i].key.utf8.elementsEqual(members[j].key.utf8) { return members[i].key }
            }
            return nil
        }
        var hashes = members.indices.map { index in (hash: fnv(members[index].key), index: index) }
        hashes.sort { $0.hash < $1.hash }
        // Equal hashes of different keys are so rare that comparing all of a run costs nothing.
        var start = 0
        for end in 1...hashes.count where end == hashes.count || hashes[end].hash != hashes[start].hash {
            for i in start..<end {
                for j in start..<i {
                    let (first, second) = (members[hashes[i].index].key, members[hashes[j].index].key)
                    if first.utf8.elementsEqual(second.utf8) { return first }
                }
            }
            start = end
        }
        return nil
    }

    private static func fnv(_ key: String) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in key.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return hash
    }

    // MARK: strings

    private mutating func string() throws(JSONError) -> String {
        let open = position
        position += 1
        let start = position
        while position < bytes.count {
            let byte = bytes[position]
            if byte == UInt8(ascii: "\"") {
                defer { position += 1 }
                return try decoded(UnsafeBufferPointer(rebasing: bytes[start..<position]), at: start)
            }
            if byte == UInt8(ascii: "\\") { return try escapedString(from: start, open: open) }
            if byte < 0x20 { throw error("a string holds the control character \(byte), which must be escaped") }
            position += 1
        }
        position = open
        throw error("the string that begins here does not end")
    }

    private mutating func escapedString(from start: Int, open: Int) throws(JSONError) -> String {
        scratch.removeAll(keepingCapacity: true)
        scratch.append(contentsOf: bytes[start..<position])
        while position < bytes.count {
            let byte = bytes[position]
            if byte == UInt8(ascii: "\"") {
                position += 1
                guard let text = String(validating: scratch, as: UTF8.self) else {
                    position = start
                    throw error("the string that begins here is not valid UTF-8")
                }
                return text
            }
            if byte < 0x20 { throw error("a string holds the control character \(byte), which must be escaped") }
            position += 1
            if byte == UInt8(ascii: "\\") { try escape() } else { scratch.append(byte) }
        }
        position = open
        throw error("the string that begins here does not end")
    }

    private mutating func escape() throws(JSONError) {
        guard position < bytes.count else { return }  // the caller reports that the string does not end
        let byte = bytes[position]
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): scratch.append(byte)
        case UInt8(ascii: "b"): scratch.append(0x08)
        case UInt8(ascii: "f"): scratch.append(0x0C)
        case UInt8(ascii: "n"): scratch.append(0x0A)
        case UInt8(ascii: "r"): scratch.append(0x0D)
        case UInt8(ascii: "t"): scratch.append(0x09)
        case UInt8(ascii: "u"):
            var code = try codeUnit()
            if code & 0xFC00 == 0xD800, position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
                bytes[position + 1] == UInt8(ascii: "u")
            {
                position += 2
                let low = try codeUnit()
                guard low & 0xFC00 == 0xDC00 else { throw error("half of an escaped surrogate pair") }
                code = 0x10000 + (code & 0x3FF) << 10 + low & 0x3FF
            }
            guard let scalar = Unicode.Scalar(code) else { throw error("half of an escaped surrogate pair") }
            scratch.append(contentsOf: UTF8.encode(scalar)!)
        default:
            position -= 1
            throw error("found \(seen()) after a backslash")
        }
    }

    private mutating func codeUnit() throws(JSONError) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = peek(), let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw error("found \(seen()), expected four hexadecimal digits")
            }
            code = code << 4 | UInt32(digit)
            position += 1
        }
        return code
    }

    private mutating func decoded(_ text: UnsafeBufferPointer<UInt8>, at start: Int) throws(JSONError) -> String {
        guard let string = String(validating: text, as: UTF8.self) else {
            position = start
            throw error("the string that begins here is not valid UTF-8")
        }
        return string
    }

    // MARK: numbers and words

    private mutating func number() throws(JSONError) -> JSONValue {
        let start = position
        let isNegative = peek() == UInt8(ascii: "-")
        if isNegative { position += 1 }
        var integer: Int? = 0
        let firstDigit = position
        while let digit = digit() {
            integer = integer.flatMap { value in
                let (product, high) = value.multipliedReportingOverflow(by: 10)
                let (sum, carry) = product.subtractingReportingOverflow(digit)
                return high || carry ? nil : sum
            }
        }
        guard position > firstDigit else { throw error("found \(seen()), expected a digit") }
        if bytes[firstDigit] == UInt8(ascii: "0"), position > firstDigit + 1 {
            position = firstDigit
            throw error("a number begins with a superfluous 0")
        }
        var isInteger = true
        if peek() == UInt8(ascii: ".") {
            isInteger = false
            position += 1
            try digits()
        }
        if let byte = peek(), byte | 0x20 == UInt8(ascii: "e") {
            isInteger = false
            position += 1
            if let sign = peek(), sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") { position += 1 }
            try digits()
        }
        // Digits were summed up negatively, because the least integer has no positive counterpart.
        if isInteger, let integer, integer != 0 || !isNegative, isNegative || integer != Int.min {
            return .integer(isNegative ? integer : -integer)
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        guard let value = Double(text), value.isFinite || allowsNonFinite else {
            position = start
            throw error("the number \(text) is too large")
        }
        return .number(value)
    }

    private mutating func digit() -> Int? {
        guard let byte = peek(), byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
        position += 1
        return Int(byte - UInt8(ascii: "0"))
    }

    private mutating func digits() throws(JSONError) {
        guard digit() != nil else { throw error("found \(seen()), expected a digit") }
        while digit() != nil {}
    }

    private mutating func word(_ word: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
        let count = word.utf8CodeUnitCount
        let matches =
            position + count <= bytes.count
            && (0..<count).allSatisfy { bytes[position + $0] == word.utf8Start[$0] }
        guard matches else { throw error("found \(seen()), expected a value") }
        position += count
        return value
    }

    // MARK: bytes

    private func peek() -> UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while position < bytes.count {
            let byte = bytes[position]
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return }
            position += 1
        }
    }

    private mutating func expect(_ byte: UInt8, _ what: String) throws(JSONError) {
        guard peek() == byte else { throw error("found \(seen()), expected \(what)") }
        position += 1
    }

    /// The next byte, for people.
    private func seen() -> String {
        guard let byte = peek() else { return "the end of the text" }
        return byte > 0x20 && byte < 0x7F ? "'\(Character(Unicode.Scalar(byte)))'" : "the byte \(byte)"
    }

    private func error(_ reason: String) -> JSONError {
        let before = bytes[..<min(position, bytes.count)]
        let line = before.reduce(1) { $0 + ($1 == 0x0A ? 1 : 0) }
        let lineStart = before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
        return JSONError(offset: position, line: line, column: position - lineStart + 1, reason: reason)
    }
}
