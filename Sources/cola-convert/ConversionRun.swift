import Checkpoints
import CommandSupport
import JSON
import LowRank
import Transformer
import Workflows

/// One conversion: opens what it needs, calls the workflow, and says what came of it.
struct ConversionRun {
    let command: DenseToLowrankCommand
    let console: Console
    private var timer = PhaseTimer()

    init(command: DenseToLowrankCommand, console: Console) {
        self.command = command
        self.console = console
    }

    mutating func execute() throws {
        let source = try command.checkpoint.open()
        let description = try ModelDescription(of: source)
        let needsHead =
            command.refine > 0 || !command.evaluate.isEmpty
            || command.method == .fisher && command.calibration.moments == nil
        try DenseModel.require(source, description, head: needsHead ? .required : .ifStored)
        let files = ConversionReport.Files(output: command.output)
        try files.requireWritable()
        let calibrationText = try command.calibration.sequences(for: source, description, console)
        calibrationText.streams.describe(each: "sequence", console)
        let tokenizer = try command.calibration.tokenizer.blob(of: source)
        _ = try tokenizer?.size(path: command.calibration.tokenizer.tokenizer ?? source.path, console)
        let texts = try evaluationTexts(source, description)
        if !texts.isEmpty { texts.describe(each: "text to measure on", console) }
        let dense = try LanguageModel(from: source, includingHead: ModelWeights.hasHead(source, description))
        let workflow = ConversionWorkflow(
            source, dense, .init(calibrationText.sequences, isContinuous: calibrationText.isContinuous),
            observer: console)
        timer.end("read")

        let settings = try settings(dense, calibrationText)
        let outcome = try workflow.convert(settings, timer: &timer)
        var provenance = calibrationText.adding(to: try provenance(source, outcome.calibration))
        if !texts.isEmpty { provenance["evaluation"] = .object(texts.record) }
        let destination = ConversionWorkflow.Destination(
            path: command.output, type: command.dtype, provenance: provenance, tokenizer: tokenizer)
        try workflow.write(outcome, to: destination)
        files.removeEarlier()
        let written = try workflow.reread(outcome, from: destination)
        timer.end("write")
        let heldOut = ConversionWorkflow.HeldOut(
            sequences: texts.first.map { $0.sequences(length: $0.usualLength) } ?? [],
            windows: try texts.map { try LossWindows($0) })
        let measured = try workflow.measure(
            written, heldOut, paths: (dense: command.checkpoint.checkpoint, converted: command.output))
        timer.end("measure")
        let report = ConversionReport(dense: dense, recipe: recipe, outcome: outcome, measured: measured)
        let record = report.json(provenance: provenance, seconds: timer.json)
        try report.write(record, to: files)
        if command.consoleOptions.json {
            try Console.output(JSONValue.object(record).text(indent: 2), besides: [files.report, files.layers])
        } else {
            try Console.output(
                report.text(output: command.output, files: files), besides: [files.report, files.layers])
        }
        console.note("done in \(fixed(timer.total, 1)) s, peak memory \(byteCount(peakMemory()))")
    }

    private var recipe: ConversionRecipe {
        var recipe = ConversionRecipe()
        recipe.weighting = command.method
        recipe.activation = command.activation
        recipe.anchors = command.anchor
        recipe.scale = command.scale
        return recipe
    }

    private func settings(
        _ dense: LanguageModel, _ text: CalibrationText
    ) throws -> ConversionWorkflow.Settings {
        var settings = ConversionWorkflow.Settings(recipe: recipe, ranks: ranks(dense))
        settings.calibration = try command.calibration.source(
            for: command.method, text.sequences, provenance: text.adding(to: Provenance.tool()))
        if command.refine > 0 {
            settings.refinement = Refinement(
                passes: command.refine, seed: command.calibration.seed, precision: command.precision)
        }
        return settings
    }

    private func ranks(_ dense: LanguageModel) -> ConversionWorkflow.Ranks {
        if let path = command.plan {
            return .plan(path: path, text: { String(decoding: try readText(path), as: UTF8.self) })
        }
        guard let choice = command.ranks.choice(for: dense, command.method) else {
            preconditionFailure("no policy was given")
        }
        return .choice(choice)
    }

    // MARK: - Files

    /// Whether the name of a text to measure on is that of a token file.
    static func isTokenFile(_ path: String) -> Bool {
        [".npy", ".u16", ".u32"].contains { path.hasSuffix($0) } || path.contains(".h5")
    }

    private func evaluationTexts(
        _ source: any TensorSource, _ description: ModelDescription
    ) throws -> [TokenStream] {
        try TextInput.list(command.evaluate, console).map { path in
            let isTokens = Self.isTokenFile(path)
            guard
                let stream = try TokenStream.load(
                    TokenStream.Request(
                        text: isTokens ? [] : [path], tokens: isTokens ? path : nil,
                        maxTokens: command.evaluationTokens, sequences: command.calibration.sequenceOptions,
                        tokenizer: command.calibration.tokenizer, mayLackRows: true),
                    for: source, description, console
                ).first
            else { throw InputError("\(path): no tokens") }
            return stream
        }
    }

    private func provenance(_ source: any TensorSource, _ calibration: CalibrationRecord?) throws -> JSONObject {
        var record = Provenance.tool()
        record["source"] = try Provenance.input(command.checkpoint.checkpoint)
        record["source_format"] = .string(source.formatName)
        if let text = source.provenance {
            record["source_provenance"] = (try? JSONValue(parsing: text)) ?? .string(text)
        }
        if let plan = command.plan { record["plan"] = try Provenance.input(plan) }
        if let calibration { record["calibration"] = .object(calibration.json) }
        return record
    }
}
