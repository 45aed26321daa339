import Glibc
import JSON
import Transformer

/// Sum and count of the losses of some tokens.
public struct TextLoss: Sendable, Equatable {
    public var sum = 0.0
    public var tokens = 0

    public init() {}

    public mutating func add(_ losses: [Double]) {
        sum += losses.reduce(0, +)
        tokens += losses.count
    }

    public mutating func add(_ other: TextLoss) {
        sum += other.sum
        tokens += other.tokens
    }

    /// Mean loss in nats per token.
    public var mean: Double { sum / Double(tokens) }
    /// e^mean; infinite where that is more than a number can hold.
    public var perplexity: Double { Self.perplexity(ofMean: mean) }

    /// e^mean of a mean loss in nats per token.
    public static func perplexity(ofMean mean: Double) -> Double { exp(mean) }

    /// Perplexity, mean loss and count, and why there is no perplexity where it is not finite.
    public var json: JSONObject {
        var result = JSONObject([
            ("perplexity", .number(perplexity)), ("nats_per_token", .number(mean)), ("tokens", .integer(tokens)),
        ])
        if !perplexity.isFinite {
            result["reason"] = "the perplexity, e^nats_per_token, is larger than any number here"
        }
        return result
    }
}

/// The windows that a text's loss is measured over.
///
/// Each window scores only tokens that the one before has not; the first token of a text has no context and is not scored.
/// A BOS in front of a text is that first token: it belongs to the first window alone, as where a text is tokenised with it
/// and then cut.
public struct LossWindows: Sendable {
    private struct Window {
        let tokens: ArraySlice<UInt32>
        /// How many tokens at its end it scores.
        let scored: Int
    }

    /// Of the input.
    public let name: String
    private let windows: [Window]

    /// - Parameters:
    ///   - name: of the input, for results and errors.
    ///   - texts: of the input; none of them goes on in the next.
    ///   - length: tokens of a window; the last one of a text may be shorter.
    ///   - step: tokens from one window to the next, at most `length`.
    public init(name: String, texts: [ArraySlice<UInt32>], length: Int, stride step: Int) {
        precondition(step >= 1 && step <= length, "windows of \(length) tokens, \(step) from one to the next")
        self.name = name
        windows = texts.flatMap { text in
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

    /// Tokens that go through the model, counted in each window; zero where no text has two tokens.
    public var tokenCount: Int { windows.reduce(0) { $0 + $1.tokens.count } }

    /// The losses of several texts, `batch` windows at a time. `progress` is told the tokens done.
    ///
    /// - Parameter path: names the model in errors.
    /// - Throws: `WorkflowError.loss` for a loss that is not finite.
    public static func losses(
        of texts: [LossWindows], _ model: LanguageModel, batch: Int = 4, path: String,
        progress: (Int) -> Void = { _ in }
    ) throws -> [TextLoss] {
        let all = texts.flatMap(\.windows)
        let longest = all.map(\.tokens.count).max() ?? 0
        let workspace = Workspace(model, maximumTokens: min(batch, all.count) * longest, longestSequence: longest)
        let head = VocabularyHead(model)
        var done = 0
        return try texts.map { text in
            var loss = TextLoss()
            for start in Swift.stride(from: 0, to: text.windows.count, by: batch) {
                let part = text.windows[start..<min(start + batch, text.windows.count)]
                let hidden = model.forward(TokenBatch(part.map(\.tokens)), in: workspace)
                let targets = part.flatMap { window -> [UInt32?] in
                    let tokens = Array(window.tokens)
                    let firstScored = tokens.count - window.scored
                    return tokens.indices.map {
                        $0 + 1 >= firstScored && $0 + 1 < tokens.count ? tokens[$0 + 1] : nil
                    }
                }
                loss.add(head.losses(of: hidden, targets: targets).compactMap { $0 })
                done += part.reduce(0) { $0 + $1.tokens.count }
                progress(done)
            }
            guard loss.sum.isFinite else {
                throw WorkflowError.loss(text: text.name, model: path, mean: loss.mean)
            }
            return loss
        }
    }
}
