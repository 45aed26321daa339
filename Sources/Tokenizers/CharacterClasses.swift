/// What the pre-tokenizers' expressions distinguish: `\p{L}`, `\p{N}`, `\s`, line breaks among `\s`, and the rest.
enum CharacterClass {
    static let other: UInt8 = 0
    static let letter: UInt8 = 1
    static let number: UInt8 = 2
    /// White space other than line feed and carriage return.
    static let space: UInt8 = 3
    static let lineBreak: UInt8 = 4

    @inline(__always) static func isWhiteSpace(_ value: UInt8) -> Bool { value >= space }
}

/// The class of each character of a UTF-8 text.
///
/// Characters younger than Unicode 16 count as unassigned (`other`), as they do in the reference implementation's
/// expressions: the same text must yield the same ids whatever the age of the Swift library.
struct CharacterClasses: @unchecked Sendable {
    /// Classes of U+0000–U+FFFF. Never freed, never written after `init`.
    private let table: UnsafePointer<UInt8>

    static let shared = CharacterClasses()

    private init() {
        let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: 0x10000)
        memory.initialize(repeating: CharacterClass.other, count: 0x10000)
        // Large uniform blocks, complete since Unicode 14, are filled rather than looked up: this runs at start-up.
        let letters: [ClosedRange<UInt32>] = [0x3400...0x4DBF, 0x4E00...0x9FFF, 0xAC00...0xD7A3]
        for range in letters {
            (memory + Int(range.lowerBound)).update(repeating: CharacterClass.letter, count: range.count)
        }
        let lookedUp: [Range<UInt32>] = [
            0..<0x3400, 0x4DC0..<0x4E00, 0xA000..<0xAC00, 0xD7A4..<0xD800, 0xF900..<0x10000,
        ]
        for range in lookedUp {
            for value in range { memory[Int(value)] = Self.lookUp(Unicode.Scalar(value)!) }
        }
        table = UnsafePointer(memory)
    }

    private static func lookUp(_ scalar: Unicode.Scalar) -> UInt8 {
        let properties = scalar.properties
        if properties.isWhitespace {
            return scalar == "\n" || scalar == "\r" ? CharacterClass.lineBreak : CharacterClass.space
        }
        let result: UInt8
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
            result = CharacterClass.letter
        case .decimalNumber, .letterNumber, .otherNumber: result = CharacterClass.number
        default: return CharacterClass.other
        }
        if let age = properties.age, age.major > 16 { return CharacterClass.other }
        return result
    }

    /// The class and the length in bytes of the character at `index`. An invalid byte is a character of its own.
    @inline(__always)
    func at(_ index: Int, _ text: UnsafePointer<UInt8>, _ end: Int) -> (value: UInt8, length: Int) {
        let first = text[index]
        if first < 0x80 { return (table[Int(first)], 1) }
        return beyondASCII(index, text, end)
    }

    private func beyondASCII(_ index: Int, _ text: UnsafePointer<UInt8>, _ end: Int) -> (value: UInt8, length: Int) {
        let (scalar, length) = decodeScalar(index, text, end)
        guard let scalar else { return (CharacterClass.other, length) }
        return (scalar < 0x10000 ? table[Int(scalar)] : Self.lookUp(Unicode.Scalar(scalar)!), length)
    }

    /// Whether the character at `index` has a numeric general category in the Unicode version of the Swift library –
    /// the reference's digit splitter, unlike its expressions, follows the newest version – and its length.
    @inline(__always)
    func isNumeric(_ index: Int, _ text: UnsafePointer<UInt8>, _ end: Int) -> (Bool, length: Int) {
        let first = text[index]
        if first < 0x80 { return (first &- 0x30 < 10, 1) }
        let (value, length) = beyondASCII(index, text, end)
        if value == CharacterClass.other, length == 4, let scalar = decodeScalar(index, text, end).scalar {
            switch Unicode.Scalar(scalar)!.properties.generalCategory {
            case .decimalNumber, .letterNumber, .otherNumber: return (true, length)
            default: break
            }
        }
        return (value == CharacterClass.number, length)
    }

    /// The end of the run of characters of one class (or of white space of any kind) that goes on at `index`.
    @inline(__always)
    func endOfRun(of wanted: UInt8, from index: Int, _ text: UnsafePointer<UInt8>, _ end: Int) -> Int {
        var index = index
        while index < end {
            let (value, length) = at(index, text, end)
            guard value == wanted else { break }
            index += length
        }
        return index
    }
}

/// The Unicode scalar that starts at `index` and its length in bytes; `nil` and 1 where there is no valid UTF-8.
func decodeScalar(_ index: Int, _ text: UnsafePointer<UInt8>, _ end: Int) -> (scalar: UInt32?, length: Int) {
    let first = UInt32(text[index])
    @inline(__always) func continuation(_ offset: Int) -> UInt32? {
        guard index + offset < end else { return nil }
        let byte = UInt32(text[index + offset])
        return byte & 0xC0 == 0x80 ? byte & 0x3F : nil
    }
    switch first {
    case 0..<0x80: return (first, 1)
    case 0xC2...0xDF:
        guard let second = continuation(1) else { return (nil, 1) }
        return ((first & 0x1F) << 6 | second, 2)
    case 0xE0...0xEF:
        guard let second = continuation(1), let third = continuation(2) else { return (nil, 1) }
        let value = (first & 0x0F) << 12 | second << 6 | third
        guard value >= 0x800, !(0xD800...0xDFFF).contains(value) else { return (nil, 1) }
        return (value, 3)
    case 0xF0...0xF4:
        guard let second = continuation(1), let third = continuation(2), let fourth = continuation(3) else {
            return (nil, 1)
        }
        let value = (first & 0x07) << 18 | second << 12 | third << 6 | fourth
        guard (0x10000...0x10FFFF).contains(value) else { return (nil, 1) }
        return (value, 4)
    default: return (nil, 1)
    }
}

/// The Unicode scalar that ends before `index`, and its length in bytes.
func decodeScalar(before index: Int, _ text: UnsafePointer<UInt8>) -> (scalar: UInt32?, length: Int) {
    for length in 1...4 where index >= length && text[index - length] & 0xC0 != 0x80 {
        let (scalar, found) = decodeScalar(index - length, text, index)
        return found == length ? (scalar, length) : (nil, 1)
    }
    return (nil, 1)
}
