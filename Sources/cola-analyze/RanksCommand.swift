import ArgumentParser
import CommandSupport
import Files
import JSON
import LowRank
import Transformer
import Workflows

struct RanksCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ranks",
        abstract: "Choose the rank of every linear layer: a plan for cola-convert.",
        discussion: """
            Weighs the directions of each layer by what leaving them out costs – in the loss (fisher, which takes a backward \
            pass over the calibration tokens), in the layer's output, or in its weights – and gives out ranks by one of the \
            policies. The plan is JSON to read and to edit: change a rank, or null for a layer that stays dense.

            Example:
              cola-analyze ranks smollm2.h5 --tokens valid.npy --keep 0.6 --save-moments moments.h5 --out plan.json
              cola-analyze ranks smollm2.h5 --moments moments.h5 --keep 0.4 --out smaller.json
            """)

    @OptionGroup var checkpoint: CheckpointOptions
    @OptionGroup var ranks: RankOptions

    @Option(help: "What errors are weighed by: fisher (the loss), output or weight.")
    var weighting = Weighting.fisher

    @OptionGroup var calibration: CalibrationOptions

    @Option(name: .long, help: ArgumentHelp("The plan to write.", valueName: "file"))
    var out: String

    @OptionGroup var consoleOptions: ConsoleOptions

    func validate() throws {
        try calibration.sequenceOptions.validate(
            hasText: !calibration.text.isEmpty, hasTokens: calibration.tokens != nil)
        try calibration.tokenizer.validate(
            isNeeded: !calibration.text.isEmpty || calibration.sequenceOptions.bos == .always)
        guard ranks.isGiven else {
            throw ValidationError(
                "Say how to choose ranks: --rank, --rank-ratio, --alpha, --keep, --max-bytes or --max-flops.")
        }
    }

    func run() throws {
        let console = consoleOptions.console
        prepareNumerics(console)
        try OutputCheck(checkpoints: [checkpoint.checkpoint], files: [checkpoint.config] + calibration.paths)
            .require([.stream(out)] + (calibration.saveMoments.map { [.file($0)] } ?? []))
        let start = monotonicSeconds()
        let source = try checkpoint.open()
        let description = try ModelDescription(of: source)
        // Losses, from which the Fisher weighting comes, need the head; moments hold what they came to.
        let needsHead = weighting == .fisher && calibration.moments == nil
        try DenseModel.require(source, description, head: needsHead ? .required : .ifStored)
        let plan = try AtomicFile(out)
        let text = try calibration.sequences(for: source, description, console)
        text.streams.describe(each: "sequence", console)
        let model = try LanguageModel(from: source, includingHead: ModelWeights.hasHead(source, description))
        let fingerprint = model.weights.fingerprint
        let statistics = try calibration.source(
            for: weighting, text.sequences, provenance: text.adding(to: Provenance.tool())
        ).map {
            try Calibration(model, fingerprint: fingerprint, observer: console).statistics($0, for: weighting)
        }
        guard let choice = ranks.choice(for: model, weighting) else { preconditionFailure("no policy was given") }
        let chosen = try RankPlan.choose(model, choice, statistics, fingerprint: fingerprint, observer: console)
        var record = chosen.json
        record["provenance"] = .object(
            JSONObject(
                text.adding(to: Provenance.tool()).members
                    + [("checkpoint", try Provenance.input(checkpoint.checkpoint))]))
        try plan.write(JSONValue.object(record).text(indent: 2) + "\n")
        try plan.commit()
        console.note("done in \(fixed(monotonicSeconds() - start, 1)) s, peak memory \(byteCount(peakMemory()))")
        if consoleOptions.json {
            try Console.output(JSONValue.object(record).text(indent: 2), besides: [out])
        } else {
            try Console.output(PlanTable(chosen, description).text + "\n\n\(out)", besides: [out])
        }
    }
}
