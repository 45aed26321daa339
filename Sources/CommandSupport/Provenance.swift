import CCrypto
import CKernels
import COneDNN
import Checkpoints
import Files
import Glibc
import JSON
import LinearAlgebra
import Tensors

/// Where a result came from: what every output file carries.
public enum Provenance {
    /// Version of the tools.
    public static let version = "0.1.0"

    /// Tool, version and command line, and, of a tool that computes, the kernels and libraries that did the arithmetic.
    public static func tool(withKernels hasKernels: Bool = true) -> JSONObject {
        var record = JSONObject([
            ("tool", .string(commandName)), ("version", .string(version)),
            ("command_line", .array(CommandLine.arguments.map { .string($0) })),
        ])
        if hasKernels { record["kernels"] = .object(kernels()) }
        return record
    }

    public static func kernels() -> JSONObject {
        let dnnl = Int(conednn_version())
        let loops = String(cString: ck_instruction_set_name(ck_current_instruction_set()))
        return JSONObject([
            ("onednn", .string("\(dnnl / 10000).\(dnnl / 100 % 100).\(dnnl % 100)")),
            ("openblas", .string(OpenBLAS.kernel)), ("moments", .string(loops)),
            ("threads", .integer(ThreadPool.threads)),
        ])
    }

    public static var commandName: String {
        String((CommandLine.arguments.first ?? "cola").split(separator: "/").last ?? "cola")
    }

    /// Path, size and SHA-256 of an input; of a folder, of each file directly in it that is not hidden; of a model in
    /// several files, of each of them.
    public static func input(_ path: String) throws(CheckpointError) -> JSONValue {
        if let kept = ReadOnce.record(path) {
            return [
                "path": .string(TextInput.name(path)), "bytes": .integer(kept.bytes), "sha256": .string(kept.sha256),
            ]
        }
        let parts = Checkpoint.files(of: path)
        if parts.count > 1 { return ["path": .string(path), "files": .array(try parts.map(file))] }
        return try file(path)
    }

    private static func file(_ path: String) throws(CheckpointError) -> JSONValue {
        var status = stat()
        guard stat(path, &status) == 0 else { throw .missing(path: path) }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            let digest = try sha256(path)
            return [
                "path": .string(path), "bytes": .integer(Int(status.st_size)), "sha256": .string(digest),
            ]
        }
        var files: [JSONValue] = []
        let folder = try HubCache.snapshot(of: path)
        for name in try folderEntries(folder) where !name.hasPrefix(".") {
            let file = "\(folder)/\(name)"
            if stat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG { files.append(try self.file(file)) }
        }
        return ["path": .string(path), "files": .array(files)]
    }

    /// SHA-256 of a model: of its file, or – names and contents – of a folder's configuration, index and weights, or of all
    /// its files if it is in several.
    public static func modelDigest(_ path: String) throws(CheckpointError) -> String {
        var status = stat()
        guard stat(path, &status) == 0 else { throw MappedFile.absence(of: path) }
        var files = Checkpoint.files(of: path)
        if status.st_mode & S_IFMT == S_IFDIR {
            let folder = try HubCache.snapshot(of: path)
            files = try folderEntries(folder).filter {
                $0 == "config.json" || $0.hasSuffix(".safetensors") || $0 == "model.safetensors.index.json"
            }.map { "\(folder)/\($0)" }
        } else if files.count == 1 {
            return try sha256(path)
        }
        var lines = ""
        for file in files {
            lines += "\(file.split(separator: "/").last ?? "") \(try sha256(file))\n"
        }
        return sha256(of: Array(lines.utf8))
    }

    /// Names in a folder, sorted.
    public static func folderEntries(_ path: String) throws(CheckpointError) -> [String] {
        guard let folder = opendir(path) else {
            throw .unreadable(path: path, reason: String(cString: strerror(errno)))
        }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// SHA-256 of a file, in hexadecimal.
    public static func sha256(_ path: String) throws(CheckpointError) -> String {
        if let kept = ReadOnce.record(path) { return kept.sha256 }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .unreadable(path: path, reason: String(cString: strerror(errno))) }
        defer { close(descriptor) }
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL)
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        EVP_DigestInit_ex(context, EVP_sha256(), nil)
        let buffer = Tensor<UInt8>(uninitialized: [1 << 20])
        while true {
            let count = read(descriptor, buffer.pointer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw .unreadable(path: path, reason: String(cString: strerror(errno))) }
            if count == 0 { break }
            EVP_DigestUpdate(context, buffer.pointer, count)
        }
        return finish(context)
    }

    /// SHA-256 of bytes in memory, in hexadecimal.
    static func sha256(of bytes: [UInt8]) -> String {
        let context = EVP_MD_CTX_new()
        defer { EVP_MD_CTX_free(context) }
        EVP_DigestInit_ex(context, EVP_sha256(), nil)
        EVP_DigestUpdate(context, bytes, bytes.count)
        return finish(context)
    }

    private static func finish(_ context: OpaquePointer?) -> String {
        var digest = [UInt8](repeating: 0, count: 32)
        EVP_DigestFinal_ex(context, &digest, nil)
        return hexadecimal(digest)
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
