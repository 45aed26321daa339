import Tensors

/// The matrices that a decoder layer's forward pass makes and its backward pass reads.
///
/// Letters: N tokens of a batch, C hidden size, F intermediate size, H heads, K key/value heads, D head size, R rank.
enum LayerBuffer: Hashable {
    /// The residual stream entering the layer, `[N, C]`.
    case input
    /// RMSNorm before attention, `[N, C]`.
    case attentionInput
    /// q after rotation, `[N, H·D]`.
    case query
    /// k after rotation, and v, `[N, K·D]`.
    case key, value
    /// Attention's weighted values, `[N, H·D]`.
    case attended
    /// What attention's backward needs of each row of scores, `[N, 2·H]`.
    case statistics
    /// The residual stream between attention and MLP, `[N, C]`.
    case middle
    /// RMSNorm before the MLP, `[N, C]`.
    case mlpInput
    /// What leaves gate and up, `[N, F]`.
    case gate, up
    /// silu(gate) · up or gate · up, `[N, F]`.
    case product
    /// z = A·x of a low-rank projection, before σ, `[N, R]`.
    case bottleneck(LinearModule)

    /// What enters the linear layers, by their `inputOwner`.
    static let inputs: [(LinearModule, LayerBuffer)] = [
        (.query, .attentionInput), (.output, .attended), (.gate, .mlpInput), (.down, .product),
    ]

    static var all: [LayerBuffer] {
        [
            .input, .attentionInput, .query, .key, .value, .attended, .statistics, .middle, .mlpInput, .gate, .up,
            .product,
        ] + LinearModule.allCases.map { .bottleneck($0) }
    }

    /// Columns of the buffer for a layer with these ranks; nil where the layer has no such buffer.
    func columns(_ configuration: DecoderConfiguration, rank: (LinearModule) -> Int?) -> Int? {
        switch self {
        case .input, .attentionInput, .middle, .mlpInput: configuration.hiddenSize
        case .query, .attended: configuration.queryWidth
        case .key, .value: configuration.keyValueWidth
        case .statistics: 2 * configuration.heads
        case .gate, .up, .product: configuration.intermediateSize
        case .bottleneck(let module): rank(module)
        }
    }
}

/// What the forward pass of training keeps for the backward pass; the rest is computed again.
public enum MemoryMode: String, Sendable, CaseIterable, Codable {
    /// Everything.
    case plain
    /// The input of each decoder layer: vanilla gradient checkpointing.
    case checkpoint
    /// Per layer the two residual streams and the seven bottlenecks z = A·x before σ: CoLA-M (arXiv 2502.10940).
    case colaM = "cola-m"

    func keeps(_ buffer: LayerBuffer) -> Bool {
        switch (self, buffer) {
        case (.plain, _), (_, .input), (.colaM, .middle), (.colaM, .bottleneck): true
        default: false
        }
    }
}

/// One layer's matrices by purpose. Several may share memory where a pass does not need them all.
struct LayerActivations {
    private var matrices: [LayerBuffer: Matrix] = [:]

    subscript(buffer: LayerBuffer) -> Matrix {
        get {
            guard let matrix = matrices[buffer] else { preconditionFailure("no room was planned for \(buffer)") }
            return matrix
        }
        set { matrices[buffer] = newValue }
    }

    /// z of a projection for some rows, `[rows, R]`; nil for a dense one.
    func bottleneck(_ module: LinearModule, _ projection: Projection, rows: Range<Int>) -> MatrixView<Float>? {
        projection.rank.map { rank in
            MatrixView(
                self[.bottleneck(module)].pointer + rows.lowerBound * rank, rows: rows.count, columns: rank,
                stride: rank)
        }
    }

    /// The different matrices in use, each once.
    var distinct: [Matrix] {
        var seen: Set<ObjectIdentifier> = []
        return matrices.values.filter { seen.insert(ObjectIdentifier($0)).inserted }
    }
}
