import ArgumentParser
import Checkpoints
import CommandSupport
import Glibc
import Transformer

struct PerplexityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "perplexity",
        abstract: "Mean loss in nats per token, and perplexity, of one or more texts.",
        discussion: """
            A text is cut into windows; with a stride smaller than the window each window scores only the tokens that the \
            one before has not. The first token of a text has no context and is not scored. The mean is over all scored tokens.

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
        let configuration = try DecoderConfiguration(of: source)
        let streams = try input.load(for: source, configuration)
        let plans = try streams.map { try windows(of: $0) }
        let decoder = try Decoder(from: source, precision: precision)

        let all = plans.flatMap { $0 }
        let longest = all.map(\.tokens.count).max() ?? 0
        let workspace = Workspace(decoder, maximumTokens: min(batch, all.count) * longest, longestSequence: longest)
        let head = VocabularyHead(decoder)
        let progress = console.progress("perplexity", unit: "tokens", total: all.reduce(0) { $0 + $1.tokens.count })
        var done = 0
        let scores = plans.map { plan in
            var score = Score()
            for start in Swift.stride(from: 0, to: plan.count, by: batch) {
                let part = Array(plan[start..<min(start + batch, plan.count)])
                score.add(losses(of: part, decoder, workspace, head))
                done += part.reduce(0) { $0 + $1.tokens.count }
                progress.update(done)
            }
            return score
        }
        progress.finish()
        for (stream, score) in zip(streams, scores) where !score.sum.isFinite {
            throw InputError("\(stream.name): the loss of \(source.path) on it is \(score.mean), expected a number")
        }
        try report(zip(streams, scores).map { ($0.name, $1) }, source: source)
    }

    /// A window and how many tokens at its end it scores.
    private struct Window {
        let tokens: ArraySlice<UInt32>
        let scored: Int
    }

    private struct Score {
        var sum = 0.0
        var tokens = 0

        mutating func add(_ losses: [Double]) {
            sum += losses.reduce(0, +)
            tokens += losses.count
        }

        var mean: Double { sum / Double(tokens) }
        var perplexity: Double { exp(mean) }

        var json: JSONObject {
            JSONObject([
                ("perplexity", .number(perplexity)), ("nats_per_token", .number(mean)), ("tokens", .integer(tokens)),
            ])
        }
    }

    private func windows(of stream: TokenStream) throws -> [Window] {
        let length = window ?? stream.rowLength ?? 512
        let step = stride ?? length
        guard step <= length else { throw InputError("--stride \(step): larger than the window of \(length) tokens") }
        let texts = stream.sequences(length: stream.rowLength ?? stream.ids.count)
        return try texts.flatMap { text in
            guard text.count >= length || (text.count >= 2 && window == nil) else {
                throw InputError(
                    "\(stream.name): \(text.count) tokens are fewer than one window of \(length); "
                        + "give a longer text or --window \(max(2, text.count))")
            }
            var windows: [Window] = []
            var scoredTo = text.startIndex
            for begin in Swift.stride(from: text.startIndex, to: text.endIndex, by: step) {
                let end = min(begin + length, text.endIndex)
                let scored = min(end - scoredTo, end - begin - 1)
                if scored > 0 { windows.append(Window(tokens: text[begin..<end], scored: scored)) }
                scoredTo = end
                if end == text.endIndex { break }
            }
            return windows
        }
    }

    private func losses(
        of windows: [Window], _ decoder: Decoder, _ workspace: Workspace, _ head: VocabularyHead
    ) -> [Double] {
        let batch = TokenBatch(windows.map(\.tokens))
        let hidden = decoder.forward(batch, in: workspace)
        let targets = windows.flatMap { window -> [UInt32?] in
            let tokens = Array(window.tokens)
            let firstScored = tokens.count - window.scored
            return tokens.indices.map { $0 + 1 >= firstScored && $0 + 1 < tokens.count ? tokens[$0 + 1] : nil }
        }
        return head.losses(of: hidden, targets: targets).compactMap { $0 }
    }

    private func report(_ scores: [(name: String, score: Score)], source: any TensorSource) throws {
        var total = Score()
        for (_, score) in scores {
            total.sum += score.sum
            total.tokens += score.tokens
        }
        if consoleOptions.json {
            var result = total.json
            if scores.count > 1 {
                let texts = scores.map { name, score in
                    JSONValue.object(JSONObject([("text", .string(name))] + score.json.members))
                }
                result["texts"] = .array(texts)
            }
            for member in Provenance.tool().members { result[member.key] = member.value }
            return try Console.output(JSONValue.object(result).text(indent: 2))
        }
        var table = TextTable([("text", .left), ("tokens", .right), ("nats/token", .right), ("perplexity", .right)])
        func append(_ name: String, _ score: Score) {
            table.append([name, grouped(score.tokens), fixed(score.mean, 4), fixed(score.perplexity, 3)])
        }
        for (name, score) in scores { append(name, score) }
        if scores.count > 1 { append("all", total) }
        try Console.output(table.text)
    }
}
