import Transformer

/// How much a training step computes, and by which conventions it is counted.
public struct TrainingStep: Sendable, Equatable {
    /// What attention keeps for the backward pass.
    public enum Attention: String, Sendable, CaseIterable {
        /// The scores of all heads before and after softmax, 2n²h: the paper's formulas.
        case standard
        /// None of them: they are computed a tile at a time, as this toolkit's engine does.
        case tiled
    }

    /// The pairs of a query and a key that are computed.
    public enum Pairs: String, Sendable, CaseIterable {
        /// All n², as the paper counts; n·W where there is a window of W.
        case all
        /// The n(n + 1)/2 of which the query comes no earlier than the key; fewer where there is a window.
        case causal
    }

    /// Sequences of a step.
    public let batch: Int
    /// n, tokens of a sequence.
    public let sequenceLength: Int
    public var attention = Attention.standard
    public var pairs = Pairs.all
    /// Precision of every number that is stored; the published runs keep all in bf16.
    public var precision = Precision.f32
    /// δ, the share of SLTrain's sparse matrix that is not zero.
    public let sparseDensity: Double

    /// Throws `CostModelError.setting` for a step of no tokens or of more than 2³⁰, and for a share that is none.
    public init(batch: Int = 1, sequenceLength: Int = 256, sparseDensity: Double = 0.03) throws(CostModelError) {
        let largest = 1 << 30
        for (name, value) in [("batch", batch), ("sequence length", sequenceLength)]
        where !(1...largest).contains(value) {
            throw .setting(name: name, found: "\(value)", expected: "1 to \(largest)")
        }
        guard batch <= largest / sequenceLength else {
            throw .setting(
                name: "step", found: "\(batch) sequences of \(sequenceLength) tokens",
                expected: "at most \(largest) tokens")
        }
        guard sparseDensity >= 0, sparseDensity <= 1 else {
            throw .setting(name: "sparse density", found: "\(sparseDensity)", expected: "0 to 1")
        }
        self.batch = batch
        self.sequenceLength = sequenceLength
        self.sparseDensity = sparseDensity
    }

    public var tokens: Int { batch * sequenceLength }

    /// Pairs of tokens of one sequence that attention computes, where a query sees at most `window` keys, its own included.
    func attentionPairs(window: Int?) -> Double {
        let n = Double(sequenceLength)
        let seen = min(Double(window ?? sequenceLength), n)
        return pairs == .all ? n * seen : seen * (seen + 1) / 2 + (n - seen) * seen
    }

    var bytesPerNumber: Double { precision == .bf16 ? 2 : 4 }
}
