import Tensors

/// The matrices that a block's forward pass makes and its backward pass reads.
///
/// Letters: N tokens of a batch, C hidden size, F width of the feed-forward network, H heads, K key/value heads, D head
/// size, R rank.
enum BlockBuffer: Int, CaseIterable {
    /// The residual stream entering the block, `[N, C]`.
    case input
    /// The norm of it, `[N, C]`.
    case attentionInput
    /// What leaves q, k and v, side by side, `[N, (H + 2K)·D]`; q and k rotated in place where no norm is between.
    case projected
    /// q and k after the norm of each head and rotation, `[N, (H + K)·D]`.
    case heads
    /// Attention's weighted values, `[N, H·D]`.
    case attended
    /// What attention's backward needs of each row of scores, `[N, 2·H]`.
    case statistics
    /// What leaves o, where a norm follows, `[N, C]`.
    case attentionOutput
    /// The residual stream between attention and feed-forward network, `[N, C]`.
    case middle
    /// The norm of it, `[N, C]`.
    case feedForwardInput
    /// What leaves gate and up, side by side, `[N, 2F]`, or up alone, `[N, F]`.
    case gateUp
    /// act(gate) · up, or act(up), `[N, F]`.
    case product
    /// What leaves down, where a norm follows, `[N, C]`.
    case feedForwardOutput
    /// z = A·x of the low-rank linear layers that read a stream, side by side, before σ, `[N, Σ R]`; see `bottleneck`.
    case attentionInputBottleneck
    case attendedBottleneck
    case feedForwardInputBottleneck
    case productBottleneck

    /// The bottlenecks of the linear layers that read a stream.
    static func bottleneck(_ stream: Stream) -> BlockBuffer {
        switch stream {
        case .attentionInput: .attentionInputBottleneck
        case .attended: .attendedBottleneck
        case .feedForwardInput: .feedForwardInputBottleneck
        case .product: .productBottleneck
        }
    }

    /// The stream whose linear layers' bottlenecks it holds, if it holds bottlenecks.
    private var bottleneckStream: Stream? { Stream.allCases.first { Self.bottleneck($0) == self } }
    var isBottleneck: Bool { bottleneckStream != nil }

    /// Columns of the buffer; 0 in a block that has no such thing.
    func columns(in block: BlockDescription, hiddenSize: Int) -> Int {
        let (attention, norms) = (block.attention, block.norms)
        switch self {
        case .input, .middle: return hiddenSize
        case .attentionInput: return norms.attentionInput == nil ? 0 : hiddenSize
        case .projected: return attention.queryWidth + 2 * attention.keyValueWidth
        case .heads: return attention.headNorm == nil ? 0 : attention.queryWidth + attention.keyValueWidth
        case .attended: return attention.queryWidth
        case .statistics: return 2 * attention.heads
        case .attentionOutput: return norms.attentionOutput == nil ? 0 : hiddenSize
        case .feedForwardInput: return norms.feedForwardInput == nil ? 0 : hiddenSize
        case .gateUp: return block.linears(reading: .feedForwardInput).reduce(0) { $0 + $1.outputs }
        case .product: return block.feedForward.width
        case .feedForwardOutput: return norms.feedForwardOutput == nil ? 0 : hiddenSize
        case .attentionInputBottleneck, .attendedBottleneck, .feedForwardInputBottleneck, .productBottleneck:
            return bottleneckStream.map { block.linears(reading: $0).reduce(0) { $0 + ($1.rank ?? 0) } } ?? 0
        }
    }
}

/// What the forward pass of training keeps for the backward pass; the rest is computed again.
public enum MemoryMode: String, Sendable, CaseIterable, Codable {
    /// Everything.
    case plain
    /// The input of each block: vanilla gradient checkpointing.
    case checkpoint
    /// Per block the two residual streams and the bottlenecks z = A·x before σ: CoLA-M (arXiv 2502.10940).
    case colaM = "cola-m"

    func keeps(_ buffer: BlockBuffer) -> Bool {
        switch self {
        case .plain: true
        case .checkpoint: buffer == .input
        case .colaM: buffer == .input || buffer == .middle || buffer.isBottleneck
        }
    }

    /// Numbers that are kept for each token in a block.
    func keptElements(of block: BlockDescription, hiddenSize: Int) -> Int {
        BlockBuffer.allCases.filter(keeps).reduce(0) { $0 + $1.columns(in: block, hiddenSize: hiddenSize) }
    }
}

/// One block's matrices by purpose. Several may share memory where a pass does not need them all. A buffer that the block
/// does not have has no columns.
struct BlockTrace {
    private var views: [MatrixView<Float>]

    /// Gets each buffer's memory from `view`, which is told its columns.
    init(_ block: BlockDescription, hiddenSize: Int, view: (BlockBuffer, Int) -> MatrixView<Float>) {
        views = BlockBuffer.allCases.map { view($0, $0.columns(in: block, hiddenSize: hiddenSize)) }
    }

    subscript(buffer: BlockBuffer) -> MatrixView<Float> {
        get { views[buffer.rawValue] }
        set { views[buffer.rawValue] = newValue }
    }

    /// The first rows of all buffers.
    func prefix(rows: Int) -> BlockTrace {
        var result = self
        result.views = views.map { $0.rows(0..<min(rows, $0.rows)) }
        return result
    }
}
