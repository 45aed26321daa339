import ArgumentParser
import Checkpoints
import CommandSupport
import JSON
import Transformer

extension HuggingFaceExporter.Layout: ExpressibleByArgument {}

struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write a checkpoint as a Hugging Face folder.",
        discussion: """
            The layout dense is for `transformers`, with the names and layouts of the model's family; cola and cola-m have the names and the orientation of the paper's code, \
            which knows neither grouped-query attention nor a rank for each layer.

            Example:
              cola-convert export smollm2.h5 smollm2-hf
            """)

    @OptionGroup var checkpoint: CheckpointOptions

    @Argument(help: "The folder to write.")
    var folder: String

    @Option(help: "dense, cola or cola-m (default: by what the checkpoint holds, dense or cola).")
    var layout: HuggingFaceExporter.Layout?

    @Option(help: "How tensors are stored: f32, f16 or bf16.")
    var dtype = ElementType.f32

    @OptionGroup var rule: PreTokenizerOptions

    @Flag(help: "Replace the files of a model that is already in the folder.")
    var replace = false

    @OptionGroup var consoleOptions: ConsoleOptions

    func validate() throws {
        if dtype == .f64 { throw ValidationError("--dtype f64: expected f32, f16 or bf16.") }
    }

    func run() throws {
        try OutputCheck(checkpoints: [checkpoint.checkpoint], files: [checkpoint.config])
            .require([.folder(folder, names: HuggingFaceExporter.modelFiles(in: folder))])
        let source = try checkpoint.open()
        let model = try ModelDescription(of: source)
        let stored = try StoredTensors(of: source, model, head: .ifStored)
        stored.warnOfUnreadable(source, consoleOptions.console)
        let kept = stored.inOrder(of: source)
        let blob = try rule.completing(source.tokenizer(), path: source.path)
        if let blob, UncutVocabulary(blob) != nil {
            consoleOptions.console.warn(
                "\(source.path): nothing says how its tokenizer cuts text, so that it is left out; name the rule with "
                    + "--pre-tokenizer")
        }
        let isCola = source.tensors.contains { $0.name.hasSuffix(".cola_a") }
        var provenance = Provenance.tool(withKernels: false)
        provenance["source"] = try Provenance.input(checkpoint.checkpoint)
        var exporter = HuggingFaceExporter(
            layout: layout ?? (isCola ? .cola : .dense), type: dtype, replacesExisting: replace,
            preTokenizer: rule.preTokenizer, provenance: JSONValue.object(provenance).text())
        exporter.architectures = Family.classes
        // The family's own names and layouts, which low-rank factors have no place in.
        let exported = exporter.layout == .dense ? try OwnSource(source, kept: kept) : source
        exporter.tensors = Set(exporter.layout == .dense ? exported.tensors.map(\.name) : kept.map(\.name))
        let total = kept.reduce(0) { $0 + $1.count }
        let progress = consoleOptions.console.progress("export", unit: "parameters", total: total)
        let files = try exporter.export(exported, to: folder) { done, _ in progress.update(done) }
        progress.finish()
        Leftover.warn(
            HuggingFaceExporter.otherModelFiles(in: folder).map { "\(folder)/\($0)" }, console: consoleOptions.console)
        if consoleOptions.json {
            provenance["layout"] = .string(exporter.layout.rawValue)
            provenance["files"] = .array(files.map { .string($0) })
            try Console.output(JSONValue.object(provenance).text(indent: 2))
        } else {
            try Console.output(files.joined(separator: "\n"))
        }
    }
}
