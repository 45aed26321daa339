/// One description of a record for reading and writing: its members in the order of the file, each with the property that it
/// stands for. What is written can be read, because both follow the same list.
///
/// ```swift
/// static let record = JSONRecord(
///     blank: Interval(),
///     [.required("steps", \.steps, .int(in: 1...100)), .defaulted("unit", \.unit, .choice)])
/// ```
///
/// Members that no field names are passed over when reading: a file may carry more. A file older than a field can still be
/// read where the field is `defaulted` or `optional`.
public struct JSONRecord<Record: Sendable>: Sendable {
    private let blank: Record
    private let fields: [JSONField<Record>]

    /// - Parameter blank: what reading begins with: it gives `defaulted` fields their values.
    public init(blank: Record, _ fields: [JSONField<Record>]) {
        self.blank = blank
        self.fields = fields
    }

    /// The keys of all fields, in their order.
    public var keys: [String] { fields.map(\.key) }

    public func json(_ record: Record) -> JSONObject {
        JSONObject(fields.compactMap { field in field.write(record).map { (field.key, $0) } })
    }

    /// Throws for the first field, in their order, that is missing or of another kind.
    public func read(_ reader: JSONReader) throws(JSONReadError) -> Record {
        guard case .object = reader.value else { throw reader.error("an object") }
        var record = blank
        for field in fields { try field.read(reader, &record) }
        return record
    }

    /// The record as a value of another one.
    public var form: JSONForm<Record> {
        JSONForm("an object") { reader throws(JSONReadError) in
            try read(reader)
        } write: {
            .object(json($0))
        }
    }
}

/// A member of a record.
public struct JSONField<Record>: Sendable {
    let key: String
    let read: @Sendable (JSONReader, inout Record) throws(JSONReadError) -> Void
    /// nil where the member is left out.
    let write: @Sendable (Record) -> JSONValue?

    /// A member that must be there.
    public static func required<Value>(
        _ key: String, _ property: WritableKeyPath<Record, Value> & Sendable, _ form: JSONForm<Value>
    ) -> JSONField {
        JSONField(key: key) { reader, record throws(JSONReadError) in
            record[keyPath: property] = try form.read(reader.member(key, expecting: form.expected))
        } write: {
            form.write($0[keyPath: property])
        }
    }

    /// A member that may be missing; the property then keeps the value of the blank record.
    public static func defaulted<Value>(
        _ key: String, _ property: WritableKeyPath<Record, Value> & Sendable, _ form: JSONForm<Value>
    ) -> JSONField {
        let required = required(key, property, form)
        return JSONField(key: key) { reader, record throws(JSONReadError) in
            if reader.value[key] != nil { try required.read(reader, &record) }
        } write: {
            required.write($0)
        }
    }

    /// A member whose property may have no value: then it is left out, or null if `writesNull`. Reads either as no value.
    public static func optional<Value>(
        _ key: String, _ property: WritableKeyPath<Record, Value?> & Sendable, _ form: JSONForm<Value>,
        writesNull: Bool = false
    ) -> JSONField {
        JSONField(key: key) { reader, record throws(JSONReadError) in
            record[keyPath: property] = nil
            if let member = try reader[ifPresent: key] { record[keyPath: property] = try form.read(member) }
        } write: {
            $0[keyPath: property].map(form.write) ?? (writesNull ? JSONValue.null : Optional.none)
        }
    }

    /// A member that follows from the others: written for people, not read.
    public static func derived(_ key: String, _ value: @escaping @Sendable (Record) -> JSONValue) -> JSONField {
        JSONField(key: key, read: { _, _ in }, write: value)
    }

    /// A member that says what the file is: it must have this text.
    public static func format(_ name: String) -> JSONField {
        JSONField(key: "format") { reader, _ throws(JSONReadError) in
            let expected = JSONValue.string(name)
            let member = try reader.member("format", expecting: expected.text())
            guard member.value == expected else { throw member.error(expected.text()) }
        } write: { _ in
            .string(name)
        }
    }

    /// `format_version`: the version of the record, which is to be raised when it can no longer be read as before. Files from
    /// 1 to this version are read; one without it is of version 1, which is why 1 can be left out when writing.
    public static func version(_ current: Int, leavesOutFirst: Bool = false) -> JSONField {
        JSONField(key: "format_version") { reader, _ throws(JSONReadError) in
            guard let member = try reader[ifPresent: "format_version"] else { return }
            guard let found = member.value.intValue, (1...current).contains(found) else {
                throw member.error(current == 1 ? "1" : "1 to \(current)")
            }
        } write: { _ in
            leavesOutFirst && current == 1 ? Optional.none : .integer(current)
        }
    }
}

/// How a kind of value stands in JSON.
public struct JSONForm<Value>: Sendable {
    /// What errors say of a value that is missing.
    let expected: String
    let read: @Sendable (JSONReader) throws(JSONReadError) -> Value
    let write: @Sendable (Value) -> JSONValue

    public init(
        _ expected: String, read: @escaping @Sendable (JSONReader) throws(JSONReadError) -> Value,
        write: @escaping @Sendable (Value) -> JSONValue
    ) {
        self.expected = expected
        self.read = read
        self.write = write
    }

    /// A value that is written as a text. `parse` returns nil for a text that is no such value.
    public static func text(
        _ expected: String, parse: @escaping @Sendable (String) -> Value?, spell: @escaping @Sendable (Value) -> String
    ) -> JSONForm {
        JSONForm(expected) { reader throws(JSONReadError) in
            guard let value = reader.value.stringValue.flatMap(parse) else { throw reader.error(expected) }
            return value
        } write: {
            .string(spell($0))
        }
    }

    /// A value of this form, or null for none.
    public static func orNull<Wrapped>(_ form: JSONForm<Wrapped>) -> JSONForm where Value == Wrapped? {
        JSONForm("\(form.expected) or null") { reader throws(JSONReadError) in
            reader.value.isNull ? nil : try form.read(reader)
        } write: {
            $0.map(form.write) ?? .null
        }
    }

    public static func list<Element>(of element: JSONForm<Element>) -> JSONForm where Value == [Element] {
        JSONForm("a list") { reader throws(JSONReadError) in
            var elements: [Element] = []
            for place in try reader.list() { elements.append(try element.read(place)) }
            return elements
        } write: {
            .array($0.map(element.write))
        }
    }
}

extension JSONForm where Value == Int {
    public static var int: JSONForm { int(in: .min ... .max) }

    public static func int(in range: ClosedRange<Int>) -> JSONForm {
        JSONForm(JSONReader.expected(range)) { reader throws(JSONReadError) in
            try reader.int(in: range)
        } write: {
            .integer($0)
        }
    }
}

extension JSONForm where Value == Double {
    public static var number: JSONForm { number(in: -.infinity ... .infinity) }

    public static func number(in range: ClosedRange<Double>) -> JSONForm {
        JSONForm(JSONReader.expected(range)) { reader throws(JSONReadError) in
            try reader.number(in: range)
        } write: {
            .number($0)
        }
    }
}

extension JSONForm where Value == String {
    public static var text: JSONForm { .text("a text", parse: { $0 }, spell: { $0 }) }
}

extension JSONForm where Value == Bool {
    public static var flag: JSONForm {
        JSONForm("true or false") { reader throws(JSONReadError) in
            try reader.flag()
        } write: {
            .bool($0)
        }
    }
}

extension JSONForm where Value == JSONObject {
    /// Any object.
    public static var object: JSONForm {
        JSONForm("an object") { reader throws(JSONReadError) in
            guard case .object(let object) = reader.value else { throw reader.error("an object") }
            return object
        } write: {
            .object($0)
        }
    }
}

extension JSONForm where Value: RawRepresentable<String> & CaseIterable & SendableMetatype {
    /// One of several words.
    public static var choice: JSONForm {
        .text(
            "one of \(Value.allCases.map(\.rawValue).joined(separator: ", "))", parse: { Value(rawValue: $0) },
            spell: { $0.rawValue })
    }
}
