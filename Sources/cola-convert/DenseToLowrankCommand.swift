import ArgumentParser
import Checkpoints
import CommandSupport
import LowRank
import Transformer
import Workflows

extension ConversionRecipe.Activation: ExpressibleByArgument {}

struct DenseToLowrankCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dense-to-lowrank",
        abstract: "Make a CoLA checkpoint of a dense one: each linear layer y = Wx becomes B·σ(A·x) + b.",
        discussion: """
            Ranks come from a plan or from one of the policies; layers that would not become smaller stay dense. Factors are \
            those that cost the least loss (--method fisher), to second order, on the calibration text. --anchor fits each \
            layer to what the converted layers before it produce, and --refine N then learns the dense model's predictions \
            in N passes over the calibration text. Beside OUTPUT, its report: OUTPUT with .report.json and .layers.csv for \
            .h5.

            Example:
              cola-convert dense-to-lowrank smollm2.h5 smollm2-cola.h5 --keep 0.6 --anchor \\
                --text valid.txt --max-tokens 16384 --evaluate test.txt
            """)

    @OptionGroup var checkpoint: CheckpointOptions

    @Argument(help: "The HDF5 checkpoint to write.")
    var output: String

    @Option(help: ArgumentHelp("Ranks by `cola-analyze ranks`, maybe edited.", valueName: "file"))
    var plan: String?

    @OptionGroup var ranks: RankOptions

    @Option(help: "What errors are weighed by: fisher (the loss), output or weight.")
    var method = Weighting.fisher

    @Option(help: "What stands in the bottlenecks: silu, as in CoLA, or identity.")
    var activation = ConversionRecipe.Activation.silu

    @Option(
        help: ArgumentHelp(
            "Size of a layer's largest latent in front of σ; small is close to linear (default: chosen for each layer).",
            valueName: "number"))
    var scale: Double?

    @OptionGroup var calibration: CalibrationOptions

    @Flag(help: "Fit each layer to the inputs that the converted layers before it produce.")
    var anchor = false

    @Option(help: ArgumentHelp("Passes over the calibration text that learn from the dense model.", valueName: "count"))
    var refine = 0

    @Option(
        help: "What the products of --refine compute with: f32, bf16 with sums in f32, or auto, the faster one here.")
    var precision = PrecisionChoice.auto

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Texts (or token files, folders, -) to measure the loss on, before and after; layers' errors on the first.",
            valueName: "file"))
    var evaluate: [String] = []

    @Option(help: ArgumentHelp("Tokens of each of these texts at most.", valueName: "count"))
    var evaluationTokens = 16384

    @Option(help: "How tensors are stored: f32, f16 or bf16.")
    var dtype = ElementType.f32

    @OptionGroup var consoleOptions: ConsoleOptions

    func validate() throws {
        guard (plan != nil) != ranks.isGiven else {
            throw ValidationError(
                "Say how to choose ranks: --plan FILE, or one of --rank, --rank-ratio, --alpha, --keep, --max-bytes and "
                    + "--max-flops.")
        }
        if let scale, !(1e-6...10).contains(scale) {
            throw ValidationError("--scale \(scale): expected 0.000001 to 10.")
        }
        if refine < 0 { throw ValidationError("--refine \(refine): expected a count.") }
        if evaluationTokens < 2 {
            throw ValidationError("--evaluation-tokens \(evaluationTokens): expected 2 or more.")
        }
        if dtype == .f64 { throw ValidationError("--dtype f64: expected f32, f16 or bf16.") }
        try calibration.sequenceOptions.validate(
            hasText: !calibration.text.isEmpty || !evaluate.isEmpty,
            hasTokens: calibration.tokens != nil || evaluate.contains(where: ConversionRun.isTokenFile))
        try TextInput.validate(calibration.text + evaluate)
        let needing = [
            activation == .silu ? "--activation silu" : nil, anchor ? "--anchor" : nil, refine > 0 ? "--refine" : nil,
        ].compactMap { $0 }
        if let first = needing.first, !calibration.hasText {
            throw ValidationError(
                "\(first) needs the calibration text itself: --text FILE… or --tokens FILE"
                    + (calibration.moments == nil ? "." : ", besides --moments."))
        }
    }

    func run() throws {
        let console = consoleOptions.console
        prepareNumerics(console)
        let files = ConversionReport.Files(output: output)
        try OutputCheck(
            checkpoints: [checkpoint.checkpoint], files: [checkpoint.config, plan] + calibration.paths + evaluate
        ).require(
            [.file(output), .stream(files.report), .stream(files.layers)]
                + (calibration.saveMoments.map { [.file($0)] } ?? []))
        var run = ConversionRun(command: self, console: console)
        try run.execute()
    }
}
