import CSignals
import Glibc

/// A file that appears under its name only when it is complete.
///
/// Bytes go to a temporary file in the same folder; `commit` flushes it to the disk and renames it. Thrown away without
/// `commit` – or interrupted by a signal – nothing remains.
public final class AtomicFile {
    public let path: String
    /// Where the bytes are until `commit`; libraries that open files by name write here.
    public let temporaryPath: String
    private var descriptor: Int32
    private var slot: Int32
    private var isOpen = true
    private var pending: [UInt8] = []

    /// Creates the temporary file. Throws `CheckpointError.cannotWrite` if the folder does not take one.
    public init(_ path: String) throws(CheckpointError) {
        self.path = path
        let slash = path.lastIndex(of: "/")
        let folder = slash.map { String(path[...$0]) } ?? ""
        let name = slash.map { String(path[path.index(after: $0)...]) } ?? path
        temporaryPath = "\(folder).\(name).\(getpid()).partial"
        var status = stat()
        if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
            throw .cannotWrite(path: path, reason: "it is a folder")
        }
        // Before the file is there: a signal may come between the two.
        slot = csignals_remember(temporaryPath)
        descriptor = open(temporaryPath, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            let reason = String(cString: strerror(errno))
            csignals_forget(slot)
            throw .cannotWrite(path: path, reason: reason)
        }
    }

    deinit { discard() }

    /// Appends bytes.
    public func write(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) {
        if bytes.count >= 1 << 16 {
            try flush()
            try writeNow(bytes)
        } else {
            pending.append(contentsOf: bytes)
            if pending.count >= 1 << 16 { try flush() }
        }
    }

    public func write(_ text: String) throws(CheckpointError) {
        pending.append(contentsOf: text.utf8)
        if pending.count >= 1 << 16 { try flush() }
    }

    /// Flushes to the disk and gives the file its name. Nothing may be written afterwards.
    public func commit() throws(CheckpointError) {
        try synchronize()
        try giveName()
    }

    /// Commits files that belong together: none gets its name before all are on the disk.
    public static func commit(_ files: [AtomicFile]) throws(CheckpointError) {
        for file in files { try file.synchronize() }
        for file in files { try file.giveName() }
    }

    private func synchronize() throws(CheckpointError) {
        try flush()
        guard fsync(descriptor) == 0 else { throw failure() }
    }

    private func giveName() throws(CheckpointError) {
        guard rename(temporaryPath, path) == 0 else { throw failure() }
        close()
    }

    /// Removes what was written so far, unless it was committed.
    public func discard() {
        guard isOpen else { return }
        unlink(temporaryPath)
        close()
    }

    /// Writes a whole file at once.
    public static func write(_ text: String, to path: String) throws(CheckpointError) {
        let file = try AtomicFile(path)
        try file.write(text)
        try file.commit()
    }

    private func close() {
        guard isOpen else { return }
        isOpen = false
        Glibc.close(descriptor)
        csignals_forget(slot)
    }

    private func flush() throws(CheckpointError) {
        guard !pending.isEmpty else { return }
        let bytes = pending
        pending.removeAll(keepingCapacity: true)
        var result: Result<Void, CheckpointError> = .success(())
        bytes.withUnsafeBytes { chunk in
            do throws(CheckpointError) { try writeNow(chunk) } catch { result = .failure(error) }
        }
        try result.get()
    }

    private func writeNow(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) {
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw failure() }
            done += count
        }
    }

    private func failure() -> CheckpointError {
        .cannotWrite(path: path, reason: String(cString: strerror(errno)))
    }
}
