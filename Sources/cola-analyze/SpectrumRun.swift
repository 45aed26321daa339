import Checkpoints
import CommandSupport
import Files
import Glibc
import JSON
import Spectra
import Tensors
import Transformer
import Workflows

/// One run of `spectrum`, phase by phase.
struct SpectrumRun {
    let command: SpectrumCommand
    let console: Console
    private var timer = PhaseTimer()

    static let fileNames = ["spectra.csv", "ranks.csv", "run.json", weightSpectra]
    private static let weightSpectra = "weight_spectra.csv"

    init(command: SpectrumCommand, console: Console) {
        self.command = command
        self.console = console
    }

    mutating func execute() throws {
        let alphas = try command.parsedAlphas()
        let source = try command.checkpoint.open()
        let description = try ModelDescription(of: source)
        try ModelWeights.checkNames(of: source, description, head: .none)
        let layers = try command.parsedLayers(count: description.blocks.count)
        let folder = try OutputFolder(command.out)
        // Sees now, rather than after hours, whether files can be made.
        try AtomicFile("\(command.out)/run.json").discard()
        let streams = try command.input.load(for: source, description, console)
        streams.describe(each: "sequence", console)
        let sequences = try streams.sequences(length: command.sequenceLength, maxTokens: command.input.maxTokens)
        if command.saveMoments != nil { try DenseModel.require(source, description) }
        timer.end("read_input")

        command.precision.announce(console)
        let model = try LanguageModel(
            from: source, precision: command.precision, includingHead: command.saveMoments != nil)
        timer.end("load_weights")
        let request = SpectrumRequest(
            modules: try command.parsedModules(of: description), blocks: layers, sides: try command.parsedSides(),
            isCentered: command.center, accumulation: command.accumulation)
        let analysis = try SpectrumAnalysis(request, of: model)
        guard !analysis.keys.isEmpty else {
            throw InputError(
                "\(source.path): nothing to measure: the chosen layers and modules have no side \(command.sides); "
                    + "bottlenecks are there in CoLA layers only")
        }
        let hashes = hashInputs()
        let tokens = analysis.observe(sequences, in: model, batch: command.batch, observer: console)
        timer.end("forward_and_moments")

        let decomposing = console.progress("decompose", unit: "spectra", total: analysis.keys.count)
        let quarter = description.hiddenSize / 4
        let measured = try analysis.spectra { decomposing.update($0) }
            .map { MeasuredSpectrum($0, alphas: alphas.map(\.value), quarter: quarter) }
        decomposing.finish()
        timer.end("decompose")
        if let file = command.saveMoments {
            let fingerprint = model.weights.fingerprint
            var text = Calibration.Text(sequences, labelSeed: 0)
            text.sources = try command.input.paths.map { try Provenance.input($0) }
            text.file = file
            text.provenance = JSONObject(Provenance.tool().members + streams.record.members)
            _ = try Calibration(model, fingerprint: fingerprint, observer: console).collect(text)
            timer.end("save_moments")
        }

        let summary = SpectrumSummary(
            measured: measured, alphas: alphas.map(\.text), quarter: quarter, hiddenSize: description.hiddenSize)
        warnIfFewTokens(tokens, measured)
        var record = provenance(
            try hashes.value(), source: source, model: model, tokens: tokens, sequences: sequences.count)
        for member in streams.record.members { record[member.key] = member.value }
        try writeFiles(measured, alphas: alphas.map(\.text), model, request, &record)
        folder.keep()
        if command.consoleOptions.json {
            record["ranks"] = summary.json
            try Console.output(JSONValue.object(record).text(indent: 2))
        } else {
            try Console.output(summary.text(folder: command.out))
        }
    }

    /// Writes all files of the run, which appear together. Those of a run that fails are gone when this returns, so that
    /// the folder can be removed.
    private mutating func writeFiles(
        _ measured: [MeasuredSpectrum], alphas: [String], _ model: LanguageModel, _ request: SpectrumRequest,
        _ record: inout JSONObject
    ) throws {
        let spectra = try AtomicFile("\(command.out)/spectra.csv")
        try SpectrumTables.writeSpectra(measured, to: spectra)
        let ranks = try AtomicFile("\(command.out)/ranks.csv")
        try SpectrumTables.writeRanks(measured, alphas: alphas, to: ranks)
        var files = [spectra, ranks]
        if command.weights { files.append(try writeWeightSpectra(model, request)) }
        timer.end("write")
        record["seconds"] = timer.json
        record["peak_memory_bytes"] = .integer(peakMemory())
        let run = try AtomicFile("\(command.out)/run.json")
        try run.write(JSONValue.object(record).text(indent: 2) + "\n")
        try AtomicFile.commit(files + [run])
        if !command.weights {
            Leftover.clear(
                "\(command.out)/\(Self.weightSpectra)", startingWith: SpectrumTables.weightColumns, console: console)
        }
    }

    private func writeWeightSpectra(_ model: LanguageModel, _ request: SpectrumRequest) throws -> AtomicFile {
        let linears = request.linears(of: model.description)
        let progress = console.progress("weights", unit: "matrices", total: linears.count)
        let entries = try WeightSpectra.compute(model, linears) { progress.update($0) }
        progress.finish()
        let file = try AtomicFile("\(command.out)/\(Self.weightSpectra)")
        try SpectrumTables.writeWeightSpectra(entries, to: file)
        return file
    }

    private func warnIfFewTokens(_ tokens: Int, _ measured: [MeasuredSpectrum]) {
        let widest = measured.map(\.spectrum.singularValues.count).max() ?? 0
        let features = measured.map(\.spectrum.features).max() ?? 0
        guard tokens < 4 * min(features, max(widest, 1)) else { return }
        console.warn(
            "\(tokens) tokens for up to \(features) features: ranks of a sample that small are too low; "
                + "four tokens per feature are the least to trust")
    }

    /// Reads the inputs once more, which takes a large file longer than loading it does.
    private func hashInputs() -> Background<(checkpoint: JSONValue, inputs: [JSONValue])> {
        let (checkpoint, paths) = (command.checkpoint.checkpoint, command.input.paths)
        return Background {
            (try Provenance.input(checkpoint), try paths.map { path in try Provenance.input(path) })
        }
    }

    private func provenance(
        _ hashes: (checkpoint: JSONValue, inputs: [JSONValue]), source: any TensorSource, model: LanguageModel,
        tokens: Int,
        sequences: Int
    ) -> JSONObject {
        var record = Provenance.tool()
        record["checkpoint"] = hashes.checkpoint
        record["checkpoint_format"] = .string(source.formatName)
        record["inputs"] = .array(hashes.inputs)
        record["tokens"] = .integer(tokens)
        record["sequences"] = .integer(sequences)
        record["batch"] = .integer(command.batch)
        record["layers"] = .integer(model.description.blocks.count)
        record["hidden_size"] = .integer(model.description.hiddenSize)
        record["precision"] = .string(command.precision.rawValue)
        record["accumulation"] = .string(command.accumulation.rawValue)
        record["centered"] = .bool(command.center)
        record["sides"] = .string(command.sides)
        return record
    }
}
