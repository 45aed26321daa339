import ArgumentParser
import CommandSupport
import JSON
import Training
import Transformer

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "How fast a model of the paper's sizes is trained on this machine.",
        discussion: """
            Checks first that the gradients are those of the loss, then measures whole steps – forward, backward, clipping, \
            AdamW – on random tokens with random weights, in turn with a large matrix product and a large copy: their speed is \
            the machine's at that moment. Figures are medians; tokens_per_second is the best step's, as the PyTorch script \
            has it.

            Example:
              cola-train bench --size 60m --model cola --memory cola-m --json
            """)

    @Option(help: "Shapes of the paper: tiny, 60m, 130m, 350m, 1b or 7b.")
    var size = ModelPreset.size60m

    @Option(help: ArgumentHelp("Fewer layers than the size has; layers are equal.", valueName: "count"))
    var layers: Int?

    @Option(help: "Projections: dense or cola.")
    var model = ModelKind.dense

    @Option(help: ArgumentHelp("Width of CoLA's bottlenecks (default: the paper's).", valueName: "count"))
    var rank: Int?

    @OptionGroup var pass: PassOptions

    @Option(help: ArgumentHelp("Sequences of a step.", valueName: "count"))
    var batch = 8

    @Option(help: ArgumentHelp("Tokens of a sequence.", valueName: "count"))
    var sequenceLength = 256

    @Option(help: ArgumentHelp("Steps to measure, after one that does not count.", valueName: "count"))
    var steps = 5

    @Flag(help: "Print the result as one JSON line on standard output.")
    var json = false

    @Flag(name: .shortAndLong, help: "No settings and no progress on standard error.")
    var quiet = false

    func validate() throws {
        for (name, value, most) in [
            ("--layers", layers ?? 1, 1 << 16), ("--rank", rank ?? 1, 1 << 20), ("--batch", batch, 1 << 20),
            ("--sequence-length", sequenceLength, 1 << 20), ("--steps", steps, 1 << 20),
        ] where !(1...most).contains(value) {
            throw ValidationError("\(name) \(value): expected 1 to \(most).")
        }
        if sequenceLength < 2 { throw ValidationError("--sequence-length 1: expected at least 2.") }
    }

    func run() throws {
        let console = Console(isQuiet: quiet)
        prepareNumerics(console)
        let precision = pass.precision.precision
        precision.announce(console)
        let benchmark = try TrainingBenchmark(self, precision: precision)
        let result = try benchmark.run(console)
        guard !json else {
            var record = result
            for member in Provenance.tool().members { record[member.key] = member.value }
            return try Console.output(JSONValue.object(record).text())
        }
        try Console.output(JSONValue.object(result).text(indent: 2))
    }
}
