import ArgumentParser
import CommandSupport
import JSON
import LinearAlgebra
import Transformer

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "How fast this machine does what the tools need, at real shapes, as JSON.",
        discussion: """
            Checks first that every kernel computes the right numbers, then measures: matrix products in f32, bf16 and f64, \
            second moments (beside OpenBLAS' DSYRK) and eigenvalues in double precision, the forward pass (with random \
            weights) and its share of the best matrix product; and says how long 'spectrum' of 8,192 tokens would take at \
            these rates. Each figure is the median of several runs, after a warm-up until the rate is steady, or for two \
            seconds where it never is.

            Example:
              cola-analyze bench --size smollm2-135m
            """)

    @Option(help: "Shapes: smollm2-135m, 60m, 130m, 350m or 1b.")
    var size = ModelSize.smollm2

    @Option(help: ArgumentHelp("Layers of the forward pass; a layer costs the same everywhere.", valueName: "count"))
    var layers = 4

    @Option(help: ArgumentHelp("Sequences of a batch.", valueName: "count"))
    var batch = 4

    @Option(help: ArgumentHelp("Tokens of a sequence.", valueName: "count"))
    var sequenceLength = 512

    @Option(help: ArgumentHelp("Runs of each measurement.", valueName: "count"))
    var repeats = 7

    @Flag(help: "Print the result on one line.")
    var json = false

    @Flag(name: .shortAndLong, help: "No settings and no progress on standard error.")
    var quiet = false

    func validate() throws {
        for (name, value, most) in [
            ("--layers", layers, 1 << 16), ("--batch", batch, 1 << 20), ("--sequence-length", sequenceLength, 1 << 20),
            ("--repeats", repeats, 1 << 20),
        ] where !(1...most).contains(value) {
            throw ValidationError("\(name) \(value): expected 1 to \(most).")
        }
    }

    func run() throws {
        let console = Console(isQuiet: quiet)
        prepareNumerics(console)
        let benchmark = Benchmark(
            size: size, layers: layers, batch: batch, sequenceLength: sequenceLength, repeats: repeats, console: console
        )
        Precision.bf16.announce(console)
        var record = Provenance.tool()
        record["has_bf16_products"] = .bool(Processor.multipliesBFloat16)
        for member in try benchmark.run().members { record[member.key] = member.value }
        try Console.output(JSONValue.object(record).text(indent: json ? nil : 2))
    }
}

/// Shapes of models that people know: the presets of the paper, and SmolLM2.
enum ModelSize: String, CaseIterable, ExpressibleByArgument {
    case smollm2 = "smollm2-135m"
    case size60m = "60m"
    case size130m = "130m"
    case size350m = "350m"
    case size1b = "1b"

    /// Layers of the whole model.
    var layers: Int {
        switch self {
        case .smollm2: 30
        case .size60m: 8
        case .size130m: 12
        case .size350m, .size1b: 24
        }
    }

    /// config.json of the model with so many layers.
    func configuration(layers: Int) -> String {
        let (hidden, intermediate, heads, keyValueHeads, vocabulary) =
            switch self {
            case .smollm2: (576, 1536, 9, 3, 49152)
            case .size60m: (512, 1376, 8, 8, 32000)
            case .size130m: (768, 2048, 12, 12, 32000)
            case .size350m: (1024, 2736, 16, 16, 32000)
            case .size1b: (2048, 5461, 32, 32, 32000)
            }
        let config: JSONValue = [
            "model_type": "llama", "hidden_size": .integer(hidden), "intermediate_size": .integer(intermediate),
            "num_attention_heads": .integer(heads), "num_key_value_heads": .integer(keyValueHeads),
            "num_hidden_layers": .integer(layers), "vocab_size": .integer(vocabulary), "tie_word_embeddings": true,
        ]
        return config.text()
    }
}
