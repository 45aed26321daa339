import CSignals
import Glibc

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
    package static func isThere(_ path: String) throws(CheckpointError) -> Bool {
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
    package static func contents(_ path: String) throws(CheckpointError) -> [UInt8] {
        let file = try MappedFile(path)
        return withExtendedLifetime(file) { Array(file.bytes) }
    }

    /// Whether there is something under this name.
    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
}
