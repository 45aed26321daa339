import TestSupport
import Testing
import Transformer

@testable import Workflows

@Suite struct TextLossTests {
    private let tiny: TinyModel
    private let text = TinyModel.sequences([50], seed: 6)[0]

    init() throws { tiny = try TinyModel() }

    private func loss(_ texts: [ArraySlice<UInt32>], length: Int, stride: Int) throws -> TextLoss {
        let windows = LossWindows(name: "text", texts: texts, length: length, stride: stride)
        return try LossWindows.losses(of: [windows], tiny.model, batch: 3, path: "tiny")[0]
    }

    @Test("one window scores all tokens but the first")
    func whole() throws {
        let found = try loss([text], length: 64, stride: 64)
        #expect(found.tokens == 49)
        // Forty-nine losses of about four nats, each of a few float32 roundings of sums of 41 terms.
        expectClose([found.sum], [tiny.losses(text, from: 0, to: 50).reduce(0, +)], within: 1e-3)
    }

    @Test("overlapping windows score each token once, with the window in front of it")
    func overlapping() throws {
        let found = try loss([text], length: 20, stride: 8)
        #expect(found.tokens == 49)
        // Windows of 20 at 0, 8, 16, 24, 32: the first scores 19 tokens, the others the 8 (the last, up to 50, the 6) new
        // ones at their ends.
        let expected =
            tiny.losses(text, from: 0, to: 20).reduce(0, +)
            + [(8, 28, 8), (16, 36, 8), (24, 44, 8), (32, 50, 6)].reduce(0) {
                $0 + tiny.losses(text, from: $1.0, to: $1.1).suffix($1.2).reduce(0, +)
            }
        expectClose([found.sum], [expected], within: 1e-3)
    }

    @Test("windows side by side leave out the first token of each, and texts do not go on in each other")
    func sideBySide() throws {
        #expect(try loss([text], length: 20, stride: 20).tokens == 19 + 19 + 9)
        #expect(try loss([text[0..<30], text[30..<50]], length: 30, stride: 30).tokens == 29 + 19)
        #expect(LossWindows(name: "", texts: [text[3..<4]], length: 9, stride: 9).tokenCount == 0)
    }

    @Test("a loss that is not finite names text and model")
    func notFinite() throws {
        tiny.model.weights.norm.weight.fill { .infinity }
        let error = #expect(throws: WorkflowError.self) { try loss([text], length: 20, stride: 20) }
        #expect("\(try #require(error))".hasPrefix("text: the loss of tiny on it is "))
    }

    @Test("means are over tokens, and a perplexity too large for a number is said to be")
    func totals() throws {
        var total = TextLoss()
        total.add([1, 3])
        var other = TextLoss()
        other.add([5])
        total.add(other)
        #expect(total.mean == 3 && total.tokens == 3 && total.json["reason"] == nil)
        total.add([4000])
        #expect(total.perplexity == .infinity && total.json["reason"]?.stringValue != nil)
    }
}
