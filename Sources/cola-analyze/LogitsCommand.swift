import ArgumentParser
import CommandSupport
import JSON
import Tensors
import TokenData
import Transformer

struct LogitsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logits",
        abstract: "Logits of every token as a NumPy file, to check against another implementation.",
        discussion: """
            Writes float32 [sequences, tokens, vocabulary]. A 2-D token file is one sequence per row; a 1-D file or a text is \
            one sequence. A BOS in front has its logits as well. Where rows were filled up, the array has the shape of the \
            file, and there is nothing (NaN) at the places of padding.

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
        let description = try ModelDescription(of: source)
        let streams = try input.load(for: source, description, console)
        streams.describe(each: "text", console)
        let sequences = streams.flatMap(\.texts)
        guard
            let places = streams.first.flatMap({ LogitPlaces($0, isWhole: input.maxTokens == nil) })
                ?? LogitPlaces(sequences)
        else {
            throw InputError(
                sequences.isEmpty
                    ? "\(input.paths[0]): no tokens"
                    : "sequences of \(Set(sequences.map(\.count)).sorted()) tokens, expected all of one length")
        }
        let length = places.length
        try description.validate(length: length)
        let shape = [places.rows, length, description.vocabularySize]
        let writer = try NumpyWriter(path: out, shape: shape)
        precision.announce(console)
        let model = try LanguageModel(from: source, precision: precision)
        let workspace = Workspace(model, maximumTokens: length, longestSequence: length)
        let head = VocabularyHead(model)
        let progress = console.progress("logits", unit: "sequences", total: sequences.count)
        let none = [Float](repeating: .nan, count: description.vocabularySize)
        func leaveOut(_ count: Int) throws { for _ in 0..<count { try writer.write(none) } }
        var done = 0
        for (index, sequence) in sequences.enumerated() {
            try leaveOut(places.starts[index] - done)
            let hidden = model.forward(TokenBatch([sequence]), in: workspace)
            try head.forEachChunk(of: hidden) { _, logits in
                try writer.write(UnsafeBufferPointer(start: logits.pointer, count: logits.rows * logits.columns))
            }
            done = places.starts[index] + sequence.count
            progress.update(index + 1)
        }
        try leaveOut(places.rows * length - done)
        try writer.finish()
        progress.finish()
        if consoleOptions.json {
            var record = Provenance.tool()
            record["out"] = .string(out)
            record["shape"] = .array(shape.map { .integer($0) })
            for member in streams.record.members { record[member.key] = member.value }
            try Console.output(JSONValue.object(record).text(indent: 2), besides: [out])
        } else {
            try Console.output("\(out)  float32 \(shape)", besides: [out])
        }
    }
}

/// Where the sequences stand in the array that is written.
private struct LogitPlaces {
    let rows: Int
    /// Tokens of a row.
    let length: Int
    /// The first token of each sequence, counted over all rows.
    let starts: [Int]

    /// Sequences of one length, one after the other; nil if there are none or they have several.
    init?(_ sequences: [ArraySlice<UInt32>]) {
        guard let length = sequences.first?.count, sequences.allSatisfy({ $0.count == length }) else { return nil }
        self.length = length
        rows = sequences.count
        starts = sequences.indices.map { $0 * length }
    }

    /// The rows of a file with padding in it; nil for another one. A file that is not read as a whole has the rows that
    /// are.
    init?(_ stream: TokenStream, isWhole: Bool) {
        guard let columns = stream.rowLength, stream.paddingCount > 0, let last = stream.rowPlaces.last else {
            return nil
        }
        let length = columns + stream.prefix.count
        self.length = length
        rows = isWhole ? stream.ids.count / columns : last.row + 1
        starts = stream.rowPlaces.map { $0.row * length + $0.columns.lowerBound }
    }
}
