/// A place in a JSON document that holds something else than it must, or nothing.
public struct JSONReadError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The file that holds the document.
    public let path: String
    /// Keys and indices that lead to the value, for example `layers[3].rank`; empty for the whole document.
    public let place: String
    public let found: String
    public let expected: String

    public init(path: String, place: String, found: String, expected: String) {
        self.path = path
        self.place = place
        self.found = found
        self.expected = expected
    }

    public var description: String {
        "\(path): \(place.isEmpty ? "" : "\(place): ")found \(found), expected \(expected)"
    }
}

/// A cursor in a JSON document: a value together with the place at which it stands, so that every error names it.
///
/// ```swift
/// let rank = try reader["layers"][3].int("rank", in: 1...width)
/// // plan.json: layers[3].rank: found 0, expected a whole number from 1 to 64
/// ```
///
/// Subscripts and getters throw a `JSONReadError` where there is no such member or element, or one of another kind or out of
/// range. The `ifPresent` variants return `nil` for a member that is not there or is `null`; whatever else is there they read
/// as strictly as the others.
public struct JSONReader: Sendable {
    /// A member of an object, in the order of the document.
    public typealias Member = (key: String, reader: JSONReader)

    /// The file that holds the document, for errors.
    public let path: String
    /// Keys and indices that lead to the value, for example `layers[3].rank`. A key that is no identifier stands in brackets
    /// and quotes: `ranks["model.layers.0"]`.
    public let place: String
    public let value: JSONValue

    /// - Parameter place: where the value stands in the file; empty for a document that is the whole file.
    public init(_ value: JSONValue, path: String, place: String = "") {
        self.value = value
        self.path = path
        self.place = place
    }

    // MARK: - Moving

    /// The member of an object.
    public subscript(key: String) -> JSONReader {
        get throws(JSONReadError) { try member(key, expecting: "a value") }
    }

    /// The member of an object; `nil` if it is not there or `null`.
    public subscript(ifPresent key: String) -> JSONReader? {
        get throws(JSONReadError) {
            guard case .object(let object) = value else { throw error("an object") }
            guard let found = object[key], !found.isNull else { return nil }
            return JSONReader(found, path: path, place: Self.place(place, key: key))
        }
    }

    /// The element of a list, counted from 0.
    public subscript(index: Int) -> JSONReader {
        get throws(JSONReadError) {
            guard case .array(let elements) = value else { throw error("a list") }
            let place = "\(place)[\(index)]"
            guard elements.indices.contains(index) else {
                throw JSONReadError(path: path, place: place, found: "nothing", expected: "a value")
            }
            return JSONReader(elements[index], path: path, place: place)
        }
    }

    func member(_ key: String, expecting expected: String) throws(JSONReadError) -> JSONReader {
        guard case .object(let object) = value else { throw error("an object") }
        let place = Self.place(place, key: key)
        guard let found = object[key] else {
            throw JSONReadError(path: path, place: place, found: "nothing", expected: expected)
        }
        return JSONReader(found, path: path, place: place)
    }

    // MARK: - The value itself

    /// A whole number, written without fraction and exponent.
    public func int(in range: ClosedRange<Int> = .min ... .max) throws(JSONReadError) -> Int {
        guard let number = value.intValue, range.contains(number) else { throw error(Self.expected(range)) }
        return number
    }

    /// A finite number, written in any way.
    public func number(in range: ClosedRange<Double> = -.infinity ... .infinity) throws(JSONReadError) -> Double {
        guard let number = value.doubleValue, number.isFinite, range.contains(number) else {
            throw error(Self.expected(range))
        }
        return number
    }

    public func text() throws(JSONReadError) -> String {
        guard let text = value.stringValue else { throw error(Self.text) }
        return text
    }

    public func flag() throws(JSONReadError) -> Bool {
        guard let flag = value.boolValue else { throw error(Self.flag) }
        return flag
    }

    public func list() throws(JSONReadError) -> [JSONReader] {
        guard let elements = value.arrayValue else { throw error(Self.list) }
        return elements.enumerated().map { JSONReader($1, path: path, place: "\(place)[\($0)]") }
    }

    public func object() throws(JSONReadError) -> [Member] {
        guard let object = value.objectValue else { throw error(Self.object) }
        return object.members.map { member in
            (member.key, JSONReader(member.value, path: path, place: Self.place(place, key: member.key)))
        }
    }

    // MARK: - Members that must be there

    public func int(_ key: String, in range: ClosedRange<Int> = .min ... .max) throws(JSONReadError) -> Int {
        try member(key, expecting: Self.expected(range)).int(in: range)
    }

    public func number(
        _ key: String, in range: ClosedRange<Double> = -.infinity ... .infinity
    ) throws(JSONReadError) -> Double {
        try member(key, expecting: Self.expected(range)).number(in: range)
    }

    public func text(_ key: String) throws(JSONReadError) -> String {
        try member(key, expecting: Self.text).text()
    }

    public func flag(_ key: String) throws(JSONReadError) -> Bool {
        try member(key, expecting: Self.flag).flag()
    }

    public func list(_ key: String) throws(JSONReadError) -> [JSONReader] {
        try member(key, expecting: Self.list).list()
    }

    public func object(_ key: String) throws(JSONReadError) -> [Member] {
        try member(key, expecting: Self.object).object()
    }

    // MARK: - Members that may be missing

    public func int(
        ifPresent key: String, in range: ClosedRange<Int> = .min ... .max
    ) throws(JSONReadError) -> Int? {
        try self[ifPresent: key]?.int(in: range)
    }

    public func number(
        ifPresent key: String, in range: ClosedRange<Double> = -.infinity ... .infinity
    ) throws(JSONReadError) -> Double? {
        try self[ifPresent: key]?.number(in: range)
    }

    public func text(ifPresent key: String) throws(JSONReadError) -> String? { try self[ifPresent: key]?.text() }

    public func flag(ifPresent key: String) throws(JSONReadError) -> Bool? { try self[ifPresent: key]?.flag() }

    public func list(ifPresent key: String) throws(JSONReadError) -> [JSONReader]? { try self[ifPresent: key]?.list() }

    public func object(ifPresent key: String) throws(JSONReadError) -> [Member]? { try self[ifPresent: key]?.object() }

    // MARK: - Errors

    /// The error for a value that is wrong for a reason of the caller's own: the value at this place is what was found.
    public func error(_ expected: String) -> JSONReadError {
        JSONReadError(path: path, place: place, found: Self.found(value), expected: expected)
    }

    private static let text = "a text"
    private static let flag = "true or false"
    private static let list = "a list"
    private static let object = "an object"

    static func expected(_ range: ClosedRange<Int>) -> String {
        "a whole number" + limits(range, isOpenBelow: range.lowerBound == .min, isOpenAbove: range.upperBound == .max)
    }

    static func expected(_ range: ClosedRange<Double>) -> String {
        "a finite number"
            + limits(
                range, isOpenBelow: range.lowerBound == -.infinity, isOpenAbove: range.upperBound == .infinity)
    }

    private static func limits<Bound>(_ range: ClosedRange<Bound>, isOpenBelow: Bool, isOpenAbove: Bool) -> String {
        switch (isOpenBelow, isOpenAbove) {
        case (true, true): ""
        case (true, false): " of at most \(range.upperBound)"
        case (false, true): " of at least \(range.lowerBound)"
        case (false, false): " from \(range.lowerBound) to \(range.upperBound)"
        }
    }

    /// A value for people: short ones as they are, large ones by their kind.
    private static func found(_ value: JSONValue) -> String {
        switch value {
        case .object(let object): return "an object of \(count(object.members.count, "member"))"
        case .array(let elements): return "a list of \(count(elements.count, "element"))"
        case .string(let string) where string.count > 60:
            return JSONValue.string(string.prefix(57) + "...").text()
        default: return value.text(writesNonFinite: true)
        }
    }

    private static func count(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }

    private static func place(_ place: String, key: String) -> String {
        let isIdentifier =
            key.utf8.allSatisfy { byte in
                byte == UInt8(ascii: "_") || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
                    || UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20
            } && !key.isEmpty
        guard isIdentifier else { return "\(place)[\(JSONValue.string(key).text())]" }
        return place.isEmpty ? key : "\(place).\(key)"
    }
}
