import Tensors

/// Buffers of one forward pass, planned once from the shapes and used again for every batch.
///
/// Letters: N tokens of a batch, T longest sequence, C hidden size, F intermediate size, R largest rank.
public final class Workspace {
    public let maximumTokens: Int
    public let longestSequence: Int

    /// The residual stream, `[N, C]`.
    let hidden: Matrix
    /// RMSNorm before attention and before the MLP, `[N, C]` each.
    let attentionInput: Matrix
    let mlpInput: Matrix
    /// q `[N, H·D]`; k and v `[N, K·D]`.
    let query: Matrix
    let key: Matrix
    let value: Matrix
    /// Attention's weighted values, `[N, H·D]`.
    let attended: Matrix
    /// What o and down leave, `[N, C]`.
    let projected: Matrix
    /// gate and up, `[N, F]` each; gate becomes the product that enters down.
    let gate: Matrix
    let up: Matrix
    /// σ(A·x) of each low-rank module, `[N, R]` of that module.
    let bottlenecks: [LinearModule: Matrix]
    /// Operands rounded to bfloat16, `[N, widest]`.
    let rounded: Tensor<BFloat16>?
    /// Scores of one block of queries against all keys, for each thread.
    let scores: Matrix
    let rotary: RotaryTable

    /// Queries that attention handles at a time.
    static let queryBlock = 128

    public init(_ decoder: Decoder, maximumTokens: Int, longestSequence: Int) {
        let configuration = decoder.configuration
        let n = maximumTokens
        self.maximumTokens = n
        self.longestSequence = longestSequence
        func rows(_ columns: Int) -> Matrix { Matrix(uninitialized: [n, columns]) }
        hidden = rows(configuration.hiddenSize)
        attentionInput = rows(configuration.hiddenSize)
        mlpInput = rows(configuration.hiddenSize)
        query = rows(configuration.queryWidth)
        key = rows(configuration.keyValueWidth)
        value = rows(configuration.keyValueWidth)
        attended = rows(configuration.queryWidth)
        projected = rows(configuration.hiddenSize)
        gate = rows(configuration.intermediateSize)
        up = rows(configuration.intermediateSize)
        var bottlenecks: [LinearModule: Matrix] = [:]
        for module in LinearModule.allCases {
            if let rank = decoder.weights.layers.compactMap({ $0[module].rank }).max() {
                bottlenecks[module] = rows(rank)
            }
        }
        self.bottlenecks = bottlenecks
        let widest = max(configuration.hiddenSize, configuration.intermediateSize, configuration.queryWidth)
        let rank = bottlenecks.values.map(\.columns).max() ?? 0
        rounded = decoder.precision == .bf16 ? Tensor(uninitialized: [n, max(widest, rank)]) : nil
        scores = Matrix(uninitialized: [ThreadPool.threads, Self.queryBlock * longestSequence])
        rotary = RotaryTable(configuration.rotary, size: configuration.headSize, positions: longestSequence)
    }

    /// Bytes that the buffers hold.
    public var bytes: Int {
        let matrices = [hidden, attentionInput, mlpInput, query, key, value, attended, projected, gate, up, scores]
        return (matrices + bottlenecks.values).reduce(0) { $0 + $1.bytes } + (rounded?.bytes ?? 0)
            + rotary.cosine.bytes + rotary.sine.bytes
    }
}

extension Workspace {
    /// The residual stream after the last pass, `[rows, C]`.
    public func hiddenStates(rows: Int) -> MatrixView<Float> { hidden.view.rows(0..<rows) }
}
