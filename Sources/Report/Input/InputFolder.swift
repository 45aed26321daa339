import Files
import Glibc
import JSON

/// The files of one folder that a report knows.
struct InputFolder {
    /// As the user wrote it.
    let path: String
    /// Its last component: what the run is called.
    let name: String
    private(set) var tables: [(kind: FileKind, table: CSVTable)] = []
    private(set) var documents: [(kind: FileKind, path: String, value: JSONValue)] = []
    /// What was read, for the record.
    private(set) var files: [SourceFile] = []
    /// Tables and documents that are none of ours.
    private(set) var ignored: [String] = []

    /// Reads what is directly in a folder. Throws `ReportError.missing`, and for files that begin as ours and go on
    /// otherwise `ReportError.invalid`.
    init(_ path: String) throws {
        self.path = path
        name = Self.name(of: path)
        for entry in try Self.entries(of: path, S_IFREG) where !entry.hasPrefix(".") {
            let file = "\(path)/\(entry)"
            if entry.hasSuffix(".json") {
                try readDocument(file)
            } else if entry.hasSuffix(".csv") {
                try readTable(file)
            }
        }
    }

    /// The folder itself or, where it has no file that is shown, those in it that have.
    static func runs(in path: String) throws -> [InputFolder] {
        let folder = try InputFolder(path)
        if folder.isShown { return [folder] }
        let inner = try entries(of: path, S_IFDIR).filter { !$0.hasPrefix(".") }
            .map { try InputFolder("\(path)/\($0)") }.filter(\.isShown)
        guard !inner.isEmpty else { throw ReportError.nothing(path: path) }
        return inner
    }

    private var isShown: Bool { (tables.map(\.kind) + documents.map(\.kind)).contains(where: \.isShown) }

    func tables(_ kind: FileKind) -> [CSVTable] { tables.filter { $0.kind == kind }.map(\.table) }

    /// The one table of a kind; nil if there is none. Throws for two, of which nobody knows which counts.
    func table(_ kind: FileKind) throws(ReportError) -> CSVTable? {
        let found = tables(kind)
        guard found.count < 2 else {
            throw .invalid(
                path: path, place: "tables like \(kind.usualName)",
                found: found.map { Self.name(of: $0.path) }.joined(separator: " and "), expected: "one in a folder")
        }
        return found.first
    }

    func documents(_ kind: FileKind) -> [(path: String, value: JSONValue)] {
        documents.filter { $0.kind == kind }.map { ($0.path, $0.value) }
    }

    // MARK: - Reading

    private mutating func readTable(_ path: String) throws {
        let file = try MappedFile(path)
        // A header line of ours is short; a large table of somebody else's is not read for it.
        let first = file.bytes.prefix(4096).prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }
        let columns = String(decoding: first, as: UTF8.self).split(separator: ",").map(String.init)
        guard let kind = FileKind(columns: columns.map { $0.filter { $0 != "\u{FEFF}" && $0 != "\"" } }) else {
            return ignored.append(path)
        }
        let table = try CSVTable(file)
        guard !table.rows.isEmpty || kind == .metrics else {
            throw ReportError.invalid(path: path, place: "line 2", found: "the end of the file", expected: "a row")
        }
        tables.append((kind, table))
        files.append(SourceFile(file))
    }

    private mutating func readDocument(_ path: String) throws {
        let file = try MappedFile(path)
        // Each of ours names its tool or its format; a tokenizer of megabytes need not be parsed.
        guard file.bytes.contains("\"cola-".utf8) else { return ignored.append(path) }
        let value: JSONValue
        do throws(JSONError) {
            value = try file.bytes.withMemoryRebound(to: UInt8.self) { bytes in
                Result { () throws(JSONError) in try JSONValue(parsing: bytes) }
            }.get()
        } catch {
            throw ReportError.json(path: path, error)
        }
        guard let kind = FileKind(document: value) else { return ignored.append(path) }
        documents.append((kind, path, value))
        files.append(SourceFile(file))
    }

    /// Names of one type in a folder, sorted.
    private static func entries(of path: String, _ type: mode_t) throws -> [String] {
        guard let folder = opendir(path) else {
            guard errno == ENOENT || errno == ENOTDIR else {
                throw CheckpointError.unreadable(path: path, reason: String(cString: strerror(errno)))
            }
            throw ReportError.missing(path: path)
        }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            var status = stat()
            if stat("\(path)/\(name)", &status) == 0, status.st_mode & S_IFMT == type { names.append(name) }
        }
        return names.sorted()
    }

    /// The last component of a path, of `.` and `..` that of where they lead.
    static func name(of path: String) -> String {
        let last = path.split(separator: "/").last ?? ""
        guard last.isEmpty || last == "." || last == ".." else { return String(last) }
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(String(cString: real).split(separator: "/").last ?? "/")
    }
}
