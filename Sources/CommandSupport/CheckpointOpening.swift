import Checkpoints
import Glibc
import Tokenizers

/// Opens a checkpoint, and warns of what those should know who use it.
public func openCheckpoint(_ path: String, config: String? = nil) throws -> any TensorSource {
    let source = try Checkpoint.open(path, configurationPath: config)
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
        let source = try Checkpoint.openStored(checkpoint, configurationPath: config)
        warn(about: source)
        return source
    }
}

/// The tokenizer of a checkpoint of any format, of a folder that has one, or of a tokenizer file: a tokenizer.json, a
/// sentencepiece model, a llama2.c tokenizer.
public func readTokenizer(_ path: String) throws -> TokenizerBlob {
    var status = stat()
    if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
        if let blob = try Checkpoint.tokenizer(of: path) { return blob }
        throw InputError("\(path): holds neither tokenizer.json nor tokenizer.model")
    }
    let bytes = try readText(path)
    if let reason = MappedFile.pointer(bytes) { throw CheckpointError.unreadable(path: path, reason: reason) }
    let first = bytes.first { !" \n\r\t".utf8.contains($0) }
    if first == UInt8(ascii: "{") {
        return .tokenizerJSON(bytes)
    }
    do {
        guard let blob = try Checkpoint.tokenizer(of: path) else {
            throw InputError("\(path): no tokenizer in this checkpoint")
        }
        return blob
    } catch let error as CheckpointError {
        guard case .unreadable = error else { throw error }
        return try readTokenizerFile(path, bytes)
    }
}

/// One of the two binary formats of files that hold a tokenizer only.
private func readTokenizerFile(_ path: String, _ bytes: [UInt8]) throws -> TokenizerBlob {
    let blob = TokenizerBlob.sentencepiece(bytes)
    do {
        _ = try makeTokenizer(from: blob, path: path)
        return blob
    } catch {
        // Not a sentencepiece model; the other binary format says best what is wrong with it.
        return try Llama2CTokenizer.read(path)
    }
}
