import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

@Suite("Attention with a window")
struct WindowTests {
    /// One sequence of 300 tokens, so that the last block of queries begins at the token 256.
    private static let (length, window, heads, size) = (300, 20, 3, 7)
    private static let lastBlock = 2 * Attention.queryBlock

    /// The weighted values, then the gradients of q, k and v, of random q, k and v; k and v are NaN before `firstNumber`.
    private func run(window: Int?, firstNumber: Int) -> [[Double]] {
        let (length, heads, size) = (Self.length, Self.heads, Self.size)
        var description = AttentionDescription(heads: heads, keyValueHeads: 1, headSize: size)
        description.window = window
        var generator = SeededGenerator(seed: 5)
        func random(_ heads: Int) -> Matrix {
            Matrix.normal(shape: [length, heads * size], deviation: 1, using: &generator)
        }
        let (query, key, value) = (random(heads), random(1), random(1))
        let (attended, gradient) = (Matrix(shape: query.shape), random(heads))
        for index in 0..<firstNumber * size {
            key.pointer[index] = .nan
            value.pointer[index] = .nan
        }
        let statistics = Matrix(shape: [length, 2 * heads])
        let scores = Matrix(shape: [2 * ThreadPool.threads, Attention.queryBlock * length])
        let gradients = [query, key, value].map { Matrix(shape: $0.shape) }
        let batch = TokenBatch(ids: [UInt32](repeating: 0, count: length), lengths: [length])
        let attention = Attention(description)
        return withExtendedLifetime((query, key, value, attended, gradient, gradients)) {
            let matrices = Attention.Matrices(
                query: query.view, key: key.view, value: value.view, attended: attended.view)
            attention.forward(batch, matrices, scores: scores, statistics: statistics.view)
            attention.backward(
                batch, matrices, statistics: statistics.view, scores: scores,
                gradients: .init(
                    query: gradients[0].view, key: gradients[1].view, value: gradients[2].view,
                    attended: gradient.view))
            return ([attended] + gradients).map { copied($0.view) }
        }
    }

    @Test("Keys that no query of a block sees are not read, forward or backward")
    func skipping() {
        let whole = run(window: Self.window, firstNumber: 0)
        // The first query of the last block sees this key and those after it.
        let first = Self.lastBlock - Self.window + 1
        let holed = run(window: Self.window, firstNumber: first)
        for (found, expected) in zip(holed, whole) {
            let start = Self.lastBlock * expected.count / Self.length
            expectEqual(found[start...], expected[start...])
            #expect(expected.allSatisfy { $0.isFinite })
        }
        // One key more is seen, and all without a window are: this can fail.
        for (window, firstNumber) in [(Self.window, first + 1), (nil, 1)] as [(Int?, Int)] {
            let attended = run(window: window, firstNumber: firstNumber)[0]
            #expect(attended[(Self.lastBlock * Self.heads * Self.size)...].contains { $0.isNaN })
        }
    }
}
