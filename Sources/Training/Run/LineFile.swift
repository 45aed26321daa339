import Files
import Glibc

/// A text file that grows by whole lines.
final class LineFile {
    private let path: String
    private let descriptor: Int32
    /// Bytes of the lines so far.
    private(set) var length: Int

    /// Opens a file that is there, and ends with a line's end. Throws `CheckpointError.cannotWrite`.
    init(_ path: String) throws(CheckpointError) {
        self.path = path
        descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC)
        guard descriptor >= 0 else { throw .cannotWrite(path: path, reason: systemReason()) }
        length = Int(lseek(descriptor, 0, SEEK_END))
    }

    deinit { close(descriptor) }

    /// Appends whole lines at once. Throws `CheckpointError.cannotWrite`, for example on a full disk; the file then ends as it
    /// did before.
    func append(_ line: String) throws(CheckpointError) {
        var bytes = Array(line.utf8)[...]
        // One call takes all of it, unless the disk is full or the file too large.
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                let reason = systemReason()
                cut(to: length)
                throw .cannotWrite(path: path, reason: reason)
            }
            bytes = bytes.dropFirst(count)
        }
        length += line.utf8.count
    }

    /// Takes back what stands behind the first so many bytes.
    func cut(to length: Int) {
        ftruncate(descriptor, off_t(length))
        self.length = length
    }
}
