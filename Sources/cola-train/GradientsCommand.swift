import ArgumentParser
import Checkpoints
import CommandSupport
import JSON
import Tensors
import Training
import Transformer

struct GradientsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gradients",
        abstract: "Loss and the gradient of every parameter, to check against another implementation.",
        discussion: """
            The loss is the mean next-token cross-entropy in nats over all sequences: a 2-D token file is one sequence per \
            row, a 1-D file or a text is one sequence. Writes HDF5: /loss, and /grad/<parameter name> in float32, under the \
            toolkit's canonical names or under those of the file and in its layout.

            Example:
              cola-train gradients model.h5 --tokens tokens.npy --out grads.h5 --memory cola-m --precision f32
            """)

    @OptionGroup var checkpoint: CheckpointOptions
    @OptionGroup var input: TokenOptions
    @OptionGroup var pass: PassOptions

    @Option(help: ArgumentHelp("Cut texts and rows into sequences of so many tokens.", valueName: "count"))
    var sequenceLength: Int?

    /// Whose names and layouts gradients have.
    enum Names: String, CaseIterable, ExpressibleByArgument {
        case canonical, own
    }

    @Option(help: "Names and layouts of the gradients: canonical, or own, those of the checkpoint's file.")
    var names = Names.canonical

    @Option(help: ArgumentHelp("The HDF5 file to write.", valueName: "file"))
    var out: String

    @OptionGroup var consoleOptions: ConsoleOptions

    func validate() throws {
        if let sequenceLength, sequenceLength < 2 {
            throw ValidationError("--sequence-length \(sequenceLength): expected at least 2.")
        }
    }

    func run() throws {
        let console = consoleOptions.console
        prepareNumerics(console)
        try OutputCheck(checkpoints: [checkpoint.checkpoint], files: [checkpoint.config] + input.paths)
            .require([.file(out)])
        let source = try checkpoint.open()
        let description = try ModelDescription(of: source)
        let streams = try input.load(for: source, description, console)
        streams.describe(each: "text", console)
        let sequences =
            try sequenceLength.map { try streams.sequences(length: $0, maxTokens: input.maxTokens) }
            ?? streams.flatMap(\.texts)
        let targetCount = sequences.reduce(0) { $0 + $1.count - 1 }
        guard targetCount > 0 else {
            throw InputError("\(input.paths[0]): sequences of one token, expected at least two")
        }
        try description.validate(length: sequences.map(\.count).max() ?? 0)
        let masters = try ModelWeights(from: source, description)
        try pass.memory.validate(for: masters)
        let precision = pass.precision.precision
        precision.announce(console)
        let model = LanguageModel(masters.workingCopy(precision), precision: precision)
        let gradients = ModelWeights(like: masters, precision: .f32)
        let batches = Self.batches(sequences)
        let workspace = TrainingWorkspace(
            model, mode: pass.memory, maximumTokens: batches.map { $0.reduce(0) { $0 + $1.count } }.max() ?? 1,
            longestSequence: sequences.map(\.count).max() ?? 1)
        let progress = console.progress("gradients", unit: "batches", total: batches.count)
        var sum = 0.0
        for (index, batch) in batches.enumerated() {
            let targets = batch.flatMap { sequence in sequence.dropFirst().map { UInt32?.some($0) } + [nil] }
            sum += model.lossAndGradients(
                of: TokenBatch(batch), targets: targets, scale: 1 / Double(targetCount), in: workspace,
                ModelGradients(into: gradients, accumulating: index > 0))
            progress.update(index + 1)
        }
        progress.finish()
        let loss = sum / Double(targetCount)
        guard loss.isFinite else {
            throw InputError("\(source.path): the loss on \(input.paths[0]) is \(loss), expected a number")
        }
        try write(loss, gradients, of: source, streams.record)
        try report(loss, gradients, precision, targetCount, streams.record)
    }

    /// Sequences that go through the model together: up to 4,096 tokens, the longest alone if need be.
    private static func batches(_ sequences: [ArraySlice<UInt32>]) -> [[ArraySlice<UInt32>]] {
        var batches: [[ArraySlice<UInt32>]] = []
        var tokens = Int.max
        for sequence in sequences {
            if tokens == .max || tokens + sequence.count > 4096 {
                batches.append([])
                tokens = 0
            }
            batches[batches.count - 1].append(sequence)
            tokens += sequence.count
        }
        return batches
    }

    private var record: JSONObject {
        get throws {
            var record = Provenance.tool()
            record["inputs"] = .array(try ([checkpoint.checkpoint] + input.paths).map { try Provenance.input($0) })
            return record
        }
    }

    private func write(
        _ loss: Double, _ gradients: ModelWeights, of source: any TensorSource, _ input: JSONObject
    ) throws {
        let precision = pass.precision.precision
        var record = JSONObject(try record.members + input.members)
        record["memory"] = .string(pass.memory.rawValue)
        record["precision"] = .string(precision.rawValue)
        let writer = try GradientWriter(path: out, loss: loss, provenance: JSONValue.object(record).text())
        let canonical = WeightsSource(gradients, path: out, configuration: source.configuration)
        let named: any TensorSource = names == .own ? try OwnSource(canonical, namedAs: source) : canonical
        for tensor in named.tensors { try writer.write(tensor.name, named.read(tensor.name)) }
        try writer.finish()
    }

    private func report(
        _ loss: Double, _ gradients: ModelWeights, _ precision: Precision, _ targets: Int, _ input: JSONObject
    ) throws {
        let norm = AdamW.gradientNorm(gradients)
        guard consoleOptions.json else {
            return try Console.output(
                "\(out)  loss \(fixed(loss, 6))  gradient norm \(fixed(norm, 6))  \(grouped(targets)) targets  "
                    + "\(precision.rawValue), \(pass.memory.rawValue)")
        }
        var result: JSONObject = [
            "out": .string(out), "loss": .number(loss), "gradient_norm": .number(norm), "targets": .integer(targets),
            "memory": .string(pass.memory.rawValue), "precision": .string(precision.rawValue),
        ]
        for member in input.members { result[member.key] = member.value }
        try Console.output(JSONValue.object(result).text(indent: 2))
    }
}
