import Tensors

/// Buffers of one forward and backward pass, planned once from the shapes and used again for every batch.
///
/// Letters: N tokens of a batch, C hidden size, F width of the feed-forward network, H heads, K key/value heads, D head
/// size, R rank.
public final class TrainingWorkspace {
    public let mode: MemoryMode
    public let maximumTokens: Int
    public let longestSequence: Int

    /// The residual stream after the last block, `[N, C]`.
    let hidden: Matrix
    /// Each block's matrices: its own where the memory mode keeps them, else the same memory for all blocks.
    let traces: [BlockTrace]
    let pass: PassScratch
    let backward: BackwardScratch
    let head: VocabularyHead
    let headGradient: HeadGradientScratch
    /// How long head and loss took in the last pass, forward and backward.
    public internal(set) var headSeconds = 0.0

    private let description: ModelDescription
    private let shared: SharedBuffers
    private let kept: [Matrix]

    /// - Parameter mode: `colaM` keeps bottlenecks; the dense linear layers of a model keep none and are computed again.
    public init(_ model: LanguageModel, mode: MemoryMode, maximumTokens: Int, longestSequence: Int) {
        precondition(maximumTokens > 0 && longestSequence > 0, "a workspace for no tokens")
        self.mode = mode
        self.maximumTokens = maximumTokens
        self.longestSequence = longestSequence
        let description = model.description
        self.description = description
        hidden = Matrix(uninitialized: [maximumTokens, description.hiddenSize])
        let shared = SharedBuffers(description, rows: maximumTokens) { !mode.keeps($0) }
        var kept: [Matrix] = []
        traces = description.blocks.map { block in
            BlockTrace(block, hiddenSize: description.hiddenSize) { buffer, columns in
                guard mode.keeps(buffer), columns > 0 else { return shared.view(of: buffer, columns: columns) }
                let matrix = Matrix(uninitialized: [maximumTokens, columns])
                kept.append(matrix)
                return matrix.view
            }
        }
        self.shared = shared
        self.kept = kept
        pass = PassScratch(model, rows: maximumTokens, longestSequence: longestSequence, scoreRows: 2)
        backward = BackwardScratch(model, rows: maximumTokens)
        head = VocabularyHead(model, maximumRows: maximumTokens)
        headGradient = HeadGradientScratch(model, rows: head.chunk)
    }

    // MARK: - Bytes by purpose

    /// What the forward pass leaves for the backward pass: per block, and the residual stream after the last one.
    public var keptBytes: Int { kept.reduce(hidden.bytes) { $0 + $1.bytes } }

    /// Bytes that a pass over so many tokens keeps between forward and backward.
    public static func keptBytes(_ description: ModelDescription, mode: MemoryMode, tokens: Int) -> Int {
        let elements = description.blocks.reduce(description.hiddenSize) {
            $0 + mode.keptElements(of: $1, hiddenSize: description.hiddenSize)
        }
        return elements * 4 * tokens
    }

    /// Elements kept for each token, block by block.
    public var keptElementsPerToken: [Int] {
        description.blocks.map { mode.keptElements(of: $0, hiddenSize: description.hiddenSize) }
    }

    /// Everything else: what is overwritten from block to block.
    public var scratchBytes: Int { shared.bytes + pass.bytes + backward.bytes + head.bytes + headGradient.bytes }
}

/// What a block's backward pass computes with.
struct BackwardScratch {
    /// The gradient of the residual stream, `[N, C]`.
    let hidden: Matrix
    /// The gradient of what leaves a norm before linear layers, or enters one behind them, `[N, C]`.
    let normalized: Matrix
    /// The gradient of attention's weighted values, `[N, H·D]`.
    let attended: Matrix
    /// The gradients of what leaves q, k and v, `[N, (H + 2K)·D]`.
    let projected: Matrix
    /// The gradients of q and k as attention sees them, where a norm of heads is between, `[N, (H + K)·D]`.
    let heads: Matrix?
    /// The gradients of what leaves gate and up, `[N, 2F]`.
    let gateUp: Matrix
    /// σ(z) and the gradient of z of all linear layers that read a stream, `[N, Σ R]`.
    let activated: Matrix?
    let bottleneckGradient: Matrix?
    let statistics: NormStatistics
    /// Operands of the products in bfloat16: what entered a group, the gradient of what left it, its bottlenecks.
    let roundedInput: Tensor<BFloat16>?
    let roundedOutput: Tensor<BFloat16>?
    let roundedBottleneck: Tensor<BFloat16>?

    init(_ model: LanguageModel, rows n: Int) {
        let description = model.description
        func rows(_ buffer: BlockBuffer) -> Matrix? {
            let columns = description.largest { buffer.columns(in: $0, hiddenSize: description.hiddenSize) }
            return columns > 0 ? Matrix(uninitialized: [n, columns]) : nil
        }
        hidden = Matrix(uninitialized: [n, description.hiddenSize])
        normalized = Matrix(uninitialized: [n, description.hiddenSize])
        attended = rows(.attended) ?? hidden
        projected = rows(.projected) ?? hidden
        heads = rows(.heads)
        gateUp = rows(.gateUp) ?? hidden
        let rank = description.widestBottleneck
        activated = rank > 0 ? Matrix(uninitialized: [n, rank]) : nil
        bottleneckGradient = rank > 0 ? Matrix(uninitialized: [n, rank]) : nil
        statistics = NormStatistics(rows: n)
        let isRounded = model.precision == .bf16
        roundedInput = isRounded ? Tensor(uninitialized: [n, description.widestOperand]) : nil
        roundedOutput = isRounded ? Tensor(uninitialized: [n, description.widestOutput]) : nil
        roundedBottleneck = isRounded && rank > 0 ? Tensor(uninitialized: [n, rank]) : nil
    }

    var bytes: Int {
        [hidden, normalized, attended, projected, gateUp].reduce(statistics.bytes) { $0 + $1.bytes }
            + [heads, activated, bottleneckGradient].reduce(0) { $0 + ($1?.bytes ?? 0) }
            + [roundedInput, roundedOutput, roundedBottleneck].reduce(0) { $0 + ($1?.bytes ?? 0) }
    }
}
