import CKernels
import LinearAlgebra
import Tensors

/// The steps of one decoder layer for one batch. Each runs over blocks of rows, one block per thread at a time, so that a
/// block's activations stay in the cache from one operation to the next.
struct LayerPass {
    let configuration: DecoderConfiguration
    let batch: TokenBatch
    let positions: [Int]
    let scratch: PassScratch
    /// Where σ(z) goes; without it, over z itself.
    let activated: Matrix?

    init(_ configuration: DecoderConfiguration, _ batch: TokenBatch, _ scratch: PassScratch, activated: Matrix? = nil) {
        self.configuration = configuration
        self.batch = batch
        positions = batch.positions
        self.scratch = scratch
        self.activated = activated
    }

    private var all: Range<Int> { 0..<batch.count }
    private var attention: Attention { Attention(configuration) }

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

    // MARK: - Forward

    /// What of the last forward pass is still there and need not be computed again.
    struct Kept {
        var bottlenecks = false
        var middle = false
    }

    private func apply(
        _ module: LinearModule, of layer: DecoderLayer, _ activations: LayerActivations, _ x: LayerBuffer,
        into y: Matrix?, rows: Range<Int>, reusingBottleneck: Bool
    ) {
        let projection = layer[module]
        let z = activations.bottleneck(module, projection, rows: rows)
        let h = z.map { z in activated.map { Self.room(for: z, rows: rows, in: $0) } ?? z }
        projection.forward(
            activations[x].view.rows(rows), bottleneck: z, activated: h, scratch: scratch.rounded?.view.rows(rows),
            reusesBottleneck: reusingBottleneck, into: y?.view.rows(rows))
    }

    /// Where σ(z) of a block of rows goes. It begins at the same place whatever the rank: other blocks may be at another
    /// module meanwhile.
    static func room(for z: MatrixView<Float>, rows: Range<Int>, in activated: Matrix) -> MatrixView<Float> {
        MatrixView(activated.view.row(rows.lowerBound), rows: z.rows, columns: z.columns, stride: z.columns)
    }

    /// q, k, v ← projections of RMSNorm(input), q and k rotated.
    func projectQueries(_ layer: DecoderLayer, _ activations: LayerActivations, kept: Kept = Kept()) {
        let (query, key) = (activations[.query].view, activations[.key].view)
        forEachBlock { rows in
            Normalization.forward(
                activations[.input].view.rows(rows), layer.inputNorm, epsilon: configuration.normEpsilon,
                into: activations[.attentionInput].view.rows(rows))
            for (module, result) in [(LinearModule.query, LayerBuffer.query), (.key, .key), (.value, .value)] {
                apply(
                    module, of: layer, activations, .attentionInput, into: activations[result], rows: rows,
                    reusingBottleneck: kept.bottlenecks)
            }
            for row in rows {
                let (rotary, position) = (scratch.rotary, positions[row])
                rotary.rotate(query.row(row), heads: configuration.heads, position: position, direction: 1)
                rotary.rotate(key.row(row), heads: configuration.keyValueHeads, position: position, direction: 1)
            }
        }
    }

    /// attended ← attention over q, k, v.
    func attend(_ activations: LayerActivations, keepingStatistics: Bool = false) {
        attention.forward(
            batch, query: activations[.query].view.rows(all), key: activations[.key].view.rows(all),
            value: activations[.value].view.rows(all), scores: scratch.scores,
            statistics: keepingStatistics ? activations[.statistics].view : nil,
            into: activations[.attended].view.rows(all))
    }

    /// middle ← input + o(attended), then output ← middle + down(silu(gate(x)) · up(x)) for x = RMSNorm(middle).
    /// Without an output, down stops at its bottleneck.
    func feedForward(
        _ layer: DecoderLayer, _ activations: LayerActivations, kept: Kept = Kept(), into output: Matrix?
    ) {
        let (c, f) = (configuration.hiddenSize, configuration.intermediateSize)
        let (projected, middle) = (scratch.projected, activations[.middle])
        forEachBlock { rows in
            let first = rows.lowerBound
            if !kept.middle {
                apply(
                    .output, of: layer, activations, .attended, into: projected, rows: rows, reusingBottleneck: false)
                ck_sum(
                    activations[.input].view.row(first), projected.view.row(first), middle.view.row(first),
                    rows.count * c)
            }
            Normalization.forward(
                middle.view.rows(rows), layer.postAttentionNorm, epsilon: configuration.normEpsilon,
                into: activations[.mlpInput].view.rows(rows))
            for (module, result) in [(LinearModule.gate, LayerBuffer.gate), (.up, .up)] {
                apply(
                    module, of: layer, activations, .mlpInput, into: activations[result], rows: rows,
                    reusingBottleneck: kept.bottlenecks)
            }
            let (gate, up) = (activations[.gate].view.row(first), activations[.up].view.row(first))
            let product = activations[.product].view.row(first)
            if configuration.placement.hasOuterActivation {
                ck_silu_multiply(gate, up, product, rows.count * f)
            } else {
                ck_multiply(gate, up, product, rows.count * f)
            }
            guard output != nil || !kept.bottlenecks else { return }
            apply(
                .down, of: layer, activations, .product, into: output.map { _ in projected }, rows: rows,
                reusingBottleneck: false)
            if let output {
                ck_sum(middle.view.row(first), projected.view.row(first), output.view.row(first), rows.count * c)
            }
        }
    }

    /// Computes again what backward needs and the memory mode has not kept.
    func recompute(_ layer: DecoderLayer, _ activations: LayerActivations, _ mode: MemoryMode) {
        guard mode != .plain else { return }
        let kept = Kept(bottlenecks: mode == .colaM, middle: mode == .colaM)
        projectQueries(layer, activations, kept: kept)
        attend(activations, keepingStatistics: true)
        feedForward(layer, activations, kept: kept, into: nil)
    }

    // MARK: - Backward

    /// Turns the gradient of the layer's output, in `scratch.hidden` `[N, C]`, into that of its input, and computes the
    /// gradients of the layer's parameters, if they have a place. The steps are those of forward in reverse. `observe` sees
    /// the gradient `[N, out]` of what leaves each projection.
    func backward(
        _ layer: DecoderLayer, _ activations: LayerActivations, gradient: DecoderLayer?, accumulating: Bool,
        _ backward: BackwardScratch, observe: (LinearModule, MatrixView<Float>) -> Void = { _, _ in }
    ) {
        func view(_ matrix: Matrix) -> MatrixView<Float> { matrix.view.rows(all) }
        func apply(
            _ module: LinearModule, _ x: LayerBuffer, _ dy: Matrix, into dx: Matrix, addingToInput: Bool = false
        ) {
            observe(module, view(dy))
            layer[module].backward(
                view(activations[x]), bottleneck: activations.bottleneck(module, layer[module], rows: all), view(dy),
                gradient: gradient?[module], accumulating: accumulating, scratch: backward, into: view(dx),
                addingToInput: addingToInput)
        }
        func normalize(_ x: LayerBuffer, _ weight: Weight, gradient: Weight?) {
            Normalization.backward(
                view(activations[x]), weight, epsilon: configuration.normEpsilon, view(backward.normalized),
                gradient: gradient, accumulating: accumulating, scales: backward.scales.pointer,
                into: view(backward.hidden))
        }
        // output = middle + down(product)
        apply(.down, .product, backward.hidden, into: backward.gate)
        // product = silu(gate) · up
        differentiateProduct(activations, backward)
        // gate, up of RMSNorm(middle)
        apply(.gate, .mlpInput, backward.gate, into: backward.normalized)
        apply(.up, .mlpInput, backward.up, into: backward.normalized, addingToInput: true)
        normalize(.middle, layer.postAttentionNorm, gradient: gradient?.postAttentionNorm)
        // middle = input + o(attended)
        apply(.output, .attended, backward.hidden, into: backward.attended)
        // attended = attention(q, k, v)
        attention.backward(
            batch, query: view(activations[.query]), key: view(activations[.key]), value: view(activations[.value]),
            attended: view(activations[.attended]), statistics: view(activations[.statistics]),
            gradient: view(backward.attended), scores: scratch.scores, intoQuery: view(backward.query),
            key: view(backward.key), value: view(backward.value))
        rotateBack(backward)
        // q, k, v of RMSNorm(input)
        apply(.query, .attentionInput, backward.query, into: backward.normalized)
        apply(.key, .attentionInput, backward.key, into: backward.normalized, addingToInput: true)
        apply(.value, .attentionInput, backward.value, into: backward.normalized, addingToInput: true)
        normalize(.input, layer.inputNorm, gradient: gradient?.inputNorm)
    }

    /// The gradients of gate and up from that of their product, which is where the gate's goes.
    private func differentiateProduct(_ activations: LayerActivations, _ backward: BackwardScratch) {
        let f = configuration.intermediateSize
        forEachBlock { rows in
            let first = rows.lowerBound
            let (gate, up) = (activations[.gate].view.row(first), activations[.up].view.row(first))
            let (dGate, dUp) = (backward.gate.view.row(first), backward.up.view.row(first))
            if configuration.placement.hasOuterActivation {
                ck_silu_multiply_backward(gate, up, dGate, dUp, rows.count * f)
            } else {
                ck_multiply_backward(gate, up, dGate, dUp, rows.count * f)
            }
        }
    }

    /// The gradients before rotation: rotation by the opposite angle.
    private func rotateBack(_ backward: BackwardScratch) {
        forEachBlock { rows in
            for row in rows {
                let (rotary, position) = (scratch.rotary, positions[row])
                let (query, key) = (backward.query.view.row(row), backward.key.view.row(row))
                rotary.rotate(query, heads: configuration.heads, position: position, direction: -1)
                rotary.rotate(key, heads: configuration.keyValueHeads, position: position, direction: -1)
            }
        }
    }
}
