import Checkpoints
import CommandSupport
import JSON
import LowRank
import Tensors
import Transformer

/// One conversion, phase by phase.
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
        let configuration = try DecoderConfiguration(of: source)
        let needsHead =
            command.refine > 0 || !command.evaluate.isEmpty
            || command.method == .fisher && command.calibration.moments == nil
        try DenseModel.require(source, configuration, head: needsHead ? .required : .ifStored)
        let files = ConversionReport.Files(output: command.output)
        try files.requireWritable()
        let calibrationText = try command.calibration.sequences(for: source, configuration, console)
        let sequences = calibrationText.sequences
        calibrationText.streams.describe(each: "sequence", console)
        let tokenizer = try command.calibration.tokenizer.blob(of: source)
        _ = try tokenizer?.size(path: command.calibration.tokenizer.tokenizer ?? source.path, console)
        let texts = try evaluationTexts(source, configuration)
        if !texts.isEmpty { texts.describe(each: "text to measure on", console) }
        let dense = try Decoder(from: source, includingHead: DecoderWeights.hasHead(source, configuration))
        let fingerprint = dense.weights.fingerprint
        timer.end("read")

        var statistics = try command.calibration.statistics(
            of: dense, fingerprint: fingerprint, command.method, sequences,
            provenance: calibrationText.adding(to: Provenance.tool()), console: console)
        timer.end("moments")
        let plan = try makePlan(dense, statistics, fingerprint)
        timer.end("ranks")

        let text = try convertedConfiguration(source, plan)
        let converted = try convert(
            dense, plan, statistics, try DecoderConfiguration(json: text, path: command.output), sequences)
        let calibration = statistics?.record
        // They are larger than the model, and what follows needs room.
        statistics = nil
        timer.end("factors")
        var refinement: Refinement.Outcome?
        if command.refine > 0 {
            let precision = command.precision.precision
            precision.announce(console)
            refinement = try Refinement(
                passes: command.refine, seed: command.calibration.seed, precision: precision
            ).run(
                converted.decoder, teacher: dense, calibrationText, console)
            timer.end("refine")
        }

        var report = ConversionReport(plan: plan, records: converted.layers, dense: dense, converted: converted.decoder)
        report.recipe = recipe
        report.refinement = refinement
        report.calibration = calibration
        var provenance = calibrationText.adding(to: try provenance(source, calibration))
        if !texts.isEmpty { provenance["evaluation"] = .object(texts.record) }
        try write(converted.decoder, configuration: text, provenance: provenance, tokenizer: tokenizer)
        files.removeEarlier()
        let written = try reread(converted.decoder)
        timer.end("write")
        try measure(&report, dense, written, sequences, texts)
        timer.end("measure")
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

    // MARK: - Phases

    /// Whether the name of a text to measure on is that of a token file.
    static func isTokenFile(_ path: String) -> Bool {
        [".npy", ".u16", ".u32"].contains { path.hasSuffix($0) } || path.contains(".h5")
    }

    private func evaluationTexts(
        _ source: any TensorSource, _ configuration: DecoderConfiguration
    ) throws -> [TokenStream] {
        try TextInput.list(command.evaluate, console).map { path in
            let isTokens = Self.isTokenFile(path)
            guard
                let stream = try TokenStream.load(
                    text: isTokens ? [] : [path], tokens: isTokens ? path : nil,
                    maxTokens: command.evaluationTokens, command.calibration.sequenceOptions, mayLackRows: true,
                    command.calibration.tokenizer, for: source, configuration, console
                ).first
            else { throw InputError("\(path): no tokens") }
            return stream
        }
    }

    private func makePlan(
        _ dense: Decoder, _ statistics: (any CalibrationStatistics)?, _ fingerprint: String
    ) throws -> RankPlan {
        guard let path = command.plan else {
            return try RankPlan.choose(
                dense, command.ranks, command.method, statistics, fingerprint: fingerprint, console: console
            ).plan
        }
        let text = String(decoding: try readText(path), as: UTF8.self)
        return try RankPlan(text, path: path, of: dense.configuration, fingerprint: fingerprint)
    }

    /// config.json of the converted model.
    private func convertedConfiguration(_ source: any TensorSource, _ plan: RankPlan) throws -> String {
        guard let values = source.configurationValues else {
            throw InputError("\(source.path): its configuration is no JSON object")
        }
        return JSONValue.object(plan.configuration(of: values, command.activation))
            .text(indent: 2, writesNonFinite: true)
    }

    private func convert(
        _ dense: Decoder, _ plan: RankPlan, _ statistics: (any CalibrationStatistics)?,
        _ configuration: DecoderConfiguration, _ sequences: [ArraySlice<UInt32>]
    ) throws -> (decoder: Decoder, layers: [Conversion.LayerRecord]) {
        let progress = console.progress("convert", unit: "layers", total: configuration.layers)
        let result = try Conversion(dense, plan: plan, recipe: recipe, statistics: statistics).run(
            configuration, tokens: sequences.isEmpty ? nil : TokenBatch(sequences)
        ) { progress.update($0) }
        progress.finish()
        return result
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

    private func write(
        _ converted: Decoder, configuration: String, provenance: JSONObject, tokenizer: TokenizerBlob?
    ) throws {
        let writer = try CheckpointWriter(
            path: command.output, configuration: configuration, provenance: JSONValue.object(provenance).text(),
            tokenizer: tokenizer, type: command.dtype)
        try converted.weights.visitParameters { name, weight in
            guard case .single(let matrix) = weight.storage else { return }
            try writer.write(name, matrix)
        }
        try writer.finish()
    }

    /// The converted model as the file has it: what is reported is measured on that.
    private func reread(_ converted: Decoder) throws -> Decoder {
        let written = try Decoder(
            from: try Checkpoint.open(command.output), includingHead: converted.weights.head != nil)
        guard command.dtype != .f32 || written.weights.fingerprint == converted.weights.fingerprint else {
            throw LowRankError.result("\(command.output): reads back as another model than was written")
        }
        return written
    }

    private func measure(
        _ report: inout ConversionReport, _ dense: Decoder, _ written: Decoder, _ sequences: [ArraySlice<UInt32>],
        _ texts: [TokenStream]
    ) throws {
        /// A few thousand tokens say enough about a layer's error.
        func sample(_ sequences: [ArraySlice<UInt32>]) -> TokenBatch? {
            var left = 4096
            var part: [ArraySlice<UInt32>] = []
            for sequence in sequences where left > 0 && !sequence.isEmpty {
                part.append(sequence.prefix(left))
                left -= sequence.count
            }
            return part.isEmpty ? nil : TokenBatch(part)
        }
        func errors(_ tokens: TokenBatch?, _ title: String, withFloor: Bool) throws -> [LayerError] {
            guard let tokens else { return [] }
            let progress = console.progress(title, unit: "layers", total: dense.configuration.layers)
            defer { progress.finish() }
            return try LayerError.measure(dense: dense, converted: written, tokens, withFloor: withFloor) {
                progress.update($0)
            }
        }
        report.calibrationErrors = try errors(sample(sequences), "errors on the calibration", withFloor: true)
        let heldOut = texts.first.map { $0.sequences(length: $0.usualLength) } ?? []
        report.heldOutErrors = try errors(sample(heldOut), "errors on held-out text", withFloor: false)
        guard !texts.isEmpty else { return }
        let windows = try texts.map { try LossWindows($0) }
        let progress = console.progress(
            "loss before and after", unit: "tokens", total: 2 * windows.reduce(0) { $0 + $1.tokenCount })
        let total = windows.reduce(0) { $0 + $1.tokenCount }
        let before = try LossWindows.losses(of: windows, dense, path: command.checkpoint.checkpoint) {
            progress.update($0)
        }
        let after = try LossWindows.losses(of: windows, written, path: command.output) { progress.update(total + $0) }
        progress.finish()
        report.losses = zip(texts, zip(before, after)).map { ($0.name, $1.0, $1.1) }
    }
}
