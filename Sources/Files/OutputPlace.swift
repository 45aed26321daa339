import Glibc

/// What is at the path of an output, behind all symbolic links.
///
/// A file is replaced by the new one when that is complete. What is no file – a device, a pipe – is never replaced: it
/// stays what it is, and a stream is written into it or nothing at all.
public enum OutputPlace: Equatable, Sendable {
    /// A regular file of this path, or nothing yet.
    case file(path: String)
    /// A file that this process has open: `/dev/stdout`, `/dev/fd/3`.
    case descriptor(Int32)
    /// A pipe or a device that takes bytes one after the other.
    case stream
    /// A folder.
    case folder

    /// Throws `CheckpointError.cannotWrite` for a path at which nothing can be written, whatever it is.
    public init(_ path: String) throws(CheckpointError) {
        func refusal(_ reason: String) -> CheckpointError {
            .cannotWrite(path: path.isEmpty ? "\"\"" : path, reason: reason)
        }
        var current = path
        for _ in 0..<40 {
            var status = stat()
            guard lstat(current, &status) == 0 else {
                guard !current.isEmpty, current.last != "/" else { throw refusal("not the name of a file") }
                self = .file(path: current)
                return
            }
            switch status.st_mode & S_IFMT {
            case S_IFREG: self = .file(path: current)
            case S_IFDIR: self = .folder
            case S_IFIFO, S_IFCHR: self = .stream
            case S_IFLNK:
                let folder = Self.folder(of: current)
                let real = Self.real(folder.isEmpty ? "." : folder)
                guard real.hasPrefix("/proc/") else {
                    let next = Self.destination(of: current)
                    current = next.hasPrefix("/") ? next : folder + next
                    continue
                }
                // Such a link is no name but an open file itself.
                guard real == "/proc/\(getpid())/fd", let number = Int32(current.dropFirst(folder.count)) else {
                    throw refusal("it belongs to another process")
                }
                self = fstat(number, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR ? .folder : .descriptor(number)
            default: throw refusal("it is a \(status.st_mode & S_IFMT == S_IFBLK ? "disk" : "socket"), not a file")
            }
            return
        }
        throw refusal("symbolic links that lead in a circle")
    }

    /// The part of a path in front of its last name, with the slash; empty for a name alone.
    package static func folder(of path: String) -> String { path.lastIndex(of: "/").map { String(path[...$0]) } ?? "" }

    private static func real(_ path: String) -> String {
        guard let resolved = realpath(path, nil) else { return path }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    private static func destination(of link: String) -> String {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = bytes.withUnsafeMutableBytes { buffer in
            readlink(link, buffer.baseAddress!.assumingMemoryBound(to: CChar.self), buffer.count)
        }
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }
}
