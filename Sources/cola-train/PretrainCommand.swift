import ArgumentParser
import Checkpoints
import CommandSupport
import JSON
import LowRank
import Training
import Transformer

struct PretrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pretrain",
        abstract: "Train a dense or CoLA model from nothing.",
        discussion: """
            Defaults are the paper's: initialisation, AdamW, clipping, warm-up and cosine, 512 sequences of 256 tokens a step. \
            The run is kept in a folder: checkpoints step-….h5, metrics.csv and metrics.jsonl. Ctrl-C saves and stops; \
            `resume` goes on, bit for bit.

            Example:
              cola-train pretrain --preset 60m --model cola --tokenizer t5.model --text corpus.txt --out runs/cola-60m
            """)

    @Option(help: "Shapes and recipe of the paper: tiny, 60m, 130m, 350m, 1b or 7b.")
    var preset = ModelPreset.size60m

    @Option(help: ArgumentHelp("config.json with other shapes; the recipe stays the preset's.", valueName: "file"))
    var config: String?

    @Option(
        help: ArgumentHelp(
            "Shapes, ranks and tokenizer of this checkpoint, but first weights: a converted model's layout, trained from "
                + "nothing. The recipe stays the preset's.", valueName: "checkpoint"))
    var like: String?

    @Option(help: "Projections: dense or cola.")
    var model = ModelKind.cola

    @Option(
        help: ArgumentHelp(
            "Width of CoLA's bottlenecks (default: the preset's, or a quarter of the hidden size).", valueName: "count")
    )
    var rank: Int?

    @Option(
        help: ArgumentHelp(
            "Where CoLA's σ stands: both, inner, reduced or original (default: the paper's for the size).",
            valueName: "placement"))
    var activation: ActivationPlacement?

    @Option(
        help: ArgumentHelp(
            "Tokenizer: tokenizer.json, a sentencepiece model, or a checkpoint that has one.", valueName: "file"))
    var tokenizer: String?

    @OptionGroup var rule: PreTokenizerOptions

    @Option(help: ArgumentHelp("Rows of the embedding (default: the tokenizer's ids, or 32000).", valueName: "count"))
    var vocabulary: Int?

    @OptionGroup var data: DataOptions
    @OptionGroup var recipe: RecipeOptions
    @OptionGroup var ranks: RankTrackingOptions
    @OptionGroup var saving: SavingOptions

    @Option(help: ArgumentHelp("Folder for the run.", valueName: "folder"))
    var out: String

    @OptionGroup var consoleOptions: ConsoleOptions

    func validate() throws {
        guard data.input.isOneKind else {
            throw ValidationError("Give the data as either --text FILE… or --tokens FILE….")
        }
        if let rank, rank < 1 { throw ValidationError("--rank \(rank): expected at least 1.") }
        if rank != nil || activation != nil, model == .dense {
            throw ValidationError("--rank and --activation are for --model cola.")
        }
        if let vocabulary, vocabulary < 2 { throw ValidationError("--vocabulary \(vocabulary): expected at least 2.") }
        if like != nil,
            config != nil || model != .cola || rank != nil || activation != nil || vocabulary != nil || tokenizer != nil
        {
            throw ValidationError(
                "--config, --model, --rank, --activation, --vocabulary, --tokenizer: the checkpoint of --like says them."
            )
        }
        if rule.preTokenizer != nil, tokenizer == nil, like == nil {
            throw ValidationError("--pre-tokenizer goes with --tokenizer or --like.")
        }
        if config != nil, vocabulary != nil { throw ValidationError("--vocabulary: the file of --config says it.") }
    }

    func run() throws {
        let console = consoleOptions.console
        prepareNumerics(console)
        try OutputCheck(checkpoints: [like, tokenizer], files: [config] + data.input.paths)
            .require([.folder(out, names: RunFolder.tableNames)])
        let (text, description, masters, blob) = try like.map(start(like:)) ?? start()
        let preset = preset.recipe
        var settings = try recipe.settings(
            data: data, defaults: (preset.learningRate, preset.steps, preset.warmupSteps, 64), weights: masters)
        settings.rankTracking = try ranks.tracking(of: description)
        let special = SpecialIDs((try? JSONValue(parsing: text))?.objectValue, path: like ?? config ?? "--text")
        let corpus = try Corpus(
            data.input, tokenizer: (special.completing(blob), tokenizer ?? like ?? "--text"),
            settings: settings, description: description, console: console
        ) { try TextRules(data, tokenizer: $0, special, vocabulary: description.vocabularySize) }
        corpus.describe(console)
        var provenance = Provenance.tool()
        provenance["seed"] = .string("\(recipe.seed)")
        provenance["data"] = .object(corpus.record)
        let trainer = try Trainer(
            masters: masters, data: corpus.data, settings: settings, record: corpus.record)
        try TrainingRun(
            trainer: trainer, folder: RunFolder(creating: out), saving: saving, consoleOptions: consoleOptions,
            configuration: text, tokenizer: blob, provenance: provenance
        ).run()
    }

    private typealias Start = (
        text: String, description: ModelDescription, masters: ModelWeights, tokenizer: TokenizerBlob?
    )

    private func start() throws -> Start {
        let blob = try tokenizer.map { try rule.tokenizer(at: $0) }
        let (text, description) = try modelConfiguration(
            tokenizerSize: try blob.map {
                try checkTokenizer($0, path: tokenizer ?? "")
            })
        let masters = ModelWeights(description.with(rank: rank(of: description)), seed: recipe.seed)
        return (text, description, masters, blob)
    }

    private func start(like path: String) throws -> Start {
        let source = try openCheckpoint(path)
        let description = try ModelDescription(of: source)
        try ModelWeights.checkNames(of: source, description)
        var values = source.configurationValues ?? [:]
        // First weights are no factors of a dense model's.
        values[RankPlan.convertedKey] = nil
        let masters = ModelWeights(description, seed: recipe.seed)
        return (
            JSONValue.object(values).text(indent: 2, writesNonFinite: true), description, masters,
            try rule.completing(source.tokenizer(), path: path)
        )
    }

    private func rank(of description: ModelDescription) -> Int? {
        guard model == .cola else { return nil }
        return rank ?? (config == nil ? preset.rank : max(1, description.hiddenSize / 4))
    }

    /// The text of config.json and what it says.
    private func modelConfiguration(tokenizerSize: Int?) throws -> (String, ModelDescription) {
        var values: JSONObject
        if let config {
            let text = String(decoding: try readText(config), as: UTF8.self)
            let checked = try ModelDescription(json: text, path: config)
            if let tokenizerSize, tokenizerSize > checked.vocabularySize {
                throw InputError(
                    "\(tokenizer ?? ""): a tokenizer of \(tokenizerSize) ids, expected at most vocab_size "
                        + "\(checked.vocabularySize) of \(config)")
            }
            values = (try? JSONValue(parsing: text, allowsNonFinite: true))?.objectValue ?? JSONObject([])
        } else {
            let rows = vocabulary ?? tokenizerSize ?? 32000
            if let tokenizerSize, tokenizerSize > rows {
                throw InputError(
                    "\(tokenizer ?? ""): a tokenizer of \(tokenizerSize) ids, expected at most --vocabulary \(rows)")
            }
            values = preset.configuration(vocabulary: rows)
        }
        let path = config ?? preset.rawValue
        if model == .cola {
            let shapes = try ModelDescription(
                json: JSONValue.object(values).text(writesNonFinite: true), path: path)
            let placement = activation ?? (config == nil ? preset.placement : shapes.placement)
            values = values.withLowRank(rank(of: shapes) ?? 1, placement)
        }
        let text = JSONValue.object(values).text(indent: 2, writesNonFinite: true)
        return (text, try ModelDescription(json: text, path: path))
    }
}
