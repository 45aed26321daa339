import ArgumentParser
import CommandSupport
import Glibc
import Spectra
import Transformer
import Workflows

struct SpectrumCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "spectrum",
        abstract: "Singular values and effective ranks of the activations of every layer, as CSV.",
        discussion: """
            Runs the text through the model and writes DIR/spectra.csv (every singular value), DIR/ranks.csv (one row per \
            layer, module and side) and DIR/run.json (where it came from). Memory does not depend on the number of tokens.

            Example:
              cola-analyze spectrum smollm2.h5 --text speeches.txt --max-tokens 8192 --out spectra
            """)

    @OptionGroup var checkpoint: CheckpointOptions
    @OptionGroup var input: TokenOptions

    @Option(name: .long, help: ArgumentHelp("Folder for the results; made if it is not there.", valueName: "dir"))
    var out: String

    @Option(
        help: ArgumentHelp("Tokens of a sequence (default: 512, or the rows of a 2-D token file).", valueName: "count"))
    var sequenceLength: Int?

    @Option(help: ArgumentHelp("Sequences that go through the model together.", valueName: "count"))
    var batch = 4

    @Option(help: SpectrumLists.modulesHelp)
    var modules = "all"

    @Option(help: SpectrumLists.layersHelp)
    var layers = "all"

    @Option(help: SpectrumLists.sidesHelp)
    var sides = "output"

    @Option(help: SpectrumLists.alphasHelp)
    var alpha = "0.90,0.95,0.99,0.999"

    @Flag(help: "Remove the mean over the tokens first.")
    var center = false

    @Flag(help: "Spectra of the weight matrices as well, in DIR/weight_spectra.csv.")
    var weights = false

    @Option(help: "What matrix products compute with: f32, or bf16 with sums in f32.")
    var precision = Precision.f32

    @Option(
        help: "How activations are summed up: gram (moments in double precision), or qr (the slow reference).")
    var accumulation = Accumulation.gram

    @Option(
        help: ArgumentHelp(
            "Keep second moments of inputs and of the loss' gradients of all layers, for `ranks` and cola-convert; takes a second pass, forward and backward.",
            valueName: "file"))
    var saveMoments: String?

    @OptionGroup var consoleOptions: ConsoleOptions

    func validate() throws {
        if saveMoments != nil, precision != .f32 {
            throw ValidationError("--save-moments: moments are collected with --precision f32 only.")
        }
        if let sequenceLength, sequenceLength < 1 {
            throw ValidationError("--sequence-length \(sequenceLength): expected at least 1.")
        }
        if batch < 1 { throw ValidationError("--batch \(batch): expected at least 1.") }
        try SpectrumLists.checkModules(modules, option: "--modules")
        _ = try parsedSides()
        _ = try parsedAlphas()
        _ = try parsedLayers(count: .max)
    }

    func run() throws {
        let console = consoleOptions.console
        prepareNumerics(console)
        try OutputCheck(checkpoints: [checkpoint.checkpoint], files: [checkpoint.config] + input.paths)
            .require([.folder(out, names: SpectrumRun.fileNames)] + (saveMoments.map { [.file($0)] } ?? []))
        let start = monotonicSeconds()
        var run = SpectrumRun(command: self, console: console)
        try run.execute()
        console.note("done in \(fixed(monotonicSeconds() - start, 1)) s, peak memory \(byteCount(peakMemory()))")
    }
}

extension Accumulation: ExpressibleByArgument {}

// MARK: - Lists in options

extension SpectrumCommand {
    func parsedModules(of description: ModelDescription) throws -> [MeasuredModule] {
        try SpectrumLists.modules(modules, option: "--modules", of: description)
    }
    func parsedSides() throws -> [Side] { try SpectrumLists.sides(sides, option: "--sides") }
    func parsedAlphas() throws -> [(value: Double, text: String)] { try SpectrumLists.alphas(alpha, option: "--alpha") }
    func parsedLayers(count: Int) throws -> [Int] {
        try SpectrumLists.layers(layers, count: count, option: "--layers")
    }
}
