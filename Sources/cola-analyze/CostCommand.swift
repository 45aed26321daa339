import ArgumentParser
import Checkpoints
import CommandSupport
import CostModel
import Files
import JSON
import LowRank
import Training
import Transformer
import Workflows

struct CostCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cost",
        abstract: "What training a model costs in FLOPs and memory, by the paper's formulas, for CoLA and its rivals.",
        discussion: """
            For one of the paper's models, or for the shapes of a checkpoint, whose ranks are read from it if it is a CoLA \
            model: parameters, FLOPs and memory of one training step at full rank, with gradient checkpointing (gcp), and \
            for CoLA, CoLA-M, LoRA, ReLoRA, GaLore and SLTrain. Weights are not looked at, but for the plan's fingerprint.

            With --measure this toolkit trains some steps with random weights, dense and CoLA, keeping everything and less, \
            and what it takes is set against formulas for its own engine.

            Example:
              cola-analyze cost --preset 1b --batch 16 --out costs.csv
              cola-analyze cost smollm2.h5 --plan plan.json
              cola-analyze cost --preset 60m --batch 8 --measure
            """)

    @Argument(help: "Checkpoint of any format; only its shapes and ranks count.")
    var checkpoint: String?

    @Option(help: ArgumentHelp("config.json for a checkpoint that carries none.", valueName: "file"))
    var config: String?

    @Option(help: "Shapes of the paper instead of a checkpoint: tiny, 60m, 130m, 350m, 1b or 7b.")
    var preset: ModelPreset?

    @Option(help: ArgumentHelp("Rows of a preset's embedding (default: 32000).", valueName: "count"))
    var vocabulary: Int?

    @Option(
        help: ArgumentHelp(
            "The same rank in all linear layers (default: the preset's, or a quarter of the hidden size).",
            valueName: "count"))
    var rank: Int?

    @Option(help: ArgumentHelp("Ranks by `cola-analyze ranks` for the checkpoint, maybe edited.", valueName: "file"))
    var plan: String?

    @Option(help: ArgumentHelp("Sequences of a step.", valueName: "count"))
    var batch = 1

    @Option(help: ArgumentHelp("Tokens of a sequence.", valueName: "count"))
    var sequenceLength = 256

    @Option(
        help: "Numbers of 4 bytes (f32) or 2 (bf16, as in the paper's runs); with --measure what products compute with."
    )
    var precision = Precision.f32

    @Option(
        help: "What attention keeps: standard, all scores as in the paper, or tiled, none, as this toolkit's does.")
    var attention = TrainingStep.Attention.standard

    @Option(help: "Pairs of tokens that attention computes: all, as the paper counts, or causal.")
    var pairs = TrainingStep.Pairs.all

    @Option(help: ArgumentHelp("Share of SLTrain's sparse matrix that is not zero.", valueName: "share"))
    var sparseDensity = 0.03

    @Option(name: .long, help: ArgumentHelp("The .csv file to write.", valueName: "file"))
    var out: String?

    @Flag(help: "Measure steps of this toolkit's engine as well.")
    var measure = false

    @Option(
        help: ArgumentHelp(
            "Measure a model of fewer layers than it has; layers cost the same.", valueName: "count"))
    var layers: Int?

    @Option(help: ArgumentHelp("Steps to measure, after one that does not count (default: 3).", valueName: "count"))
    var steps: Int?

    @OptionGroup var consoleOptions: ConsoleOptions

    func validate() throws {
        guard (checkpoint == nil) != (preset == nil) else {
            throw ValidationError("Give the model as either a checkpoint or --preset.")
        }
        if checkpoint == nil, config != nil || plan != nil {
            throw ValidationError("--config and --plan are for a checkpoint.")
        }
        if checkpoint != nil, vocabulary != nil { throw ValidationError("--vocabulary: the checkpoint says it.") }
        if rank != nil, plan != nil { throw ValidationError("--rank and --plan: expected one way to choose ranks.") }
        if !measure, layers != nil || steps != nil { throw ValidationError("--layers and --steps are for --measure.") }
        for (name, value, least) in [
            ("--vocabulary", vocabulary, 2), ("--rank", rank, 1), ("--batch", batch, 1),
            ("--sequence-length", sequenceLength, measure ? 2 : 1), ("--layers", layers, 1), ("--steps", steps, 1),
        ] {
            if let value, value < least { throw ValidationError("\(name) \(value): expected at least \(least).") }
        }
        if !(sparseDensity >= 0 && sparseDensity <= 1) {
            throw ValidationError("--sparse-density \(sparseDensity): expected 0 to 1.")
        }
    }

    func run() throws {
        let console = consoleOptions.console
        // Formulas alone need no libraries.
        if measure { prepareNumerics(console) }
        try OutputCheck(checkpoints: [checkpoint], files: [config, plan]).require(out.map { [.stream($0)] } ?? [])
        let (name, model) = try model()
        var step = try TrainingStep(batch: batch, sequenceLength: sequenceLength, sparseDensity: sparseDensity)
        step.attention = attention
        step.pairs = pairs
        step.precision = precision
        if measure { precision.announce(console) }
        let measurement = try measure ? CostMeasurement(model, step, layers: layers, steps: steps ?? 3) : nil
        let file = try out.map { try AtomicFile($0) }
        let costs = MethodCost.all(model, step)
        let measured = try measurement?.run(console)
        if let file {
            try file.write(CostTable.csv(costs))
            try file.commit()
        }
        let report = CostReport(name: name, model: model, step: step, costs: costs, measured: measured)
        guard !consoleOptions.json else {
            let record = report.json.members + Provenance.tool(withKernels: measure).members
            return try Console.output(JSONValue.object(JSONObject(record)).text(indent: 2), besides: [out])
        }
        try Console.output(([report.text] + (out.map { [$0] } ?? [])).joined(separator: "\n\n"), besides: [out])
    }

    // MARK: - The model

    private func model() throws -> (name: String, model: ModelDescription) {
        if let preset {
            let values = preset.configuration(vocabulary: vocabulary ?? 32000)
            let dense = try ModelDescription(json: JSONValue.object(values).text(), path: preset.rawValue)
            let model = dense.with(preset.placement, outer: .silu).with(rank: rank ?? preset.rank)
            try model.validateRanks()
            return (preset.rawValue, model)
        }
        let source = try openCheckpoint(checkpoint ?? "", config: config)
        let description = try ModelDescription(of: source)
        try ModelWeights.checkNames(of: source, description, head: .none)
        let ranked = try withRanks(description, of: source)
        try ranked.validateRanks()
        return (source.path, ranked)
    }

    /// The model of a checkpoint with its own ranks, those of a plan, or one for all layers.
    private func withRanks(_ own: ModelDescription, of source: any TensorSource) throws -> ModelDescription {
        if own.isLowRank, rank == nil, plan == nil { return own }
        try DenseModel.require(source, own, head: .none)
        if let plan {
            let text = String(decoding: try readText(plan), as: UTF8.self)
            let hasHead = ModelWeights.hasHead(source, own)
            let fingerprint = try LanguageModel(from: source, includingHead: hasHead).weights.fingerprint
            let ranks = try RankPlan(text, path: plan, of: own, fingerprint: fingerprint)
            // A conversion gives each low-rank layer a bias.
            return own.with { linear in
                let rank = ranks.rank(of: linear.id)
                return LinearLayout(rank: rank, hasBias: rank != nil || linear.hasBias)
            }
        }
        return own.with { linear in
            // The rule of thumb is no rank for the narrow k and v of grouped queries.
            let quarter = min(max(1, own.hiddenSize / 4), linear.inputs, linear.outputs)
            return LinearLayout(rank: rank ?? quarter, hasBias: linear.hasBias)
        }
    }
}

extension TrainingStep.Attention: ExpressibleByArgument {}
extension TrainingStep.Pairs: ExpressibleByArgument {}
