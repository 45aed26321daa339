import Checkpoints
import CKernels
import LinearAlgebra
import Tensors

/// A LLaMA-type decoder: configuration and weights, and the forward pass over a workspace.
public final class Decoder: Sendable {
    public let configuration: DecoderConfiguration
    public let weights: DecoderWeights
    public let precision: Precision

    public init(_ configuration: DecoderConfiguration, _ weights: DecoderWeights, precision: Precision = .f32) {
        self.configuration = configuration
        self.weights = weights
        self.precision = precision
    }

    /// Loads configuration and weights; without `includingHead` only what the hidden states need.
    public convenience init(
        from source: any TensorSource, precision: Precision = .f32, includingHead: Bool = true
    ) throws {
        let configuration = try DecoderConfiguration(of: source)
        let weights = try DecoderWeights(
            from: source, configuration, precision: precision, includingHead: includingHead)
        self.init(configuration, weights, precision: precision)
    }

    /// Throws `TransformerError.token` at the first id that the embedding has no row for.
    public func validate(_ ids: [UInt32]) throws(TransformerError) {
        let vocabulary = UInt32(clamping: configuration.vocabularySize)
        if let position = ids.firstIndex(where: { $0 >= vocabulary }) {
            throw .token(id: ids[position], position: position, vocabulary: configuration.vocabularySize)
        }
    }

    /// Runs the first `layers` decoder layers (all by default) and returns the residual stream `[N, C]`, before the last
    /// RMSNorm. The view is the workspace's and holds until the next pass.
    @discardableResult
    public func forward(
        _ batch: TokenBatch, in workspace: Workspace, layers: Int? = nil, observer: (any ActivationObserver)? = nil
    ) -> MatrixView<Float> {
        let n = batch.count
        precondition(
            n <= workspace.maximumTokens && batch.longest <= workspace.longestSequence,
            "a batch of \(n) tokens, longest \(batch.longest), in a workspace for \(workspace.maximumTokens), "
                + "longest \(workspace.longestSequence)")
        let all = 0..<n
        let hidden = workspace.hidden.view.rows(all)
        for (row, id) in batch.ids.enumerated() { weights.embedding.copyRow(Int(id), to: hidden.row(row)) }
        let pass = Pass(decoder: self, batch: batch, workspace: workspace)
        for (index, layer) in weights.layers.prefix(layers ?? weights.layers.count).enumerated() {
            func observe(_ site: ActivationSite, _ matrix: Matrix) {
                observer?.observe(site, layer: index, matrix.view.rows(all))
            }
            observe(.residualInput, workspace.hidden)
            pass.projectQueries(layer)
            observe(.input(.query), workspace.attentionInput)
            pass.attend()
            observe(.input(.output), workspace.attended)
            pass.feedForward(layer)
            observe(.input(.gate), workspace.mlpInput)
            observe(.input(.down), workspace.gate)
            observe(.mlpOutput, workspace.projected)
            observe(.residualOutput, workspace.hidden)
            for module in LinearModule.allCases {
                guard case .lowRank(let lowRank) = layer[module], lowRank.isActivated else { continue }
                let h = workspace.bottlenecks[module]!.pointer
                observer?.observe(
                    .bottleneck(module), layer: index,
                    MatrixView(h, rows: n, columns: lowRank.rank, stride: lowRank.rank))
            }
        }
        return hidden
    }

    /// FLOPs of the linear layers and the causal attention for one sequence of `length` tokens, head excluded.
    public func flops(sequenceLength length: Int, layers: Int? = nil) -> Double {
        let attention = 4 * configuration.queryWidth * length * (length + 1) / 2
        return weights.layers.prefix(layers ?? weights.layers.count).reduce(0) { sum, layer in
            let linear = LinearModule.allCases.reduce(0) { $0 + layer[$1].flops }
            return sum + Double(length * linear + attention)
        }
    }
}

extension DecoderConfiguration {
    /// The configuration that a checkpoint carries.
    public init(of source: any TensorSource) throws(TransformerError) {
        guard let text = source.configuration else {
            throw .configuration(
                path: source.path, key: "config", found: "none in the file and no config.json beside it",
                expected: "the text of a Hugging Face config.json; give one with --config")
        }
        try self.init(json: text, path: source.path)
    }
}

/// The steps of one forward pass. Each runs over blocks of rows, one block per thread at a time, so that a block's
/// activations stay in the cache from one operation to the next.
private struct Pass {
    let configuration: DecoderConfiguration
    let batch: TokenBatch
    let positions: [Int]
    let workspace: Workspace

    init(decoder: Decoder, batch: TokenBatch, workspace: Workspace) {
        configuration = decoder.configuration
        self.batch = batch
        positions = batch.positions
        self.workspace = workspace
    }

    private func forEachBlock(_ body: (Range<Int>) -> Void) {
        let rows = batch.count
        let threads = ThreadPool.threads
        // A few rows are not worth cutting; the products then share out their columns instead.
        guard rows >= 32 * threads else { return body(0..<rows) }
        let rounds = (rows + 512 * threads - 1) / (512 * threads)
        let block = (rows + rounds * threads - 1) / (rounds * threads)
        let blocks = (rows + block - 1) / block
        ThreadPool.forEach(blocks) { body($0 * block..<min(rows, ($0 + 1) * block)) }
    }

    private func apply(
        _ module: LinearModule, of layer: DecoderLayer, _ x: Matrix, into y: Matrix, rows: Range<Int>
    ) {
        let projection = layer[module]
        let bottleneck = projection.rank.map { rank in
            MatrixView(
                workspace.bottlenecks[module]!.pointer + rows.lowerBound * rank, rows: rows.count, columns: rank,
                stride: rank)
        }
        projection.forward(
            x.view.rows(rows), bottleneck: bottleneck, scratch: workspace.rounded?.view.rows(rows),
            into: y.view.rows(rows))
    }

    private func normalize(_ x: Matrix, _ weight: Weight, into y: Matrix, rows: Range<Int>) {
        for row in rows {
            ck_rms_norm(x.view.row(row), weight.vector, y.view.row(row), x.columns, configuration.normEpsilon)
        }
    }

    /// q, k, v ← projections of RMSNorm(hidden), q and k rotated.
    func projectQueries(_ layer: DecoderLayer) {
        let (heads, keyValueHeads) = (configuration.heads, configuration.keyValueHeads)
        let size = configuration.headSize
        forEachBlock { rows in
            normalize(workspace.hidden, layer.inputNorm, into: workspace.attentionInput, rows: rows)
            apply(.query, of: layer, workspace.attentionInput, into: workspace.query, rows: rows)
            apply(.key, of: layer, workspace.attentionInput, into: workspace.key, rows: rows)
            apply(.value, of: layer, workspace.attentionInput, into: workspace.value, rows: rows)
            for row in rows {
                let cosine = workspace.rotary.cosine.view.row(positions[row])
                let sine = workspace.rotary.sine.view.row(positions[row])
                ck_rotate_halves(workspace.query.view.row(row), heads, size, cosine, sine)
                ck_rotate_halves(workspace.key.view.row(row), keyValueHeads, size, cosine, sine)
            }
        }
    }

    /// attended ← attention over q, k, v.
    func attend() {
        let all = 0..<batch.count
        Attention(
            heads: configuration.heads, keyValueHeads: configuration.keyValueHeads, headSize: configuration.headSize
        )
        .forward(
            batch, query: workspace.query.view.rows(all), key: workspace.key.view.rows(all),
            value: workspace.value.view.rows(all), scores: workspace.scores, into: workspace.attended.view.rows(all))
    }

    /// hidden ← hidden + o(attended), then hidden ← hidden + down(silu(gate(x)) · up(x)) for x = RMSNorm(hidden).
    func feedForward(_ layer: DecoderLayer) {
        let (c, f) = (configuration.hiddenSize, configuration.intermediateSize)
        forEachBlock { rows in
            apply(.output, of: layer, workspace.attended, into: workspace.projected, rows: rows)
            ck_add(
                workspace.hidden.view.row(rows.lowerBound), workspace.projected.view.row(rows.lowerBound),
                rows.count * c)
            normalize(workspace.hidden, layer.postAttentionNorm, into: workspace.mlpInput, rows: rows)
            apply(.gate, of: layer, workspace.mlpInput, into: workspace.gate, rows: rows)
            apply(.up, of: layer, workspace.mlpInput, into: workspace.up, rows: rows)
            let (gate, up) = (workspace.gate.view.row(rows.lowerBound), workspace.up.view.row(rows.lowerBound))
            if configuration.placement.hasOuterActivation {
                ck_silu_multiply(gate, up, rows.count * f)
            } else {
                ck_multiply(gate, up, rows.count * f)
            }
            apply(.down, of: layer, workspace.gate, into: workspace.projected, rows: rows)
            ck_add(
                workspace.hidden.view.row(rows.lowerBound), workspace.projected.view.row(rows.lowerBound),
                rows.count * c)
        }
    }
}
