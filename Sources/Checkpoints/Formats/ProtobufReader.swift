/// Walks over the fields of one protocol buffers message.
package struct ProtobufReader {
    package enum Value {
        case integer(UInt64)
        case bytes(ArraySlice<UInt8>)
        case fixed
    }

    private var rest: ArraySlice<UInt8>

    package init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    /// Calls `body` for each field of the messages that a message consists of, with the number of the message around it, as
    /// far as they are intact.
    package static func forEachField(of bytes: [UInt8], _ body: (_ message: UInt64, _ field: UInt64, Value) -> Void) {
        var root = ProtobufReader(bytes[...])
        while let field = root.next() {
            guard case .bytes(let content) = field.value else { continue }
            var message = ProtobufReader(content)
            while let inner = message.next() { body(field.number, inner.number, inner.value) }
        }
    }

    /// The next field, or `nil` at the end and where the message is damaged.
    package mutating func next() -> (number: UInt64, value: Value)? {
        guard let key = integer() else { return nil }
        switch key & 7 {
        case 0: return integer().map { (key >> 3, .integer($0)) }
        case 1: return take(8).map { _ in (key >> 3, .fixed) }
        case 2:
            guard let count = integer(), count <= rest.count, let content = take(Int(count)) else { return nil }
            return (key >> 3, .bytes(content))
        case 5: return take(4).map { _ in (key >> 3, .fixed) }
        default: return nil
        }
    }

    private mutating func integer() -> UInt64? {
        var result: UInt64 = 0
        for shift in stride(from: UInt64(0), through: 63, by: 7) {
            guard let byte = rest.popFirst() else { return nil }
            result |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return result }
        }
        return nil
    }

    private mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
        guard count <= rest.count else { return nil }
        defer { rest = rest.dropFirst(count) }
        return rest.prefix(count)
    }
}
