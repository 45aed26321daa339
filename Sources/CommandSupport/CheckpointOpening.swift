import Checkpoints
import Files
import Glibc
import Tokenizers
import Transformer

/// Opens a checkpoint, and warns of what those should know who use it.
public func openCheckpoint(_ path: String, config: String? = nil) throws -> any TensorSource {
    let source = try openModel(path, configurationPath: config)
    warn(about: source)
    return source
}

/// The warnings of a source, the first ones if they are many.
func warn(about source: any TensorSource) {
    let console = Console(isQuiet: false)
    let warnings = source.warnings
    let shown = warnings.count > 6 ? 5 : warnings.count
    for warning in warnings.prefix(shown) { console.warn(warning) }
    if warnings.count > shown { console.warn("\(source.path): and \(warnings.count - shown) more of that kind") }
}

extension CheckpointOptions {
    /// Opens the checkpoint as it is stored, without a look at its weights, and warns as `open` does.
    public func openStored() throws -> any TensorSource {
        let source = try openStoredModel(checkpoint, configurationPath: config)
        warn(about: source)
        return source
    }
}

extension StoredTensors {
    /// What is kept of a source by a command that writes it anew, in the source's order: parameters, and whatever else
    /// can be read.
    public func inOrder(of source: any TensorSource) -> [TensorInfo] {
        let names = Set((parameters + others).map(\.name))
        return source.tensors.filter { names.contains($0.name) }
    }

    /// Says which tensors such a command has to leave out.
    public func warnOfUnreadable(_ source: any TensorSource, _ console: Console) {
        for info in unreadable { console.warn("\(source.path): \(info.name) is left out: \(info.obstacle ?? "")") }
    }
}

/// The tokenizer of a checkpoint of any format, of a folder that has one, or of a tokenizer file: a tokenizer.json, a
/// sentencepiece model, a llama2.c tokenizer. The first two come with what the tokenizer_config.json beside them says.
public func readTokenizer(_ path: String) throws -> TokenizerBlob {
    var status = stat()
    if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
        if let blob = try Checkpoint.tokenizer(of: path) { return blob }
        throw InputError("\(path): holds neither tokenizer.json nor tokenizer.model")
    }
    let file = try MappedFile(path)
    if file.bytes.first(where: { !" \n\r\t".utf8.contains($0) }) == UInt8(ascii: "{") {
        return TokenizerBlob(.tokenizerJSON(Array(file.bytes)), settings: try TokenizerSettings.beside(path))
    }
    let found: TokenizerBlob?
    do {
        found = try Checkpoint.tokenizer(of: path)
    } catch CheckpointError.unreadable {
        return try readTokenizerFile(path, file)
    }
    guard let found else { throw InputError("\(path): no tokenizer in this checkpoint") }
    return found
}

/// One of the two binary formats of files that hold a tokenizer only.
private func readTokenizerFile(_ path: String, _ file: MappedFile) throws -> TokenizerBlob {
    let blob = TokenizerBlob(.sentencepiece(Array(file.bytes)), settings: try TokenizerSettings.beside(path))
    do {
        _ = try makeTokenizer(from: blob, path: path)
        return blob
    } catch {
        // Not a sentencepiece model; the other binary format says best what is wrong with it.
        return try Llama2CTokenizer.read(path)
    }
}
