import ArgumentParser
import Checkpoints
import CommandSupport
import Tensors
import Tokenizers
import Transformer

struct LogitsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logits",
        abstract: "Logits of every token as a NumPy file, to check against another implementation.",
        discussion: """
            Writes float32 [sequences, tokens, vocabulary]. A 2-D token file is one sequence per row; a 1-D file or a text is \
            one sequence.

            Example:
              cola-analyze logits model.h5 --tokens tokens.npy --out logits.npy
            """)

    @OptionGroup var checkpoint: CheckpointOptions
    @OptionGroup var input: TokenOptions

    @Option(name: .long, help: ArgumentHelp("The .npy file to write.", valueName: "file"))
    var out: String

    @Option(help: "What matrix products compute with: f32, or bf16 with sums in f32.")
    var precision = Precision.f32

    @OptionGroup var consoleOptions: ConsoleOptions

    func run() throws {
        let console = consoleOptions.console
        prepareNumerics(console)
        try OutputCheck(checkpoints: [checkpoint.checkpoint], files: [checkpoint.config] + input.paths)
            .require([.stream(out)])
        let source = try checkpoint.open()
        let configuration = try DecoderConfiguration(of: source)
        let sequences = try input.load(for: source, configuration).flatMap { stream in
            stream.sequences(length: stream.rowLength ?? stream.ids.count)
        }
        guard let length = sequences.first?.count else { throw InputError("\(input.paths[0]): no tokens") }
        guard sequences.allSatisfy({ $0.count == length }) else {
            throw InputError("sequences of \(Set(sequences.map(\.count)).sorted()) tokens, expected all of one length")
        }
        let shape = [sequences.count, length, configuration.vocabularySize]
        let writer = try NumpyWriter(path: out, shape: shape)
        precision.announce(console)
        let decoder = try Decoder(from: source, precision: precision)
        let workspace = Workspace(decoder, maximumTokens: length, longestSequence: length)
        let head = VocabularyHead(decoder)
        let progress = console.progress("logits", unit: "sequences", total: sequences.count)
        for (index, sequence) in sequences.enumerated() {
            let hidden = decoder.forward(TokenBatch([sequence]), in: workspace)
            try head.forEachChunk(of: hidden) { _, logits in
                try writer.write(UnsafeBufferPointer(start: logits.pointer, count: logits.rows * logits.columns))
            }
            progress.update(index + 1)
        }
        try writer.finish()
        progress.finish()
        if consoleOptions.json {
            var record = Provenance.tool()
            record["out"] = .string(out)
            record["shape"] = .array(shape.map { .integer($0) })
            try Console.output(JSONValue.object(record).text(indent: 2), besides: [out])
        } else {
            try Console.output("\(out)  float32 \(shape)", besides: [out])
        }
    }
}
