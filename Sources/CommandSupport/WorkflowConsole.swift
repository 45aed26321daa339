import Transformer
import Workflows

extension Progress: WorkflowPhase {
    public func end() { finish() }
}

extension Console: WorkflowObserver {
    public func begin(_ title: String, unit: String, total: Int) -> Progress {
        progress(title, unit: unit, total: total)
    }

    public func note(_ notice: WorkflowNotice) {
        switch notice {
        case .fewTokens(let tokens, let features):
            warn(
                "\(tokens) calibration tokens for \(features) features, \(fixed(Double(tokens) / Double(features), 1)) "
                    + "per feature: directions of a sample that small do not hold elsewhere; four are the least to trust, "
                    + "ten are better")
        case .refining(let precision): precision.announce(self)
        }
    }
}

extension TrainingMeasurement {
    /// Takes `count` steps as `run(steps:onStep:)` does, with a line for each.
    public func run(steps count: Int, _ console: Console) throws -> [Step] {
        try run(steps: count) { index, speed in console.note("step \(index): \(fixed(speed, 0)) tokens/s") }
    }
}

extension TextLoss {
    /// The perplexity of a mean loss for people.
    public static func perplexityText(_ mean: Double, _ decimals: Int) -> String {
        let perplexity = perplexity(ofMean: mean)
        return perplexity.isFinite ? fixed(perplexity, decimals) : "e^\(fixed(mean, 1))"
    }

    public func perplexityText(_ decimals: Int) -> String { Self.perplexityText(mean, decimals) }
}

extension LossWindows {
    /// - Parameters:
    ///   - window: tokens of a window; nil for the rows of a 2-D file, or 512.
    ///   - stride: tokens from one window to the next; nil for the window.
    /// - Throws: `InputError` for a text that is shorter than a window that was asked for, or than two tokens.
    public init(_ stream: TokenStream, window: Int? = nil, stride: Int? = nil) throws {
        let length = window ?? stream.usualLength
        let step = stride ?? length
        let texts = stream.texts
        try stream.check(length: min(length, texts.map(\.count).max() ?? 0))
        guard step <= length else { throw InputError("--stride \(step): larger than the window of \(length) tokens") }
        // Rows that were filled up have any length.
        let areCut = stream.paddingCount > 0
        for text in texts where !(text.count >= length || (text.count >= 2 && window == nil) || areCut) {
            throw InputError(
                "\(stream.name): \(text.count) tokens are fewer than one window of \(length); "
                    + "give a longer text or --window \(max(2, text.count))")
        }
        self.init(name: stream.name, texts: texts, length: length, stride: step)
        guard tokenCount > 0 else { throw InputError("\(stream.name): texts of one token, expected at least two") }
    }
}
