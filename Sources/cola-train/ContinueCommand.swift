import ArgumentParser
import CommandSupport
import JSON
import LowRank
import Training
import Transformer

struct ContinueCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "continue",
        abstract: "Train a checkpoint on, from its weights alone.",
        discussion: """
            Dense and CoLA models alike. AdamW starts anew; a run that was interrupted goes on with `resume` instead. The run \
            is kept in a folder, as with `pretrain`.

            A checkpoint that cola-convert made of a dense one is healed: each factor is trained in units of its size, and with \
            --teacher the model learns the dense one's predictions besides the text.

            Example:
              cola-train continue smollm2-cola.h5 --teacher smollm2.h5 --text novel.txt \\
                --steps 200 --out runs/healed
            """)

    @OptionGroup var checkpoint: CheckpointOptions
    @OptionGroup var teacher: TeacherOptions
    @OptionGroup var data: DataOptions
    @OptionGroup var tokenizer: TokenizerOptions
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
        if recipe.steps == nil { throw ValidationError("Give the number of steps with --steps.") }
    }

    func run() throws {
        let console = consoleOptions.console
        prepareNumerics(console)
        try OutputCheck(
            checkpoints: [checkpoint.checkpoint, teacher.teacher],
            files: [checkpoint.config, tokenizer.tokenizer] + data.input.paths
        ).require([.folder(out, names: RunFolder.tableNames)])
        let source = try checkpoint.open()
        let description = try ModelDescription(of: source)
        let masters = try ModelWeights(from: source, description)
        let isConverted = source.configurationValues?[RankPlan.convertedKey]?.boolValue == true
        let teacher = try teacher.load(for: description)
        var settings = try recipe.settings(
            data: data, defaults: (1e-4, 0, 0, 1), weights: masters,
            unitsBySize: self.teacher.factorRates.map { $0 == .size } ?? isConverted)
        settings.rankTracking = try ranks.tracking(of: description)
        settings.teacherShare = teacher == nil ? 0 : self.teacher.share
        let blob = try tokenizer.blob(of: source)
        let special = SpecialIDs(of: source)
        let corpus = try Corpus(
            data.input, tokenizer: (special.completing(blob), tokenizer.tokenizer ?? source.path), settings: settings,
            description: description, console: console
        ) { try TextRules(data, tokenizer: $0, special, vocabulary: description.vocabularySize) }
        corpus.describe(console)
        var provenance = Provenance.tool()
        provenance["seed"] = .string("\(recipe.seed)")
        provenance["data"] = .object(corpus.record)
        let record = JSONObject(corpus.record.members + (teacher?.record.members ?? []))
        if let teacher { provenance["teacher"] = .object(teacher.record) }
        provenance["source"] = try Provenance.input(checkpoint.checkpoint)
        if let text = source.provenance {
            provenance["source_provenance"] = (try? JSONValue(parsing: text)) ?? .string(text)
        }
        let trainer = try Trainer(
            masters: masters, data: corpus.data, settings: settings,
            teacher: teacher?.model, record: record)
        try TrainingRun(
            trainer: trainer, folder: RunFolder(creating: out), saving: saving, consoleOptions: consoleOptions,
            configuration: source.configuration ?? "{}", tokenizer: blob, provenance: provenance
        ).run()
    }
}
