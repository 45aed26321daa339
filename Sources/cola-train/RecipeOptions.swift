import ArgumentParser
import CommandSupport
import TokenData
import Training
import Transformer

/// The texts to learn from and how they are cut.
struct DataOptions: ParsableArguments {
    @OptionGroup var input: CorpusOptions

    @OptionGroup var sequenceOptions: SequenceOptions

    @Option(help: ArgumentHelp("Tokens of a sequence.", valueName: "count"))
    var sequenceLength = 256

    @Option(
        help: ArgumentHelp(
            "packed: windows over all texts in a row; documents: each text, row of a 2-D file, or stretch between end tokens by itself.",
            valueName: "packing"))
    var packing = Packing.packed

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Ids that end documents (default: the tokenizer's end token and eos_token_id of the configuration).",
            valueName: "id"))
    var documentEnd: [IDList] = []

    @Option(
        help: ArgumentHelp(
            "Part of the sequences that is held out for evaluation, chosen by the seed.", valueName: "fraction"))
    var evaluationFraction = 0.01

    @Option(help: ArgumentHelp("Evaluate after every so many steps (default: at the end only).", valueName: "steps"))
    var evaluateEvery = 0

    @Option(help: ArgumentHelp("Sequences of an evaluation at most.", valueName: "count"))
    var evaluationSequences = 256

    /// Number of files.
    var inputs: Int { input.paths.count }

    func validate() throws {
        try sequenceOptions.validate(hasText: !input.text.isEmpty, hasTokens: !input.tokens.isEmpty)
        if !documentEnd.isEmpty, packing == .packed, inputs < 2 {
            throw ValidationError("--document-end: one text that is packed is not divided; see --packing documents.")
        }
    }
}

/// Files of text or tokens.
struct CorpusOptions: ParsableArguments {
    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Texts (UTF-8), split by the model's tokenizer: files, folders for the .txt files in them, - for standard input.",
            valueName: "file"))
    var text: [String] = []

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Token ids instead: .npy, .u16 or .u32, which may be larger than memory, or file.h5:/path/to/dataset.",
            valueName: "file"))
    var tokens: [String] = []

    /// The files, without names of datasets.
    var paths: [String] { TextInput.paths(text) + tokens.map(TokenFile.path) }

    /// Whether there is exactly one kind of input.
    var isOneKind: Bool { text.isEmpty != tokens.isEmpty }

    func validate() throws { try TextInput.validate(text) }
}

/// Optimiser, schedule and pass. Where a command has its own default, the option here is nil.
struct RecipeOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Steps of the optimiser (default: the preset's recipe).", valueName: "count"))
    var steps: Int?

    @Option(help: ArgumentHelp("Sequences that go through the model at a time.", valueName: "count"))
    var batch = 8

    @Option(
        help: ArgumentHelp("Batches that make one step (default: 64 for pretrain, 1 for continue).", valueName: "count")
    )
    var accumulate: Int?

    @Option(
        help: ArgumentHelp("Peak learning rate (default: the preset's recipe; 1e-4 for continue).", valueName: "rate"))
    var learningRate: Double?

    @Option(
        help: ArgumentHelp(
            "Steps of linear warm-up (default: the recipe's; a tenth of the steps if --steps is given).",
            valueName: "count"))
    var warmup: Int?

    @Option(help: "After warm-up: cosine, linear or constant.")
    var schedule = LearningRateSchedule.Shape.cosine

    @Option(help: ArgumentHelp("Last learning rate as a part of the peak.", valueName: "fraction"))
    var floor = 0.1

    @Option(help: ArgumentHelp("AdamW's weight decay, on every parameter.", valueName: "decay"))
    var weightDecay = 0.01

    @Flag(help: "No weight decay on norms and biases.")
    var noVectorDecay = false

    @Option(help: ArgumentHelp("AdamW's β₁.", valueName: "beta"))
    var beta1 = 0.9

    @Option(help: ArgumentHelp("AdamW's β₂.", valueName: "beta"))
    var beta2 = 0.999

    @Option(
        name: .customLong("group"),
        help: ArgumentHelp(
            "Parameters with their own learning rate and decay, as PATTERN=FACTOR[,DECAY]; * in a pattern is any text. Repeatable.",
            valueName: "group"))
    var groups: [String] = []

    @Option(help: ArgumentHelp("Largest gradient norm; 0 does not clip.", valueName: "norm"))
    var clip = 0.5

    @Option(help: ArgumentHelp("Order of the data, and first weights.", valueName: "number"))
    var seed: UInt64 = 0

    @Option(help: ArgumentHelp("Give up after so many steps in a row that are not finite.", valueName: "count"))
    var skipLimit = 10

    @OptionGroup var pass: PassOptions

    /// The settings of a run, with a command's defaults.
    func settings(
        data: DataOptions, defaults: (learningRate: Double, steps: Int, warmupSteps: Int, accumulation: Int),
        weights: ModelWeights, unitsBySize: Bool = false
    ) throws -> TrainingSettings {
        let total = steps ?? defaults.steps
        let schedule = try LearningRateSchedule(
            peak: learningRate ?? defaults.learningRate,
            warmupSteps: warmup ?? (steps == nil ? defaults.warmupSteps : total / 10), totalSteps: total,
            shape: schedule, floor: floor)
        var groups = unitsBySize ? ParameterGroup.bySize(of: weights) : []
        if noVectorDecay { groups += ParameterGroup.withoutDecayOfVectors(in: weights) }
        groups += try self.groups.map(Self.group)
        var settings = TrainingSettings(
            schedule: schedule,
            optimizer: AdamW.Settings(
                learningRate: schedule.peak, beta1: beta1, beta2: beta2, weightDecay: weightDecay, groups: groups))
        settings.sequenceLength = data.sequenceLength
        settings.batch = batch
        settings.accumulation = accumulate ?? defaults.accumulation
        settings.packing = data.packing
        settings.evaluationFraction = data.evaluationFraction
        settings.evaluationInterval = data.evaluateEvery
        settings.evaluationSequences = data.evaluationSequences
        settings.seed = seed
        settings.clip = clip
        settings.skipLimit = skipLimit
        settings.memory = pass.memory
        settings.precision = pass.precision.precision
        try settings.validate()
        return settings
    }

    private static func group(_ text: String) throws -> ParameterGroup {
        let parts = text.split(separator: "=", maxSplits: 1)
        let numbers = parts.count == 2 ? parts[1].split(separator: ",").map { Double($0) } : []
        guard parts.count == 2, (1...2).contains(numbers.count), let factor = numbers[0],
            numbers.count == 1 || numbers[1] != nil
        else {
            throw TrainingError.setting(
                name: "group", found: text, expected: "PATTERN=FACTOR or PATTERN=FACTOR,DECAY, such as *embed*=0.5,0")
        }
        return ParameterGroup(
            pattern: String(parts[0]), learningRateFactor: factor, weightDecay: numbers.count == 2 ? numbers[1] : nil)
    }
}

/// Where a run is kept, and how often it is saved.
struct SavingOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Save a checkpoint after every so many steps.", valueName: "steps"))
    var saveEvery = 500

    @Option(help: ArgumentHelp("Save a checkpoint after every so many minutes, too.", valueName: "minutes"))
    var saveMinutes = 30.0

    @Option(help: ArgumentHelp("Checkpoints to keep, the newest ones.", valueName: "count"))
    var keep = 2

    func validate() throws {
        if saveEvery < 1 { throw ValidationError("--save-every \(saveEvery): expected at least 1.") }
        if keep < 1 { throw ValidationError("--keep \(keep): expected at least 1.") }
        if !(saveMinutes > 0) { throw ValidationError("--save-minutes \(saveMinutes): expected a number above 0.") }
    }
}
