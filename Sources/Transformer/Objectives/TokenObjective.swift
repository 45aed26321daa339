import CKernels
import Glibc
import Tensors

/// What a token's logits are judged by.
public protocol TokenObjective {
    /// Called before the tokens `rows` of the batch, which come in order, a chunk at a time.
    func prepare(_ rows: Range<Int>)

    /// The loss of a token of the batch, whose `count` logits become `scale` times the loss' gradient; nil, and they are of
    /// no more use, where the token has none. Called for several tokens at once.
    func differentiate(token: Int, logits: UnsafeMutablePointer<Float>, count: Int, scale: Float) -> Double?
}

extension TokenObjective {
    public func prepare(_ rows: Range<Int>) {}
}

/// −log p(target) in nats.
public struct CrossEntropy: TokenObjective {
    private let targets: [UInt32?]

    /// - Parameter targets: the token that follows each of the batch's, or nil where none is to be predicted.
    public init(targets: [UInt32?]) { self.targets = targets }

    public func differentiate(token: Int, logits: UnsafeMutablePointer<Float>, count: Int, scale: Float) -> Double? {
        targets[token].map { ck_cross_entropy(logits, count, Int($0), scale) }
    }
}

/// −log p(label) for labels drawn from the model's own predictions: the gradients' second moments are then the Fisher
/// information (of the model, not the empirical one of the data's labels).
public struct SampledCrossEntropy: TokenObjective {
    private let seed: UInt64
    private let firstToken: Int

    /// Labels follow from the seed and the token's place in the whole text, of which the batch begins at `firstToken`.
    public init(seed: UInt64, firstToken: Int) {
        self.seed = seed
        self.firstToken = firstToken
    }

    public func differentiate(token: Int, logits: UnsafeMutablePointer<Float>, count: Int, scale: Float) -> Double? {
        var streams = SeededGenerator(seed: seed &+ UInt64(firstToken + token) &* 0xD134_2543_DE82_EF95)
        var generator = SeededGenerator(seed: streams.next())
        // The largest of logits with independent Gumbel noise is a draw from softmax; the first step here, the cumulative
        // sum, needs one random number instead of one for each entry.
        var best = 0
        let normalizer = ck_log_sum_exp(logits, count, &best)
        let threshold = Float(generator.uniform())
        var (sum, label): (Float, Int) = (0, best)
        for index in 0..<count {
            sum += expf(logits[index] - normalizer)
            if sum > threshold {
                label = index
                break
            }
        }
        return ck_cross_entropy(logits, count, label, scale)
    }
}
