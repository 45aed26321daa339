import Tensors

/// Buffers of one forward pass, planned once from the shapes and used again for every batch.
///
/// Letters: N tokens of a batch, T longest sequence, C hidden size.
public final class Workspace {
    public let maximumTokens: Int
    public let longestSequence: Int

    /// The residual stream, `[N, C]`.
    let hidden: Matrix
    /// One set for all layers: they follow each other in the same memory, the residual stream and the MLP's product in place.
    let activations: LayerActivations
    let scratch: PassScratch

    public init(_ decoder: Decoder, maximumTokens: Int, longestSequence: Int) {
        let configuration = decoder.configuration
        self.maximumTokens = maximumTokens
        self.longestSequence = longestSequence
        hidden = Matrix(uninitialized: [maximumTokens, configuration.hiddenSize])
        var activations = LayerActivations()
        for buffer in LayerBuffer.all {
            switch buffer {
            case .input, .middle: activations[buffer] = hidden
            case .product: activations[.product] = activations[.gate]
            case .statistics: break
            default:
                guard let columns = buffer.columns(configuration, rank: decoder.weights.largestRank) else { continue }
                activations[buffer] = Matrix(uninitialized: [maximumTokens, columns])
            }
        }
        self.activations = activations
        scratch = PassScratch(decoder, rows: maximumTokens, longestSequence: longestSequence, scoreRows: 1)
    }

    /// Bytes that the buffers hold.
    public var bytes: Int { activations.distinct.reduce(scratch.bytes) { $0 + $1.bytes } }

    /// The residual stream after the last pass, `[rows, C]`.
    public func hiddenStates(rows: Int) -> MatrixView<Float> { hidden.view.rows(0..<rows) }
}

/// What a layer's forward pass computes with besides its activations.
struct PassScratch {
    /// What o and down leave, `[N, C]`.
    let projected: Matrix
    /// Operands rounded to bfloat16, `[N, widest]`.
    let rounded: Tensor<BFloat16>?
    /// Scores of one block of queries against all keys, `scoreRows` times for each thread.
    let scores: Matrix
    let rotary: RotaryTable

    init(_ decoder: Decoder, rows: Int, longestSequence: Int, scoreRows: Int) {
        let configuration = decoder.configuration
        projected = Matrix(uninitialized: [rows, configuration.hiddenSize])
        rounded =
            decoder.precision == .bf16 ? Tensor(uninitialized: [rows, decoder.weights.widest(configuration)]) : nil
        scores = Matrix(
            uninitialized: [
                scoreRows * ThreadPool.threads, min(Attention.queryBlock, longestSequence) * longestSequence,
            ])
        rotary = RotaryTable(configuration.rotary, size: configuration.headSize, positions: longestSequence)
    }

    var bytes: Int {
        projected.bytes + (rounded?.bytes ?? 0) + scores.bytes + rotary.cosine.bytes + rotary.sine.bytes
    }
}

extension DecoderWeights {
    /// The largest bottleneck of a module over all layers; nil if it is dense in all.
    func largestRank(of module: LinearModule) -> Int? { layers.compactMap { $0[module].rank }.max() }

    /// Columns of the widest operand of any projection.
    func widest(_ configuration: DecoderConfiguration) -> Int {
        ([configuration.hiddenSize, configuration.intermediateSize, configuration.queryWidth]
            + LinearModule.allCases.compactMap(largestRank)).max() ?? 0
    }
}
