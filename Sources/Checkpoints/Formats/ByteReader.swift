import Files

/// Reads little-endian values one after the other, never past the end.
struct ByteReader {
    /// Held, because the bytes go with it.
    private let file: MappedFile
    private(set) var position: Int

    init(_ file: MappedFile, at position: Int = 0) {
        self.file = file
        self.position = position
    }

    var path: String { file.path }
    private var bytes: UnsafeRawBufferPointer { file.bytes }
    var size: Int { bytes.count }

    var remaining: Int { bytes.count - position }

    mutating func read<T: BitwiseCopyable>(_ type: T.Type = T.self, _ what: String) throws(CheckpointError) -> T {
        let size = MemoryLayout<T>.size
        try need(size, what)
        defer { position += size }
        return bytes.loadUnaligned(fromByteOffset: position, as: T.self)
    }

    /// A count or offset that must be an `Int`.
    mutating func readCount(_ what: String) throws(CheckpointError) -> Int {
        let place = position
        let value = try read(UInt64.self, what)
        guard let count = Int(exactly: value) else {
            throw .invalid(
                path: path, place: "byte \(place), \(what)", found: "\(value)", expected: "at most \(Int.max)")
        }
        return count
    }

    mutating func skip(_ count: Int, _ what: String) throws(CheckpointError) {
        try need(count, what)
        position += count
    }

    mutating func string(count: Int, _ what: String) throws(CheckpointError) -> String {
        try need(count, what)
        let text = UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
        guard let string = text.withMemoryRebound(to: UInt8.self, { String(validating: $0, as: UTF8.self) }) else {
            throw .invalid(path: path, place: "byte \(position), \(what)", found: "bad UTF-8", expected: "UTF-8 text")
        }
        position += count
        return string
    }

    private func need(_ count: Int, _ what: String) throws(CheckpointError) {
        guard count >= 0, count <= remaining else {
            throw .invalid(
                path: path, place: "byte \(position), \(what)", found: "the end of the file after \(remaining) bytes",
                expected: "\(count) bytes")
        }
    }
}
