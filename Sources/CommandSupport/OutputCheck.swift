import Files
import Glibc
import TokenData

/// What a command is going to write, compared with what it reads before it starts to work: an output that is an input would
/// destroy it.
///
/// Files are compared by device and inode, so that another path, a symbolic link or a hard link is the same file.
public struct OutputCheck {
    /// One output of a command, by the path that the user gave or that follows from one.
    public enum Output {
        /// Written from front to end, so that a pipe or a device takes it as well.
        case stream(String)
        /// Written in any order, or read back.
        case file(String)
        /// Files of these names in a folder.
        case folder(String, names: [String])
    }

    private var inputs: [FileIdentity: String] = [:]

    /// - Parameters:
    ///   - checkpoints: files or folders of models; what belongs to a model counts besides.
    ///   - files: other files, or folders of texts. Of a token file `FILE.h5:/dataset` it is the file; `-` is
    ///     standard input.
    public init(checkpoints: [String?] = [], files: [String?] = []) {
        for path in checkpoints.compactMap({ $0 }) {
            for file in ModelFiles(of: path).paths { add(file) }
        }
        for path in files.compactMap({ $0 == "-" ? "/dev/stdin" : $0 }) {
            add(path)
            add(TokenFile.path(of: path))
            guard FileIdentity.type(of: path) == S_IFDIR else { continue }
            for entry in Self.entries(of: path) where entry.hasSuffix(".txt") { add("\(path)/\(entry)") }
        }
    }

    private mutating func add(_ path: String) {
        if let identity = FileIdentity(path), inputs[identity] == nil { inputs[identity] = path }
    }

    /// Throws `CheckpointError.cannotWrite` for an output that is an input, that another output is as well, or that cannot
    /// be what it has to be because something else is there.
    public func require(_ outputs: [Output]) throws(CheckpointError) {
        var taken: [String: String] = [:]
        func take(_ path: String, _ key: String) throws(CheckpointError) {
            guard let other = taken.updateValue(path, forKey: key) else { return }
            throw .cannotWrite(
                path: path,
                reason: path == other ? "two outputs have this name" : "it is the same file as \(other), another output"
            )
        }
        for output in outputs {
            switch output {
            case .stream(let path), .file(let path):
                if case .file = output { try Self.requireFile(path) }
                if let key = try check(path) { try take(path, key) }
            case .folder(let path, let names):
                if FileIdentity.type(of: path) == S_IFREG {
                    throw .cannotWrite(path: path, reason: "there is a file of this name")
                }
                try take(path, Self.key(of: path))
                for name in names {
                    try Self.requireFile("\(path)/\(name)")
                    if let key = try check("\(path)/\(name)") { try take("\(path)/\(name)", key) }
                }
            }
        }
    }

    private static func requireFile(_ path: String) throws(CheckpointError) {
        switch try OutputPlace(path) {
        case .file, .folder: return
        case .descriptor, .stream:
            throw .cannotWrite(
                path: path, reason: "it is a pipe or a device, expected a file: what is written is read back")
        }
    }

    /// What tells this output from others; nil for a device, which takes what several write.
    private func check(_ path: String) throws(CheckpointError) -> String? {
        let place = try OutputPlace(path)
        if place == .folder { throw .cannotWrite(path: path, reason: "it is a folder") }
        guard FileIdentity.type(of: path) != S_IFCHR else { return nil }
        if let identity = FileIdentity(path) {
            if let input = inputs[identity] {
                throw .cannotWrite(
                    path: path,
                    reason: input == path
                        ? "it is read from as well" : "it is the same file as \(input), which is read from")
            }
            return "\(identity)"
        }
        if case .file(let file) = place { return Self.key(of: file) }
        return nil
    }

    /// The path of something that may not be there yet, behind the links in it.
    private static func key(of path: String) -> String {
        var (rest, folder) = ([Substring](), path[...])
        while !folder.isEmpty, folder != "/" {
            if let real = realpath(String(folder), nil) {
                defer { free(real) }
                return ([String(cString: real)] + rest.map(String.init)).joined(separator: "/")
            }
            while folder.count > 1, folder.last == "/" { folder.removeLast() }
            let slash = folder.lastIndex(of: "/")
            let name = slash.map { folder[folder.index(after: $0)...] } ?? folder
            if name != "." { rest.insert(name, at: 0) }
            folder = slash.map { folder[...$0] } ?? ""
            while folder.count > 1, folder.last == "/" { folder.removeLast() }
        }
        guard folder.isEmpty, let here = realpath(".", nil) else { return "/" + rest.joined(separator: "/") }
        defer { free(here) }
        return ([String(cString: here)] + rest.map(String.init)).joined(separator: "/")
    }

    fileprivate static func entries(of folder: String) -> [String] {
        do throws(CheckpointError) { return try Provenance.folderEntries(folder) } catch { return [] }
    }
}

extension OutputCheck.Output {
    /// A token file by its specification: HDF5 is read back, the other formats are streams.
    public static func tokens(_ specification: String) -> Self {
        let path = TokenFile.path(of: specification)
        return path.hasSuffix(".h5") || path.hasSuffix(".hdf5") ? .file(path) : .stream(path)
    }
}

/// Which file a path leads to.
private struct FileIdentity: Hashable {
    private let device: dev_t
    private let inode: ino_t

    /// nil if there is nothing, and for a folder or a device.
    init?(_ path: String) {
        var status = stat()
        guard stat(path, &status) == 0, [S_IFREG, S_IFIFO].contains(status.st_mode & S_IFMT) else { return nil }
        (device, inode) = (status.st_dev, status.st_ino)
    }

    /// The type of what a path leads to, 0 for nothing.
    static func type(of path: String) -> mode_t {
        var status = stat()
        return stat(path, &status) == 0 ? status.st_mode & S_IFMT : 0
    }
}

/// The files that belong to a model of which one path is known, whatever its format.
private struct ModelFiles {
    private(set) var paths: [String] = []

    init(of path: String) {
        if FileIdentity.type(of: path) == S_IFDIR {
            collect(path, depth: 0)
            return
        }
        paths.append(path)
        let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
        paths += Self.companions.map { folder + $0 }
        // One part of several stands for all of them.
        let name = path.dropFirst(folder.count)
        guard let numbers = name.firstRange(of: "-of-") else { return }
        let stem = name[..<numbers.lowerBound].dropLast(5)
        for entry in OutputCheck.entries(of: folder.isEmpty ? "." : folder)
        where entry.hasPrefix(stem) && entry.contains("-of-") {
            paths.append(folder + entry)
        }
    }

    /// The folder of a model, or one above it such as a hub's cache.
    private mutating func collect(_ folder: String, depth: Int) {
        for entry in OutputCheck.entries(of: folder) {
            let path = "\(folder)/\(entry)"
            if Self.companions.contains(entry) || Self.weights.contains(where: entry.hasSuffix) {
                paths.append(path)
            } else if depth < 3, FileIdentity.type(of: path) == S_IFDIR {
                collect(path, depth: depth + 1)
            }
        }
    }

    /// What formats keep beside the weights.
    private static let companions = [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
        "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
    ]
    private static let weights = [".safetensors", ".safetensors.index.json", ".gguf", ".bin"]
}
