import Transformer

/// What this toolkit's own engine spends on a step, by formulas that are written out from its design and not taken from
/// its code, so that each can be held against the other.
///
/// It differs from the paper's formulas in what it keeps: no scores (attention is tiled; of each row of scores its maximum
/// and its sum, 2h), nothing that leaves o and down, silu(gate) computed again, σ(A·x) as well; all of it in single
/// precision. And in what it computes: pairs of tokens that see each other only, and the scores twice.
///
/// Letters as in `MethodCost`; h·d_h and h_kv·d_h are the widths of queries and keys.
public struct EngineCost: Sendable, Equatable {
    public let mode: MemoryMode
    /// Forward and backward of a step. Attention has seven products: two forward, five backward, one of them the scores
    /// again.
    public let flops: Double
    /// What the memory mode computes again.
    public let recomputedFLOPs: Double
    /// What the forward pass leaves for the backward pass.
    public let keptBytes: Int
    /// Buffers that are used again from layer to layer.
    public let scratchBytes: Int
    public let parameters: Int
    /// Masters in single precision, and the rounded copy of the matrices where products are in bf16; vectors are never
    /// rounded.
    public let weightBytes: Int
    public let gradientBytes: Int
    /// AdamW's moments.
    public let optimizerBytes: Int

    public var totalBytes: Int { keptBytes + scratchBytes + weightBytes + gradientBytes + optimizerBytes }
    public var allFLOPs: Double { flops + recomputedFLOPs }

    /// - Parameters:
    ///   - shape: the model as the engine has it: `ModelShape.dense` for a dense one.
    ///   - step: of its conventions only the precision counts.
    ///   - threads: of the pool; each has room for scores.
    public init(_ shape: ModelShape, _ mode: MemoryMode, _ step: TrainingStep, threads: Int) {
        let formulas = EngineFormulas(shape: shape, mode: mode, step: step, threads: threads)
        self.mode = mode
        flops = formulas.flops
        recomputedFLOPs = formulas.recomputedFLOPs
        keptBytes = 4 * step.tokens * formulas.keptPerToken
        scratchBytes = formulas.scratchBytes
        parameters = shape.parameters
        let vectors = shape.normParameters + shape.sum(\.biasParameters)
        let copy = step.precision == .bf16 ? 2 * (shape.parameters - vectors) + 4 * vectors : 0
        weightBytes = 4 * shape.parameters + copy
        gradientBytes = 4 * shape.parameters
        optimizerBytes = 8 * shape.parameters
    }
}

private struct EngineFormulas {
    let shape: ModelShape
    let mode: MemoryMode
    let step: TrainingStep
    let threads: Int

    private var configuration: DecoderConfiguration { shape.configuration }
    /// d, d_ff, h·d_h, h_kv·d_h and h.
    private var d: Int { configuration.hiddenSize }
    private var f: Int { configuration.intermediateSize }
    private var q: Int { configuration.queryWidth }
    private var kv: Int { configuration.keyValueWidth }
    private var h: Int { configuration.heads }

    // MARK: - FLOPs

    /// Forward FLOPs of all layers' causal attention for a step: q·kᵀ and P·v over n(n + 1)/2 pairs.
    private var attentionFLOPs: Double {
        let n = Double(step.sequenceLength)
        return Double(step.batch * configuration.layers) * 4 * n * (n + 1) / 2 * Double(q)
    }

    var flops: Double {
        let matrices = shape.sum(\.colaParameters) + configuration.vocabularySize * d
        return 6 * Double(step.tokens) * Double(matrices) + 3.5 * attentionFLOPs
    }

    /// Nothing that comes after the last thing backward reads is computed again: not what leaves down, and in CoLA-M,
    /// which has the residual stream after o, not o.
    var recomputedFLOPs: Double {
        guard mode != .plain else { return 0 }
        let perToken = shape.sum { linear in
            switch (mode, linear.module) {
            case (.checkpoint, .down): 2 * linear.inputs * (linear.rank ?? 0)
            case (.checkpoint, _): 2 * linear.colaParameters
            case (_, .output), (_, .down): 0
            default: 2 * (linear.rank.map { $0 * linear.outputs } ?? linear.denseParameters)
            }
        }
        return Double(step.tokens) * Double(perToken) + attentionFLOPs
    }

    // MARK: - Memory

    /// Numbers kept for each token: of each layer, and the residual stream after the last one.
    ///
    /// - plain: two residual streams and two norms (4d), q and attention's output, k and v, 2h of the scores' rows, gate, up
    ///   and their product (3·d_ff), and A·x of each low-rank layer: 8d + 2h + 3d_ff + 7r with as many keys as queries;
    /// - checkpoint: d;
    /// - CoLA-M: 2d + 7r.
    var keptPerToken: Int {
        let bottlenecks = shape.sum { $0.rank ?? 0 }
        switch mode {
        case .plain: return d + configuration.layers * (4 * d + 2 * q + 2 * kv + 2 * h + 3 * f) + bottlenecks
        case .checkpoint: return d + configuration.layers * d
        case .colaM: return d + configuration.layers * 2 * d + bottlenecks
        }
    }

    /// Per token: one layer's buffers that the mode does not keep; gradients of d (twice) and 1, of q and attention's
    /// output, k and v, gate and up; o's and down's output; two bottlenecks. Besides, two blocks of scores for each thread,
    /// rotations, and a chunk of rows of the head, with their gradients.
    var scratchBytes: Int {
        let (tokens, n, vocabulary) = (step.tokens, step.sequenceLength, configuration.vocabularySize)
        let widest = Dictionary(grouping: shape.linears, by: \.module).mapValues { $0.compactMap(\.rank).max() ?? 0 }
        let largestRank = widest.values.max() ?? 0
        let shared =
            switch mode {
            case .plain: 0
            case .checkpoint: 3 * d + 2 * q + 2 * kv + 2 * h + 3 * f + widest.values.reduce(0, +)
            case .colaM: 2 * d + 2 * q + 2 * kv + 2 * h + 3 * f
            }
        let perToken = shared + d + (2 * d + 1 + 2 * q + 2 * kv + 2 * f) + 2 * largestRank
        // Of at most 1024 rows and 2²⁴ logits, equal chunks.
        let limit = min(max(16, min(1024, (1 << 24) / vocabulary)), tokens)
        let chunks = (tokens + limit - 1) / limit
        let chunk = (tokens + chunks - 1) / chunks
        let single =
            tokens * perToken + 2 * threads * min(128, n) * n + n * configuration.headSize
            + chunk * (d + vocabulary) + chunk * (d + 1)
        guard step.precision == .bf16 else { return 4 * single }
        // Rounded operands: of forward, two of backward, of the head and its gradient.
        let rounded = tokens * (3 * max(d, f, q, largestRank) + largestRank) + chunk * (d + vocabulary)
        return 4 * single + 2 * rounded
    }
}
