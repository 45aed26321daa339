import ArgumentParser
import Files
import Glibc
import Synchronization

/// Texts that a command reads: files, `-` for standard input, and folders, which stand for the `.txt` files in them.
public enum TextInput {
    /// What messages call standard input.
    public static let standardInput = "standard input"

    static func isStandardInput(_ path: String) -> Bool { path == "-" || path == "/dev/stdin" }

    /// The name of a text in messages and tables.
    public static func name(_ path: String) -> String { isStandardInput(path) ? standardInput : path }

    /// Throws `ValidationError` if standard input is named more than once.
    public static func validate(_ paths: [String]) throws {
        guard paths.count(where: isStandardInput) < 2 else {
            throw ValidationError("- is standard input, which can be read once only.")
        }
    }

    /// The texts: a folder stands for its `.txt` files in the order of their names (that of their bytes), without those in
    /// folders in it and without hidden ones. A folder that cannot be read stands for itself.
    public static func paths(_ paths: [String]) -> [String] {
        paths.flatMap { path -> [String] in
            guard isFolder(path), let texts = try? textFiles(in: path) else { return [path] }
            return texts
        }
    }

    /// The same, and says how many texts a folder has.
    ///
    /// - Throws: `CheckpointError.unreadable` for a folder that cannot be read or has none.
    public static func list(_ paths: [String], _ console: Console) throws -> [String] {
        try paths.flatMap { path -> [String] in
            guard isFolder(path) else { return [path] }
            let texts = try textFiles(in: path)
            guard !texts.isEmpty else {
                throw CheckpointError.unreadable(path: path, reason: "is a folder that holds no .txt files")
            }
            console.note("\(path): \(grouped(texts.count)) text\(texts.count == 1 ? "" : "s") (.txt)")
            return texts
        }
    }

    /// Whether a text that was read came from standard input or a pipe.
    public static func wasReadOnce(_ path: String) -> Bool { ReadOnce.record(path) != nil }

    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return !isStandardInput(path) && stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    private static func textFiles(in folder: String) throws(CheckpointError) -> [String] {
        let names = try Provenance.folderEntries(folder).filter { $0.hasSuffix(".txt") && !$0.hasPrefix(".") }
        return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            .map { folder.hasSuffix("/") ? folder + $0 : "\(folder)/\($0)" }.filter { !isFolder($0) }
    }

    /// The bytes of a text, which are UTF-8; without a mark for the order of bytes at its start, which is said. Ends of
    /// lines stay as they are.
    ///
    /// - Throws: `CheckpointError.missing` or `.unreadable`; `.invalid` with the place for a text that is not UTF-8.
    public static func read(_ path: String, _ console: Console) throws -> [UInt8] {
        let name = name(path)
        var bytes = try contents(path)
        try bytes.withUnsafeBufferPointer { text in
            if let fault = TextEncoding.fault(in: text) {
                throw CheckpointError.unreadable(
                    path: name, reason: "\(TextEncoding.place(fault.offset, in: text)): \(fault.description)")
            }
            if let null = text.firstIndex(of: 0) {
                let count = text.count { $0 == 0 }
                console.warn(
                    "\(name): \(TextEncoding.place(null, in: text)): a NUL\(count > 1 ? ", the first of \(grouped(count))" : ""); "
                        + "it stays, as a character like others")
            }
        }
        if bytes.starts(with: TextEncoding.mark) {
            console.warn("\(name): begins with a byte order mark (EF BB BF), which is left out")
            bytes.removeFirst(TextEncoding.mark.count)
        }
        return bytes
    }

    /// The bytes of a file, of standard input or of a pipe. What can be read once only is kept in mind for the record of
    /// where a result came from.
    private static func contents(_ path: String) throws -> [UInt8] {
        let isStandardInput = isStandardInput(path)
        let descriptor = isStandardInput ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
        func failure() -> CheckpointError {
            errno == ENOENT || errno == ENOTDIR || errno == ELOOP
                ? MappedFile.absence(of: path) : .unreadable(path: name(path), reason: String(cString: strerror(errno)))
        }
        guard descriptor >= 0 else { throw failure() }
        defer { if !isStandardInput { close(descriptor) } }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure() }
        let isFile = status.st_mode & S_IFMT == S_IFREG
        var bytes: [UInt8] = []
        bytes.reserveCapacity(isFile ? Int(status.st_size) + 1 : 1 << 20)
        var chunk = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure() }
            guard count > 0 else { break }
            bytes.append(contentsOf: chunk[..<count])
        }
        if let reason = MappedFile.pointer(bytes) { throw CheckpointError.unreadable(path: name(path), reason: reason) }
        if isStandardInput || !isFile { ReadOnce.keep(bytes, path: path) }
        return bytes
    }
}

/// Inputs that can be read once only, and what was read of them.
enum ReadOnce {
    private static let records = Mutex<[String: (bytes: Int, sha256: String)]>([:])

    static func keep(_ bytes: [UInt8], path: String) {
        let record = (bytes.count, Provenance.sha256(of: bytes))
        records.withLock { $0[path] = record }
    }

    /// What was read under this name; nil for files that are still there.
    static func record(_ path: String) -> (bytes: Int, sha256: String)? { records.withLock { $0[path] } }
}
