/// A JSON document, or a part of one.
///
/// Objects keep the order of their members, and keys and strings are compared **by their UTF-8 bytes**: Swift's own
/// string comparison takes canonically equivalent spellings for equal, and a vocabulary may hold both of them.
public enum JSONValue: Sendable, Equatable, Codable {
    case object(JSONObject)
    case array([JSONValue])
    case string(String)
    /// A number written without fraction and exponent that fits 64 bits.
    case integer(Int)
    case number(Double)
    case bool(Bool)
    case null

    public static func == (left: Self, right: Self) -> Bool {
        switch (left, right) {
        case (.object(let l), .object(let r)): l == r
        case (.array(let l), .array(let r)): l == r
        case (.string(let l), .string(let r)): l.utf8.elementsEqual(r.utf8)
        case (.integer(let l), .integer(let r)): l == r
        case (.number(let l), .number(let r)): l == r
        case (.bool(let l), .bool(let r)): l == r
        case (.null, .null): true
        default: false
        }
    }
}

/// The members of a JSON object, in the order of the file.
public struct JSONObject: Sendable, Equatable {
    public typealias Member = (key: String, value: JSONValue)

    /// No two members of a parsed object have the same key.
    public private(set) var members: [Member]

    public init(_ members: [Member] = []) { self.members = members }

    /// The value of a key, compared byte by byte. Searches member by member: to look up many keys of a large object,
    /// walk over `members` instead. Setting a new key appends it, setting `nil` removes it.
    public subscript(key: String) -> JSONValue? {
        get { index(of: key).map { members[$0].value } }
        set {
            switch (index(of: key), newValue) {
            case (let index?, let value?): members[index].value = value
            case (let index?, nil): members.remove(at: index)
            case (nil, let value?): members.append((key, value))
            case (nil, nil): break
            }
        }
    }

    private func index(of key: String) -> Int? {
        members.firstIndex { $0.key.utf8.count == key.utf8.count && $0.key.utf8.elementsEqual(key.utf8) }
    }

    /// Equal members in the same order.
    public static func == (left: Self, right: Self) -> Bool {
        left.members.count == right.members.count
            && zip(left.members, right.members).allSatisfy {
                $0.key.utf8.elementsEqual($1.key.utf8) && $0.value == $1.value
            }
    }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
    public init(dictionaryLiteral elements: (String, JSONValue)...) {
        self.init(elements.map { (key: $0.0, value: $0.1) })
    }
}

// MARK: - Access

extension JSONValue {
    /// The member of an object, or `nil` if there is none or this is no object. See `JSONObject.subscript`.
    public subscript(key: String) -> JSONValue? {
        guard case .object(let object) = self else { return nil }
        return object[key]
    }

    /// The element of an array, or `nil` if there is none or this is no array.
    public subscript(index: Int) -> JSONValue? {
        guard case .array(let elements) = self, elements.indices.contains(index) else { return nil }
        return elements[index]
    }

    public var objectValue: JSONObject? { if case .object(let value) = self { value } else { nil } }
    public var arrayValue: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
    public var stringValue: String? { if case .string(let value) = self { value } else { nil } }
    public var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var isNull: Bool { if case .null = self { true } else { false } }

    /// The value of an integer; a number with a fraction or an exponent is none.
    public var intValue: Int? { if case .integer(let value) = self { value } else { nil } }

    /// The value of a number of either kind.
    public var doubleValue: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByNilLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int) { self = .integer(value) }
    public init(floatLiteral value: Double) { self = .number(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(nilLiteral: ()) { self = .null }
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    public typealias Key = String
    public typealias Value = JSONValue
    public init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(JSONObject(elements.map { (key: $0.0, value: $0.1) }))
    }
}

// MARK: - Codable

extension JSONValue {
    private struct MemberName: CodingKey {
        let stringValue: String
        let intValue: Int? = nil
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    /// Decodes any value. The order of an object's members is what the decoder makes of it; `init(parsing:)` keeps it.
    public init(from decoder: any Decoder) throws {
        if let container = try? decoder.container(keyedBy: MemberName.self) {
            self = .object(
                JSONObject(try container.allKeys.map { ($0.stringValue, try container.decode(Self.self, forKey: $0)) }))
        } else if var container = try? decoder.unkeyedContainer() {
            var elements: [JSONValue] = []
            while !container.isAtEnd { elements.append(try container.decode(Self.self)) }
            self = .array(elements)
        } else {
            let container = try decoder.singleValueContainer()
            if container.decodeNil() {
                self = .null
            } else if let value = try? container.decode(Bool.self) {
                self = .bool(value)
            } else if let value = try? container.decode(Int.self) {
                self = .integer(value)
            } else if let value = try? container.decode(Double.self) {
                self = .number(value)
            } else {
                self = .string(try container.decode(String.self))
            }
        }
    }

    public func encode(to encoder: any Encoder) throws {
        if case .object(let object) = self {
            var container = encoder.container(keyedBy: MemberName.self)
            for (key, value) in object.members { try container.encode(value, forKey: MemberName(stringValue: key)) }
            return
        }
        if case .array(let elements) = self {
            var container = encoder.unkeyedContainer()
            for element in elements { try container.encode(element) }
            return
        }
        var container = encoder.singleValueContainer()
        switch self {
        case .string(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .bool(let value): try container.encode(value)
        default: try container.encodeNil()
        }
    }
}

// MARK: - Writing

extension JSONValue {
    /// The document as UTF-8. `indent` spaces per level on lines of their own, or everything on one line without it.
    /// JSON has no number that is not finite: such a value is written as null, or, for those who read it as Python does,
    /// as `NaN`, `Infinity` and `-Infinity` if `writesNonFinite`.
    public func serialized(indent: Int? = nil, writesNonFinite: Bool = false) -> [UInt8] {
        var output: [UInt8] = []
        write(to: &output, indent: indent, writesNonFinite, level: 0)
        return output
    }

    /// `serialized` as a string.
    public func text(indent: Int? = nil, writesNonFinite: Bool = false) -> String {
        String(decoding: serialized(indent: indent, writesNonFinite: writesNonFinite), as: UTF8.self)
    }

    private static func word(_ number: Double) -> String {
        number.isNaN ? "NaN" : number < 0 ? "-Infinity" : "Infinity"
    }

    private func write(to output: inout [UInt8], indent: Int?, _ writesNonFinite: Bool, level: Int) {
        func newLine(_ level: Int) {
            guard let indent else { return }
            output.append(0x0A)
            output.append(contentsOf: repeatElement(0x20, count: indent * level))
        }
        switch self {
        case .null: output.append(contentsOf: "null".utf8)
        case .bool(let value): output.append(contentsOf: (value ? "true" : "false").utf8)
        case .integer(let value): output.append(contentsOf: String(value).utf8)
        case .number(let value):
            let text = value.isFinite ? "\(value)" : writesNonFinite ? Self.word(value) : "null"
            output.append(contentsOf: text.utf8)
        case .string(let value): Self.write(value, to: &output)
        case .array(let elements):
            output.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { output.append(UInt8(ascii: ",")) }
                newLine(level + 1)
                element.write(to: &output, indent: indent, writesNonFinite, level: level + 1)
            }
            if !elements.isEmpty { newLine(level) }
            output.append(UInt8(ascii: "]"))
        case .object(let object):
            output.append(UInt8(ascii: "{"))
            for (index, member) in object.members.enumerated() {
                if index > 0 { output.append(UInt8(ascii: ",")) }
                newLine(level + 1)
                Self.write(member.key, to: &output)
                output.append(contentsOf: (indent == nil ? ":" : ": ").utf8)
                member.value.write(to: &output, indent: indent, writesNonFinite, level: level + 1)
            }
            if !object.members.isEmpty { newLine(level) }
            output.append(UInt8(ascii: "}"))
        }
    }

    private static func write(_ text: String, to output: inout [UInt8]) {
        output.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): output.append(contentsOf: [UInt8(ascii: "\\"), byte])
            case 0x0A: output.append(contentsOf: "\\n".utf8)
            case 0x0D: output.append(contentsOf: "\\r".utf8)
            case 0x09: output.append(contentsOf: "\\t".utf8)
            case 0..<0x20:
                let digits = Array("0123456789abcdef".utf8)
                output.append(contentsOf: "\\u00".utf8)
                output.append(contentsOf: [digits[Int(byte >> 4)], digits[Int(byte & 15)]])
            default: output.append(byte)
            }
        }
        output.append(UInt8(ascii: "\""))
    }
}
