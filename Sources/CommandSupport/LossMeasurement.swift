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
    public var perplexity: Double { exp(mean) }

    /// The perplexity of a mean loss for people.
    public static func perplexityText(_ mean: Double, _ decimals: Int) -> String {
        exp(mean).isFinite ? fixed(exp(mean), decimals) : "e^\(fixed(mean, 1))"
    }

    public func perplexityText(_ decimals: Int) -> String { Self.perplexityText(mean, decimals) }

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

    public let name: String
    private let windows: [Window]

    /// - Parameters:
    ///   - window: tokens of a window; nil for the rows of a 2-D file, or 512.
    ///   - stride: tokens from one window to the next; nil for the window.
    /// - Throws: `InputError` for a text that is shorter than a window that was asked for, or than two tokens.
    public init(_ stream: TokenStream, window: Int? = nil, stride: Int? = nil) throws {
        name = stream.name
        let length = window ?? stream.usualLength
        let step = stride ?? length
        guard step <= length else { throw InputError("--stride \(step): larger than the window of \(length) tokens") }
        // Rows that were filled up have any length.
        let areCut = stream.paddingCount > 0
        windows = try stream.texts.flatMap { text in
            guard text.count >= length || (text.count >= 2 && window == nil) || areCut else {
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
        guard !windows.isEmpty else { throw InputError("\(stream.name): texts of one token, expected at least two") }
    }

    public var tokenCount: Int { windows.reduce(0) { $0 + $1.tokens.count } }

    /// The losses of several texts, `batch` windows at a time. `progress` is told the tokens done.
    ///
    /// Throws `InputError` for a loss that is no number.
    public static func losses(
        of texts: [LossWindows], _ decoder: Decoder, batch: Int = 4, path: String, progress: (Int) -> Void = { _ in }
    ) throws -> [TextLoss] {
        let all = texts.flatMap(\.windows)
        let longest = all.map(\.tokens.count).max() ?? 0
        let workspace = Workspace(decoder, maximumTokens: min(batch, all.count) * longest, longestSequence: longest)
        let head = VocabularyHead(decoder)
        var done = 0
        return try texts.map { text in
            var loss = TextLoss()
            for start in Swift.stride(from: 0, to: text.windows.count, by: batch) {
                let part = text.windows[start..<min(start + batch, text.windows.count)]
                let hidden = decoder.forward(TokenBatch(part.map(\.tokens)), in: workspace)
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
                throw InputError("\(text.name): the loss of \(path) on it is \(loss.mean), expected a number")
            }
            return loss
        }
    }
}
