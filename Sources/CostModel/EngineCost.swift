import Transformer

/// What this toolkit's own engine spends on a step, by formulas that are written out from its design and not taken from
/// its code, so that each can be held against the other.
///
/// It differs from the paper's formulas in what it keeps: no scores (attention is tiled; of each row of scores its maximum
/// and its sum, 2h), nothing that leaves o and down, silu(gate) computed again, σ(A·x) as well; all of it in single
/// precision. And in what it computes: pairs of tokens that see each other only, and the scores twice.
///
/// Letters as in `MethodCost`; q = h·d_h and kv = h_kv·d_h are the widths of queries and keys. Buffers that a block does not
/// need – of a norm, a gate, a bottleneck that is not there – have no columns.
public struct EngineCost: Sendable, Equatable {
    public let mode: MemoryMode
    /// Forward and backward of a step. Attention has seven products: two forward, five backward, one of them the scores
    /// again.
    public let flops: Double
    /// What the memory mode computes again.
    public let recomputedFLOPs: Double
    /// What the forward pass leaves for the backward pass.
    public let keptBytes: Int
    /// Buffers that are used again from layer to layer, each as wide as the widest layer needs it.
    public let scratchBytes: Int
    public let parameters: Int
    /// Masters in single precision, and the rounded copy of the matrices where products are in bf16; vectors are never
    /// rounded.
    public let weightBytes: Int
    public let gradientBytes: Int
    /// AdamW's m and v.
    public let optimizerBytes: Int

    public var totalBytes: Int { keptBytes + scratchBytes + weightBytes + gradientBytes + optimizerBytes }
    public var allFLOPs: Double { flops + recomputedFLOPs }

    /// - Parameters:
    ///   - model: as the engine has it: `ModelDescription.dense` for the dense twin of a CoLA model.
    ///   - step: of its conventions only the precision counts.
    ///   - threads: of the pool; each has room for scores.
    public init(_ model: ModelDescription, _ mode: MemoryMode, _ step: TrainingStep, threads: Int) {
        let formulas = EngineFormulas(model: model, mode: mode, step: step, threads: threads)
        self.mode = mode
        flops = formulas.flops
        recomputedFLOPs = formulas.recomputedFLOPs
        keptBytes = 4 * step.tokens * formulas.keptPerToken
        scratchBytes = formulas.scratchBytes
        parameters = model.parameters
        let vectors = model.normParameters + model.sum(\.biasParameters)
        let copy = step.precision == .bf16 ? 2 * (parameters - vectors) + 4 * vectors : 0
        weightBytes = 4 * parameters + copy
        gradientBytes = 4 * parameters
        optimizerBytes = 8 * parameters
    }
}

private struct EngineFormulas {
    let model: ModelDescription
    let mode: MemoryMode
    let step: TrainingStep
    let threads: Int

    private var d: Int { model.hiddenSize }
    private var vocabulary: Int { model.vocabularySize }

    // MARK: - FLOPs

    /// Forward FLOPs of all layers' causal attention for a step: q·kᵀ and P·v over n(n + 1)/2 pairs, with a window of W
    /// tokens over W(W + 1)/2 + (n − W)·W.
    private var attentionFLOPs: Double {
        let n = step.sequenceLength
        return model.blocks.reduce(0) { sum, block in
            let w = min(block.attention.window ?? n, n)
            return sum + Double(step.batch * 4 * (w * (w + 1) / 2 + (n - w) * w)) * Double(block.q)
        }
    }

    var flops: Double {
        let matrices = model.sum(\.matrixParameters) + vocabulary * d
        return 6 * Double(step.tokens) * Double(matrices) + 3.5 * attentionFLOPs
    }

    /// Nothing that comes after the last thing backward reads is computed again: not what leaves down, and in CoLA-M,
    /// which has the residual stream after o, not o. A norm behind one of them reads what leaves it.
    var recomputedFLOPs: Double {
        guard mode != .plain else { return 0 }
        let perToken = model.sumOfBlocks { block in
            let norms = block.norms
            return block.linears.reduce(0) { sum, linear in
                let rank = linear.rank ?? 0
                let whole = linear.rank.map { $0 * (linear.inputs + linear.outputs) } ?? linear.inputs * linear.outputs
                let second = linear.rank.map { $0 * linear.outputs } ?? whole
                let products =
                    switch (mode, linear.role) {
                    case (.checkpoint, .down): norms.feedForwardOutput == nil ? linear.inputs * rank : whole
                    case (.checkpoint, _): whole
                    case (_, .output): norms.attentionOutput == nil ? 0 : second
                    case (_, .down): norms.feedForwardOutput == nil ? 0 : second
                    default: second
                    }
                return sum + 2 * products
            }
        }
        return Double(step.tokens) * Double(perToken) + attentionFLOPs
    }

    // MARK: - Memory

    /// Numbers kept for each token: of each layer, and the residual stream after the last one.
    ///
    /// - plain: two residual streams and what leaves each norm, q and attention's output, k and v, q and k once more where
    ///   there are norms of heads, 2h of the scores' rows, gate, up and their product, and A·x of each low-rank layer:
    ///   8d + 2h + 3d_ff + 7r in a block of LLaMA with as many keys as queries;
    /// - checkpoint: d;
    /// - CoLA-M: 2d + 7r.
    var keptPerToken: Int {
        let bottlenecks = model.sum { $0.rank ?? 0 }
        switch mode {
        case .plain:
            return d + bottlenecks
                + model.sumOfBlocks {
                    (2 + $0.norms.all.count) * d + 2 * $0.q + 2 * $0.kv + $0.normedHeads + 2 * $0.attention.heads
                        + $0.gateUp + $0.f
                }
        case .checkpoint: return d + model.blocks.count * d
        case .colaM: return d + model.blocks.count * 2 * d + bottlenecks
        }
    }

    /// Of one layer's buffers those that the mode does not keep, per token.
    private var sharedPerToken: Int {
        guard mode != .plain else { return 0 }
        let ranks = Stream.allCases.reduce(0) { sum, stream in sum + widest { $0.ranks(reading: stream) } }
        return widest { $0.norms.attentionInput == nil ? 0 : d } + widest { $0.norms.attentionOutput == nil ? 0 : d }
            + widest { $0.norms.feedForwardInput == nil ? 0 : d } + widest { $0.norms.feedForwardOutput == nil ? 0 : d }
            + widest { $0.q + 2 * $0.kv } + widest(\.normedHeads) + widest(\.q) + widest { 2 * $0.attention.heads }
            + widest(\.gateUp) + widest(\.f) + (mode == .checkpoint ? d + ranks : 0)
    }

    /// Per token: one layer's buffers that the mode does not keep; o's and down's output; gradients of d (twice), 2 for norms,
    /// of q, k and v, of q and k before their norms, of attention's output, gate and up; two bottlenecks of all layers that
    /// read the same. Besides, two blocks of scores for each thread, rotations, and a chunk of rows of the head, with their
    /// gradients.
    var scratchBytes: Int {
        let (tokens, n) = (step.tokens, step.sequenceLength)
        let (heads, projected, gateUp) = (widest(\.normedHeads), widest { $0.q + 2 * $0.kv }, widest(\.gateUp))
        let bottleneck = Stream.allCases.map { stream in widest { $0.ranks(reading: stream) } }.max() ?? 0
        let perToken = sharedPerToken + d + (2 * d + 2 + projected + heads + widest(\.q) + gateUp) + 2 * bottleneck
        // Of at most 1024 rows and 2²⁴ logits, equal chunks.
        let limit = min(max(16, min(1024, (1 << 24) / vocabulary)), tokens)
        let chunks = (tokens + limit - 1) / limit
        let chunk = (tokens + chunks - 1) / chunks
        let single =
            tokens * perToken + 2 * threads * min(128, n) * n + n * rotatedFeatures
            + chunk * (d + vocabulary) + chunk * (d + 2)
        guard step.precision == .bf16 else { return 4 * single }
        // Rounded operands: what enters a layer or leaves a bottleneck, of forward and of backward; what leaves the layers
        // that read the same, and their bottlenecks; of the head and its gradient.
        let operand = max(d, widest { block in block.linears.map { max($0.inputs, $0.rank ?? 0) }.max() ?? 0 })
        let rounded = tokens * (2 * operand + max(d, projected, gateUp) + bottleneck) + chunk * (d + vocabulary)
        return 4 * single + 2 * rounded
    }

    /// A cosine and a sine for each pair of features that turn, in each way in which some layer turns them.
    private var rotatedFeatures: Int {
        struct Rotation: Hashable {
            let rotary: RotaryConfiguration
            let size: Int
        }
        let rotations = Set(
            model.blocks.compactMap { block in
                block.attention.rotary.map { Rotation(rotary: $0, size: block.attention.headSize) }
            })
        return rotations.reduce(0) { $0 + Int(Double($1.size) * $1.rotary.share) }
    }

    /// The largest of a count over all layers.
    private func widest(_ columns: (BlockDescription) -> Int) -> Int { model.blocks.map(columns).max() ?? 0 }
}

extension BlockDescription {
    /// h·d_h, h_kv·d_h and d_ff.
    fileprivate var q: Int { attention.heads * attention.headSize }
    fileprivate var kv: Int { attention.keyValueHeads * attention.headSize }
    fileprivate var f: Int { feedForward.width }
    /// Gate and up.
    fileprivate var gateUp: Int { (feedForward.isGated ? 2 : 1) * f }
    /// q and k behind the norms of heads.
    fileprivate var normedHeads: Int { attention.headNorm == nil ? 0 : q + kv }
    /// Σ r of the linear layers that read the same.
    fileprivate func ranks(reading stream: Stream) -> Int {
        linears.reduce(0) { $0 + ($1.role.stream == stream ? $1.rank ?? 0 : 0) }
    }
}
