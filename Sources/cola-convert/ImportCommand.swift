import ArgumentParser
import CKernels
import Checkpoints
import CommandSupport
import Files
import JSON
import Transformer

extension ElementType: ExpressibleByArgument {}

struct ImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Bring a checkpoint of another format into HDF5.",
        discussion: """
            SOURCE is a Hugging Face folder, a GGUF file (v2, v3; F32, F16, BF16, Q4_0 to Q8_0, Q2_K to Q6_K), a safetensors \
            file, a llama2.c file (.bin) or an HDF5 dump of a state dict. Configuration and tokenizer come along. The file is \
            read back and compared before it appears under its name.

            Example:
              cola-convert import SmolLM2-135M-Instruct.Q4_1.gguf smollm2.h5
            """)

    @OptionGroup var checkpoint: CheckpointOptions

    @Argument(help: "The HDF5 checkpoint to write.")
    var output: String

    @Option(help: "How tensors are stored: f32, f16 or bf16.")
    var dtype = ElementType.f32

    @Option(
        help: ArgumentHelp(
            "tokenizer.json, a sentencepiece model, a llama2.c tokenizer or a checkpoint that has one, in place of the source's own.",
            valueName: "file"))
    var tokenizer: String?

    @OptionGroup var rule: PreTokenizerOptions

    @Option(help: ArgumentHelp("Compress with this deflate level, 1 to 9.", valueName: "level"))
    var deflate: Int?

    @OptionGroup var consoleOptions: ConsoleOptions

    func validate() throws {
        if dtype == .f64 { throw ValidationError("--dtype f64: expected f32, f16 or bf16.") }
        if let deflate, !(1...9).contains(deflate) { throw ValidationError("--deflate \(deflate): expected 1 to 9.") }
    }

    func run() throws {
        let console = consoleOptions.console
        try OutputCheck(checkpoints: [checkpoint.checkpoint], files: [checkpoint.config, tokenizer])
            .require([.file(output)])
        let source = try checkpoint.open()
        guard let configuration = source.configuration else {
            throw InputError("\(source.path): no configuration; give its config.json with --config")
        }
        let model = try ModelDescription(of: source)
        let stored = try StoredTensors(of: source, model, head: .ifStored)
        stored.warnOfUnreadable(source, console)
        let blob =
            try tokenizer.map { try rule.tokenizer(at: $0) } ?? rule.completing(source.tokenizer(), path: source.path)
        if let blob {
            if let size = try blob.size(path: tokenizer ?? source.path, console), size > model.vocabularySize {
                throw InputError(
                    "\(tokenizer ?? source.path): a tokenizer of \(size) ids for an embedding of \(model.vocabularySize)"
                )
            }
        } else {
            console.warn("\(source.path): no tokenizer found; the checkpoint will take token ids only")
        }
        var provenance = Provenance.tool(withKernels: false)
        provenance["source"] = try Provenance.input(checkpoint.checkpoint)
        provenance["source_format"] = .string(source.formatName)
        if let text = source.provenance {
            provenance["source_provenance"] = (try? JSONValue(parsing: text)) ?? .string(text)
        }

        let writer = try CheckpointWriter(
            path: output, configuration: configuration, provenance: JSONValue.object(provenance).text(),
            tokenizer: blob,
            type: dtype, deflate: deflate)
        let kept = stored.inOrder(of: source)
        let parameters = Set(stored.parameters.map(\.name))
        let total = kept.reduce(0) { $0 + $1.count }
        let progress = console.progress("import", unit: "parameters", total: total)
        var done = 0
        for tensor in kept {
            let columns = tensor.shape.dropFirst().reduce(1, *)
            try writer.write(tensor.name, shape: tensor.shape) { rows, buffer in
                try source.read(tensor.name, rows: rows, into: buffer)
                let bad = ck_first_not_finite(buffer.baseAddress!, buffer.count)
                // What nobody computes with is kept as it is.
                guard bad == buffer.count || !parameters.contains(tensor.name) else {
                    let place = (rows.lowerBound + bad / columns, bad % columns)
                    throw CheckpointError.tensors(
                        path: source.path, problems: ["\(tensor.name): element \(place) is \(buffer[bad])"])
                }
                done += buffer.count
                progress.update(done)
            }
        }
        try writer.finish()
        progress.finish()
        let report = ConversionReport.Files(output: output)
        Leftover.warn([report.report, report.layers], console: console)
        let written = try Provenance.input(output)
        if consoleOptions.json {
            provenance["output"] = written
            provenance["parameters"] = .integer(done)
            try Console.output(JSONValue.object(provenance).text(indent: 2))
        } else {
            try Console.output(
                "\(output)  \(grouped(done)) parameters as \(dtype.rawValue), \(byteCount(written["bytes"]?.intValue ?? 0))"
            )
        }
    }
}
