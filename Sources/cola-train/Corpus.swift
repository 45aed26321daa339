import Checkpoints
import CommandSupport
import Files
import JSON
import TokenData
import Tokenizers
import Training
import Transformer

/// The files of a run: read, cut, and remembered with their hashes.
struct Corpus {
    let data: TrainingData
    private let rules: TextRules
    private let emptyRows: Int
    private let isPaddedLeft: Bool
    /// Texts that cannot be read a second time.
    private let readOnce: [String]
    /// What the run file says of the files: their kind, and name, size and SHA-256 of each.
    let record: JSONObject

    /// Reads the files. `rules` decides what counts as text, once the tokenizer is known.
    init(
        _ options: CorpusOptions, tokenizer: (blob: TokenizerBlob?, path: String), settings: TrainingSettings,
        description: ModelDescription, console: Console, rules: ((any Tokenizer)?) throws -> TextRules
    ) throws {
        let (blob, tokenizerPath) = tokenizer
        if let rows = description.positionRows, settings.sequenceLength > rows {
            throw InputError(
                "--sequence-length \(settings.sequenceLength): expected at most \(rows): the model has learned that many "
                    + "positions")
        }
        // Token ids need none: one that cannot be read has nothing to say about them.
        let tokenizer: (any Tokenizer)? =
            options.text.isEmpty
            ? blob.flatMap { try? makeTokenizer(from: $0, path: tokenizerPath) }
            : try blob.map { try makeTokenizer(from: $0, path: tokenizerPath) }
        let rules = try rules(tokenizer)
        var corpora: [TokenCorpus] = []
        for specification in options.tokens {
            corpora.append(try TokenCorpus(file: specification, padding: rules.padding, prefix: rules.prefix))
        }
        let texts = try TextInput.list(options.text, console)
        if !texts.isEmpty {
            guard let tokenizer else {
                throw InputError(
                    "\(tokenizerPath): no tokenizer to split --text with; give one with --tokenizer, or token ids with "
                        + "--tokens")
            }
            for path in texts {
                let ids = try tokenizer.encode(TextInput.read(path, console))
                corpora.append(TokenCorpus(name: TextInput.name(path), ids: ids, prefix: rules.prefix))
            }
        }
        if rules.needsRows, let padding = rules.padding, corpora.allSatisfy({ $0.rowLength == nil }) {
            throw InputError("\(corpora[0].name): --pad \(padding.id) goes with a 2-D file, this is one running text")
        }
        if settings.packing == .documents, rules.ends.isEmpty, !rules.allowsOneDocument,
            let running = corpora.first(where: { $0.rowLength == nil })
        {
            throw InputError(
                "\(running.name): --packing documents, but nothing says where a document ends: neither the tokenizer nor "
                    + "eos_token_id of the configuration; name the end token with --document-end")
        }
        data = try TrainingData(
            corpora,
            .init(
                sequenceLength: settings.sequenceLength, packing: settings.packing,
                separator: rules.separator, ends: rules.ends), evaluationFraction: settings.evaluationFraction,
            seed: settings.seed, vocabularySize: description.vocabularySize)
        self.rules = rules
        emptyRows = corpora.reduce(0) { $0 + ($1.paddedRows?.emptyRows ?? 0) }
        isPaddedLeft = corpora.contains { $0.paddedRows?.isLeft == true }
        readOnce = texts.filter(TextInput.wasReadOnce).map(TextInput.name)
        let paths = options.tokens.map(TokenFile.path) + texts
        record = JSONObject([
            ("data_kind", .string(options.text.isEmpty ? "tokens" : "text")),
            ("data_files", .array((options.tokens + texts).map { .string(TextInput.name($0)) })),
            ("data_sha256", .array(try paths.map { .string(try Provenance.sha256($0)) })),
            (TextRules.key, rules.json),
        ])
    }

    /// Says what was put in front of the texts and left out of them.
    func describe(_ console: Console) {
        if !readOnce.isEmpty {
            console.warn(
                "\(readOnce.joined(separator: ", ")): nothing keeps this text; to `resume` the run, the same must be given "
                    + "again with --text")
        }
        if rules.prefix.isEmpty {
            console.note("bos: none (--bos \(rules.bosRule.rawValue))")
        } else {
            let ids = rules.prefix.map { "\($0)" }.joined(separator: ", ")
            console.note("bos: \(ids) in front of each text (--bos \(rules.bosRule.rawValue))")
        }
        if !rules.ends.isEmpty {
            console.note("documents end in \(rules.ends.map { "\($0)" }.joined(separator: ", "))")
        }
        if let padding = rules.padding {
            console.note(
                "\(grouped(data.tokenCount)) tokens, \(grouped(data.paddingCount)) of padding (id \(padding.id)"
                    + "\(isPaddedLeft ? ", on the left" : "")) left out")
        }
        if emptyRows > 0 { console.warn("left out are \(grouped(emptyRows)) rows of padding only") }
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
        guard !files.contains(TextInput.standardInput) else {
            throw InputError(
                "\(path): the run has learnt from standard input, which nothing keeps; give the same text with --text FILE or "
                    + "--text -")
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
