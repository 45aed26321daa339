import CSignals
import Glibc
import JSON

/// A file's bytes, mapped into memory for reading. The mapping keeps the file's content alive even if its name is taken
/// by another file meanwhile; the bytes are valid as long as this object lives.
public final class MappedFile {
    public let path: String
    public let bytes: UnsafeRawBufferPointer
    private let slot: Int32

    /// Throws `missing`, or `unreadable` for what is not a regular, readable file.
    public init(_ path: String) throws(CheckpointError) {
        self.path = path
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw errno == ENOENT || errno == ENOTDIR || errno == ELOOP
                ? Self.absence(of: path) : .unreadable(path: path, reason: String(cString: strerror(errno)))
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw .unreadable(path: path, reason: String(cString: strerror(errno)))
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .unreadable(path: path, reason: status.st_mode & S_IFMT == S_IFDIR ? "is a folder" : "is not a file")
        }
        let size = Int(status.st_size)
        guard size > 0 else {
            bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            slot = -1
            return
        }
        guard let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED else {
            throw .unreadable(path: path, reason: "cannot be mapped into memory: \(String(cString: strerror(errno)))")
        }
        bytes = UnsafeRawBufferPointer(start: start, count: size)
        slot = csignals_map(start, size, path)
        if let reason = Self.pointer(bytes) { throw .unreadable(path: path, reason: reason) }
    }

    /// What is wrong with a path that cannot be opened because there is nothing, or nothing where a link leads.
    public static func absence(of path: String) -> CheckpointError {
        var target = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = readlink(path, &target, target.count)
        guard count > 0 else { return .missing(path: path) }
        return .brokenLink(path: path, target: String(decoding: target[..<count], as: UTF8.self))
    }

    /// Says of a file's first bytes that they are git-lfs' stand-in for a file; nil of other files.
    public static func pointer(_ bytes: some Collection<UInt8>) -> String? {
        guard bytes.starts(with: Array("version https://git-lfs.github.com".utf8)) else { return nil }
        return "is a pointer of git-lfs, not the file itself; fetch it with git lfs pull"
    }

    /// Whether there is a file; throws for a link that leads nowhere.
    static func isThere(_ path: String) throws(CheckpointError) -> Bool {
        if exists(path) { return true }
        let absence = absence(of: path)
        guard case .missing = absence else { throw absence }
        return false
    }

    deinit {
        csignals_unmap(slot)
        if let start = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: start), bytes.count) }
    }

    /// The whole of a small file.
    static func contents(_ path: String) throws(CheckpointError) -> [UInt8] {
        let file = try MappedFile(path)
        return withExtendedLifetime(file) { Array(file.bytes) }
    }

    /// Whether there is something under this name.
    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// The whole of a small file as JSON, whose outermost value is an object.
    static func json(_ path: String) throws(CheckpointError) -> JSONValue {
        try json(try contents(path), path: path, place: "")
    }

    /// JSON text that is part of a file; errors name the place.
    static func json(
        _ text: [UInt8], path: String, place: String, allowsNonFinite: Bool = false
    ) throws(CheckpointError) -> JSONValue {
        let prefix = place.isEmpty ? "" : "\(place): "
        let value: JSONValue
        do throws(JSONError) {
            value = try JSONValue(parsing: text, allowsNonFinite: allowsNonFinite)
        } catch {
            throw .unreadable(path: path, reason: "\(prefix)not JSON: \(error)")
        }
        guard value.objectValue != nil else {
            throw .unreadable(path: path, reason: "\(prefix)not a JSON object")
        }
        return value
    }
}

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
