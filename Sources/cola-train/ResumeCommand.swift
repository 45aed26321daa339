import ArgumentParser
import Checkpoints
import CommandSupport
import Files
import Glibc
import JSON
import Training
import Transformer

struct ResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume",
        abstract: "Go on with an interrupted run as if it had never stopped, bit for bit.",
        discussion: """
            Takes a run's folder – then its newest checkpoint – or one of its checkpoints. Settings and data are those of the \
            run; files that were moved are given with --text or --tokens and must have the same contents.

            Example:
              cola-train resume runs/cola-60m
            """)

    @Argument(help: ArgumentHelp("Folder of a run, or one of its checkpoints.", valueName: "run"))
    var place: String

    @OptionGroup var input: CorpusOptions

    @Option(help: ArgumentHelp("The teacher, if it was moved.", valueName: "checkpoint"))
    var teacher: String?

    @OptionGroup var saving: SavingOptions
    @OptionGroup var consoleOptions: ConsoleOptions

    func validate() throws {
        guard input.isOneKind || (input.text.isEmpty && input.tokens.isEmpty) else {
            throw ValidationError("Give the data as either --text FILE… or --tokens FILE…, or leave both out.")
        }
    }

    func run() throws {
        let console = consoleOptions.console
        prepareNumerics(console)
        var status = stat()
        guard stat(place, &status) == 0 else { throw CheckpointError.missing(path: place) }
        let isFolder = status.st_mode & S_IFMT == S_IFDIR
        let folder = try RunFolder(existing: isFolder ? place : Self.folder(of: place))
        try OutputCheck(checkpoints: [teacher], files: input.paths)
            .require([.folder(folder.path, names: RunFolder.tableNames)])
        try folder.requireNobodyTrains()
        let path = isFolder ? try folder.newestCheckpoint() : place
        let (source, state) = try RunFile.read(path: path)
        let description = try ModelDescription(of: source)
        let provenance = try Self.provenance(of: source)
        let blob = try source.tokenizer()
        let trainer = try Self.blaming(path) {
            let settings = try TrainingSettings(state.settings, path: path)
            let corpus = try Corpus(
                Corpus.options(of: state.settings, given: input, path: path), tokenizer: (blob, path),
                settings: settings, description: description, console: console
            ) { try TextRules(state.settings, tokenizer: $0, path: path) }
            corpus.describe(console)
            try corpus.requireSame(as: state.settings)
            console.note("resuming \(path) after step \(state.step) of \(settings.schedule.totalSteps)")
            return try Trainer(
                resuming: source, description, data: corpus.data, settings: settings,
                teacher: TeacherOptions.load(
                    from: state.settings, given: teacher, for: description, path: path), state: state)
        }
        try TrainingRun(
            trainer: trainer, folder: folder, saving: saving, consoleOptions: consoleOptions,
            configuration: source.configuration ?? "{}", tokenizer: blob, provenance: provenance
        ).run()
    }

    /// Runs `body`, whose settings are all the file's: one that does not hold is the file's fault and no wrong usage.
    private static func blaming<Result>(_ path: String, _ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch TrainingError.setting(let name, let found, let expected) {
            throw CheckpointError.invalid(
                path: path, place: "/training, settings, \(name)", found: found, expected: expected)
        }
    }

    private static func provenance(of source: HDF5Checkpoint) throws -> JSONObject {
        guard let text = source.provenance else { return Provenance.tool() }
        guard let record = (try? JSONValue(parsing: text))?.objectValue else {
            throw CheckpointError.invalid(
                path: source.path, place: "attribute provenance", found: text, expected: "JSON text, an object")
        }
        return record
    }

    private static func folder(of path: String) -> String {
        path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    }
}
