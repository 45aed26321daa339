import Checkpoints
import CommandSupport
import Tokenizers
import Training
import Transformer

/// The files of a run: read, cut, and remembered with their hashes.
struct Corpus {
    let data: TrainingData
    /// What the run file says of the files: their kind, and name, size and SHA-256 of each.
    let record: JSONObject

    init(
        _ options: CorpusOptions, tokenizer: TokenizerBlob?, tokenizerPath: String, settings: TrainingSettings,
        configuration: DecoderConfiguration
    ) throws {
        let tokenizer = try tokenizer.map { try makeTokenizer(from: $0, path: tokenizerPath) }
        var corpora: [TokenCorpus] = []
        for specification in options.tokens { corpora.append(try TokenCorpus(file: specification)) }
        if !options.text.isEmpty {
            guard let tokenizer else {
                throw InputError(
                    "\(tokenizerPath): no tokenizer to split --text with; give one with --tokenizer, or token ids with "
                        + "--tokens")
            }
            for path in options.text {
                corpora.append(TokenCorpus(name: path, ids: try tokenizer.encode(readText(path))))
            }
        }
        data = try TrainingData(
            corpora, sequenceLength: settings.sequenceLength, packing: settings.packing,
            separator: tokenizer?.eosID, evaluationFraction: settings.evaluationFraction, seed: settings.seed,
            vocabularySize: configuration.vocabularySize)
        let paths = options.tokens.map(TokenFile.path) + options.text
        record = JSONObject([
            ("data_kind", .string(options.text.isEmpty ? "tokens" : "text")),
            ("data_files", .array((options.tokens + options.text).map { .string($0) })),
            ("data_sha256", .array(try paths.map { .string(try Provenance.sha256($0)) })),
        ])
    }

    /// The files that a run file names; those given now, if any, stand in for them.
    static func options(of settings: JSONObject, given: CorpusOptions, path: String) throws -> CorpusOptions {
        guard !given.isOneKind else { return given }
        guard let files = settings["data_files"]?.arrayValue?.compactMap(\.stringValue), !files.isEmpty,
            let kind = settings["data_kind"]?.stringValue
        else {
            throw CheckpointError.invalid(
                path: path, place: "/training, settings, data_files", found: "nothing", expected: "names of files")
        }
        var options = given
        if kind == "text" { options.text = files } else { options.tokens = files }
        return options
    }

    /// Throws unless the files are those that the run has learnt from so far.
    func requireSame(as settings: JSONObject) throws {
        let (now, then) = (record["data_sha256"]?.text() ?? "", settings["data_sha256"]?.text() ?? "")
        guard now == then else {
            throw TrainingError.data(
                name: record["data_files"]?.arrayValue?.compactMap(\.stringValue).joined(separator: ", ") ?? "",
                found: "contents with the hashes \(now)",
                expected: "those that the run has learnt from: \(then). To go on with other texts, use `continue`")
        }
    }
}
