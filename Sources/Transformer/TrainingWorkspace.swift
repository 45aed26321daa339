import Tensors

/// Buffers of one forward and backward pass, planned once from the shapes and used again for every batch.
///
/// Letters: N tokens of a batch, C hidden size, F intermediate size, H heads, K key/value heads, D head size, R rank.
public final class TrainingWorkspace {
    public let mode: MemoryMode
    public let maximumTokens: Int
    public let longestSequence: Int

    /// The residual stream after the last layer, `[N, C]`.
    let hidden: Matrix
    /// Each layer's matrices: its own where the memory mode keeps them, else the same memory for all layers.
    let layers: [LayerActivations]
    let pass: PassScratch
    let backward: BackwardScratch
    let head: VocabularyHead
    let headGradient: HeadGradientScratch
    /// How long head and loss took in the last pass, forward and backward.
    public internal(set) var headSeconds = 0.0

    /// - Parameter mode: `colaM` keeps bottlenecks; the dense layers of a model keep none and are computed again.
    public init(_ decoder: Decoder, mode: MemoryMode, maximumTokens: Int, longestSequence: Int) {
        precondition(maximumTokens > 0 && longestSequence > 0, "a workspace for no tokens")
        self.mode = mode
        self.maximumTokens = maximumTokens
        self.longestSequence = longestSequence
        let (configuration, weights) = (decoder.configuration, decoder.weights)
        func rows(_ columns: Int) -> Matrix { Matrix(uninitialized: [maximumTokens, columns]) }
        hidden = rows(configuration.hiddenSize)
        var shared = LayerActivations()
        for buffer in LayerBuffer.all where !mode.keeps(buffer) {
            guard let columns = buffer.columns(configuration, rank: weights.largestRank) else { continue }
            shared[buffer] = rows(columns)
        }
        layers = weights.layers.map { layer in
            var activations = shared
            for buffer in LayerBuffer.all where mode.keeps(buffer) {
                guard let columns = buffer.columns(configuration, rank: { layer[$0].rank }) else { continue }
                activations[buffer] = rows(columns)
            }
            return activations
        }
        pass = PassScratch(decoder, rows: maximumTokens, longestSequence: longestSequence, scoreRows: 2)
        backward = BackwardScratch(decoder, rows: maximumTokens)
        head = VocabularyHead(decoder, maximumRows: maximumTokens)
        headGradient = HeadGradientScratch(decoder, rows: head.chunk)
        self.configuration = configuration
        ranks = weights.layers.map { layer in LinearModule.allCases.map { layer[$0].rank } }
    }

    private let configuration: DecoderConfiguration
    private let ranks: [[Int?]]

    // MARK: - Bytes by purpose

    /// What the forward pass leaves for the backward pass: per layer, and the residual stream after the last one.
    public var keptBytes: Int { keptElementsPerToken.reduce(0, +) * 4 * maximumTokens + hidden.bytes }

    /// Bytes that a pass over so many tokens keeps between forward and backward.
    public static func keptBytes(_ decoder: Decoder, mode: MemoryMode, tokens: Int) -> Int {
        let elements = decoder.weights.layers.reduce(decoder.configuration.hiddenSize) { sum, layer in
            LayerBuffer.all.filter(mode.keeps)
                .compactMap { $0.columns(decoder.configuration, rank: { layer[$0].rank }) }.reduce(sum, +)
        }
        return elements * 4 * tokens
    }

    /// Elements kept for each token, layer by layer.
    public var keptElementsPerToken: [Int] {
        ranks.map { ranks in
            let rank = Dictionary(uniqueKeysWithValues: zip(LinearModule.allCases, ranks))
            return LayerBuffer.all.filter(mode.keeps)
                .compactMap { $0.columns(configuration, rank: { rank[$0] ?? nil }) }.reduce(0, +)
        }
    }

    /// Everything else: what is overwritten from layer to layer.
    public var scratchBytes: Int {
        var distinct: [ObjectIdentifier: Int] = [:]
        for layer in layers { for matrix in layer.distinct { distinct[ObjectIdentifier(matrix)] = matrix.bytes } }
        let activations = distinct.values.reduce(hidden.bytes, +)
        return activations - keptBytes + pass.bytes + backward.bytes + head.bytes + headGradient.bytes
    }
}

/// What a layer's backward pass computes with.
struct BackwardScratch {
    /// The gradient of the residual stream, `[N, C]`.
    let hidden: Matrix
    /// The gradient of what leaves RMSNorm, `[N, C]`.
    let normalized: Matrix
    /// The gradients of attention's output and of q, `[N, H·D]`, of k and v, `[N, K·D]`.
    let attended: Matrix
    let query: Matrix
    let key: Matrix
    let value: Matrix
    /// The gradients of gate and up, `[N, F]`.
    let gate: Matrix
    let up: Matrix
    /// σ(z) and the gradient of z, `[N, R]`.
    let activated: Matrix?
    let bottleneckGradient: Matrix?
    /// 1 / √(mean(x²) + ε) of each row.
    let scales: Matrix
    /// Operands of the products in bfloat16: what entered a projection, the gradient of what left it, its bottleneck.
    let roundedInput: Tensor<BFloat16>?
    let roundedOutput: Tensor<BFloat16>?
    let roundedBottleneck: Tensor<BFloat16>?

    init(_ decoder: Decoder, rows n: Int) {
        let configuration = decoder.configuration
        func rows(_ columns: Int) -> Matrix { Matrix(uninitialized: [n, columns]) }
        hidden = rows(configuration.hiddenSize)
        normalized = rows(configuration.hiddenSize)
        attended = rows(configuration.queryWidth)
        query = rows(configuration.queryWidth)
        key = rows(configuration.keyValueWidth)
        value = rows(configuration.keyValueWidth)
        gate = rows(configuration.intermediateSize)
        up = rows(configuration.intermediateSize)
        let rank = LinearModule.allCases.compactMap(decoder.weights.largestRank).max()
        activated = rank.map(rows)
        bottleneckGradient = rank.map(rows)
        scales = Matrix(uninitialized: [n])
        let isRounded = decoder.precision == .bf16
        let widest = decoder.weights.widest(configuration)
        roundedInput = isRounded ? Tensor(uninitialized: [n, widest]) : nil
        roundedOutput = isRounded ? Tensor(uninitialized: [n, widest]) : nil
        roundedBottleneck = isRounded ? rank.map { Tensor(uninitialized: [n, $0]) } : nil
    }

    var bytes: Int {
        [hidden, normalized, attended, query, key, value, gate, up, scales].reduce(0) { $0 + $1.bytes }
            + [activated, bottleneckGradient].reduce(0) { $0 + ($1?.bytes ?? 0) }
            + [roundedInput, roundedOutput, roundedBottleneck].reduce(0) { $0 + ($1?.bytes ?? 0) }
    }
}
