import Files
import Glibc

/// Opens checkpoints of every format that is read.
public enum Checkpoint {
    /// Opens a file or folder by what it holds, whatever its name, as a model: of a head and an embedding that the
    /// configuration ties, what is stored counts (see `TiedSource`).
    ///
    /// - Parameters:
    ///   - path: a Hugging Face folder, or that of a hub's cache around its snapshot; a safetensors, GGUF, HDF5 or llama2.c
    ///     file.
    ///   - configurationPath: a config.json for formats that keep the configuration outside (Hugging Face, HDF5); given
    ///     for another format it is an error, because it would be ignored.
    ///   - architectures: of the GGUF files that are read. The families of the library Transformer list theirs, and its
    ///     `openModel` knows all of them, and the families' own names in other formats.
    /// - Throws: `CheckpointError.missing` or `.brokenLink` if there is nothing, `.unreadable` naming the formats understood
    ///   for anything else, and what the format's reader finds wrong.
    public static func open(
        _ path: String, configurationPath: String? = nil, architectures: [GGUFArchitecture] = []
    ) throws -> any TensorSource {
        TiedSource.resolving(
            try openStored(path, configurationPath: configurationPath, architectures: architectures))
    }

    /// The same without a look at weights: tensors and configuration as they are stored.
    public static func openStored(
        _ path: String, configurationPath: String? = nil, architectures: [GGUFArchitecture] = []
    ) throws -> any TensorSource {
        var status = stat()
        guard stat(path, &status) == 0 else { throw MappedFile.absence(of: path) }
        if status.st_mode & S_IFMT == S_IFDIR {
            return try HuggingFaceFolder(path: HubCache.snapshot(of: path), configurationPath: configurationPath)
        }
        let file = try MappedFile(path)
        let bytes = file.bytes
        if isHDF5(bytes) { return try HDF5Checkpoint(path: path, configurationPath: configurationPath) }
        if isSafetensors(bytes) { return try HuggingFaceFolder(path: path, configurationPath: configurationPath) }
        let isGGUF = bytes.starts(with: GGUFReader.magic)
        if configurationPath != nil, isGGUF || Llama2CFile.fits(bytes) {
            throw CheckpointError.unreadable(
                path: path,
                reason: "carries its configuration in the file, so that \(configurationPath ?? "") would be ignored")
        }
        if isGGUF { return try GGUFFile(file, architectures: architectures) }
        if Llama2CFile.fits(bytes) { return try Llama2CFile(file) }
        throw CheckpointError.unreadable(path: path, reason: unknown(bytes))
    }

    /// The files of a model of which one is given: the parts of a divided GGUF file that are there, otherwise that one.
    public static func files(of path: String) -> [String] { GGUFParts.paths(of: path) ?? [path] }

    /// The tokenizer that a checkpoint carries, or a folder in which there is nothing else; of a GGUF file, which may hold
    /// a vocabulary only or a model of any family, no more than that is read. Nil if there is none.
    ///
    /// Throws as `open` does, and for a tokenizer that is damaged.
    public static func tokenizer(of path: String) throws -> TokenizerBlob? {
        var status = stat()
        guard stat(path, &status) == 0 else { throw MappedFile.absence(of: path) }
        if status.st_mode & S_IFMT == S_IFDIR {
            return try HuggingFaceFolder.tokenizer(in: HubCache.snapshot(of: path))
        }
        let file = try MappedFile(path)
        guard file.bytes.starts(with: GGUFReader.magic) else { return try openStored(path).tokenizer() }
        return try GGUFTokenizer(GGUFParts(file).readers[0], path: path).blob()
    }

    /// The signature may stand behind a user block, whose size is a power of two from 512 bytes on.
    private static func isHDF5(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let signature: [UInt8] = [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]
        var place = 0
        while place <= bytes.count - signature.count {
            if bytes[place..<place + signature.count].elementsEqual(signature) { return true }
            place = place == 0 ? 512 : place * 2
        }
        return false
    }

    /// A header of plausible length that begins as JSON. A length beyond the file counts as well: such a file is one cut
    /// short, which the reader says.
    private static func isSafetensors(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= 10, bytes[8] == UInt8(ascii: "{") else { return false }
        return bytes.loadUnaligned(as: UInt64.self) <= 100_000_000
    }

    private static func unknown(_ bytes: UnsafeRawBufferPointer) -> String {
        let formats =
            "understood are HDF5, GGUF, safetensors and llama2.c files and Hugging Face folders"
        if bytes.isEmpty { return "is empty; \(formats)" }
        if bytes.starts(with: Array("PK\u{3}\u{4}".utf8)) || bytes.starts(with: [0x80, 0x02]) {
            return "is a pickled PyTorch file, which is not read because unpickling runs code; \(formats)"
        }
        if bytes.starts(with: [0x32, 0x34, 0x6B, 0x61]) {
            return "is a llama2.c file of a later version; only the first layout (version 0) is read; \(formats)"
        }
        return "is of no known format; \(formats)"
    }
}
