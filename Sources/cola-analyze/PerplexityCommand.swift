import ArgumentParser
import CommandSupport
import JSON
import Transformer
import Workflows

struct PerplexityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "perplexity",
        abstract: "Mean loss in nats per token, and perplexity, of one or more texts.",
        discussion: """
            A text is cut into windows; with a stride smaller than the window each window scores only the tokens that the \
            one before has not. The first token of a text has no context and is not scored; where the tokenizer puts a BOS in \
            front of texts, that is the first, once, in the first window. The mean is over all scored tokens.

            Example:
              cola-analyze perplexity smollm2.h5 --text novel.txt speech.txt --window 1024 --stride 512
            """)

    @OptionGroup var checkpoint: CheckpointOptions
    @OptionGroup var input: TokenOptions

    @Option(
        help: ArgumentHelp("Tokens of a window (default: 512, or the rows of a 2-D token file).", valueName: "count"))
    var window: Int?

    @Option(help: ArgumentHelp("Tokens from one window to the next (default: the window).", valueName: "count"))
    var stride: Int?

    @Option(help: ArgumentHelp("Windows that go through the model together.", valueName: "count"))
    var batch = 4

    @Option(help: "What matrix products compute with: f32, or bf16 with sums in f32.")
    var precision = Precision.f32

    @OptionGroup var consoleOptions: ConsoleOptions

    func validate() throws {
        if let window, window < 2 { throw ValidationError("--window \(window): expected at least 2.") }
        if let stride, stride < 1 { throw ValidationError("--stride \(stride): expected at least 1.") }
        if let window, let stride, stride > window {
            throw ValidationError(
                "--stride \(stride): expected at most the window, \(window); tokens would be left out.")
        }
        if batch < 1 { throw ValidationError("--batch \(batch): expected at least 1.") }
    }

    func run() throws {
        let console = consoleOptions.console
        prepareNumerics(console)
        let source = try checkpoint.open()
        let description = try ModelDescription(of: source)
        let streams = try input.load(for: source, description, console)
        streams.describe(each: "text", console)
        let texts = try streams.map { try LossWindows($0, window: window, stride: stride) }
        precision.announce(console)
        let model = try LanguageModel(from: source, precision: precision)
        let progress = console.progress("perplexity", unit: "tokens", total: texts.reduce(0) { $0 + $1.tokenCount })
        let losses = try LossWindows.losses(of: texts, model, batch: batch, path: source.path) {
            progress.update($0)
        }
        progress.finish()
        try report(zip(streams, losses).map { ($0.name, $1) }, streams.record)
    }

    private func report(_ scores: [(name: String, score: TextLoss)], _ record: JSONObject) throws {
        var total = TextLoss()
        for (_, score) in scores { total.add(score) }
        if consoleOptions.json {
            var result = total.json
            if scores.count > 1 {
                let texts = scores.map { name, score in
                    JSONValue.object(JSONObject([("text", .string(name))] + score.json.members))
                }
                result["texts"] = .array(texts)
            }
            for member in record.members + Provenance.tool().members { result[member.key] = member.value }
            return try Console.output(JSONValue.object(result).text(indent: 2))
        }
        var table = TextTable([("text", .left), ("tokens", .right), ("nats/token", .right), ("perplexity", .right)])
        func append(_ name: String, _ score: TextLoss) {
            table.append([name, grouped(score.tokens), fixed(score.mean, 4), score.perplexityText(3)])
        }
        for (name, score) in scores { append(name, score) }
        if scores.count > 1 { append("all", total) }
        try Console.output(table.text)
    }
}
