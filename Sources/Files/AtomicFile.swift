import CSignals
import Glibc

/// A file that appears under its name only when it is complete.
///
/// Bytes go to a temporary file in the same folder; `commit` flushes it to the disk and renames it. Thrown away without
/// `commit` – or interrupted by a signal – nothing remains. Folders that are not there are made. Where the name is a
/// symbolic link, the file that it leads to is replaced, and the link stays.
///
/// What is no file is never replaced: into a pipe or a device the bytes are written as they come.
public final class AtomicFile {
    public let path: String
    /// Where the bytes are until `commit`; libraries that open files by name write here. The path itself of a stream.
    public let temporaryPath: String
    /// The name that the complete file gets.
    private let finalPath: String
    private let place: OutputPlace
    /// Of a stream −1 until something is written: opening a pipe waits for who reads it.
    private var descriptor: Int32 = -1
    private var slot: Int32 = -1
    private var isOpen = true
    private var pending: [UInt8] = []
    private var folders: OutputFolder?

    /// Creates the temporary file.
    ///
    /// - Parameter needsFile: for what is not written from its front to its end, or is read back: a pipe or a device is
    ///   refused then.
    /// - Throws: `CheckpointError.cannotWrite` if the folder does not take a file, or what is there must stay.
    public init(_ path: String, needsFile: Bool = false) throws(CheckpointError) {
        self.path = path
        place = try OutputPlace(path)
        switch place {
        case .folder: throw .cannotWrite(path: path, reason: "it is a folder")
        case .file(let file): finalPath = file
        case .descriptor, .stream:
            guard !needsFile else {
                throw .cannotWrite(
                    path: path, reason: "it is a pipe or a device, expected a file: what is written is read back")
            }
            (finalPath, temporaryPath) = (path, path)
            guard access(path, W_OK) == 0 else { throw failure() }
            return
        }
        let folder = OutputPlace.folder(of: finalPath)
        temporaryPath = "\(folder).\(finalPath.dropFirst(folder.count)).\(getpid()).partial"
        do {
            folders = folder.isEmpty ? nil : try OutputFolder(folder)
        } catch {
            guard case .cannotWrite(_, let reason) = error else { throw error }
            throw .cannotWrite(path: path, reason: reason)
        }
        // Before the file is there: a signal may come between the two.
        slot = csignals_remember(temporaryPath)
        descriptor = open(temporaryPath, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            let error = failure()
            csignals_forget(slot)
            throw error
        }
    }

    deinit { discard() }

    private var isStream: Bool { if case .file = place { false } else { true } }

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
        guard isStream || fsync(descriptor) == 0 else { throw failure() }
    }

    private func giveName() throws(CheckpointError) {
        guard isStream || rename(temporaryPath, finalPath) == 0 else { throw failure() }
        folders?.keep()
        close()
    }

    /// Removes what was written so far, unless it was committed. What a stream has taken it keeps.
    public func discard() {
        guard isOpen else { return }
        if !isStream { unlink(temporaryPath) }
        close()
        folders = nil
    }

    /// Writes a whole file at once.
    public static func write(_ text: String, to path: String, needsFile: Bool = false) throws(CheckpointError) {
        let file = try AtomicFile(path, needsFile: needsFile)
        try file.write(text)
        try file.commit()
    }

    private func close() {
        guard isOpen else { return }
        isOpen = false
        if descriptor >= 0 { Glibc.close(descriptor) }
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
        if descriptor < 0 { try openStream() }
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw failure() }
            done += count
        }
    }

    private func openStream() throws(CheckpointError) {
        if case .descriptor(let number) = place {
            // Another one of its own, as this one is closed in the end.
            descriptor = fcntl(number, F_DUPFD_CLOEXEC, 3)
        } else {
            descriptor = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC)
        }
        guard descriptor >= 0 else { throw failure() }
    }

    private func failure() -> CheckpointError {
        .cannotWrite(path: path, reason: String(cString: strerror(errno)))
    }
}
