import CKernels
import LinearAlgebra
import Tensors

/// The gradients of a block's parameters, and who watches the pass.
struct BlockGradients {
    /// Weights of the block's layout; nil if only the gradient of its input is asked for.
    let weights: BlockWeights?
    /// Whether gradients are added to what is there.
    let accumulating: Bool
    /// Sees the gradient `[N, out]` of what leaves each linear layer.
    var observe: (LinearLayer, MatrixView<Float>) -> Void = { _, _ in }
}

/// `DecoderBlock.forward` read from the end.
struct BlockBackward {
    private let block: DecoderBlock
    private let trace: BlockTrace
    private let gradients: BlockGradients
    private let scratch: BackwardScratch
    /// The gradient of the residual stream, `[N, C]`.
    private let hidden: MatrixView<Float>

    init(_ block: DecoderBlock, _ trace: BlockTrace, _ gradients: BlockGradients, _ scratch: BackwardScratch) {
        self.block = block
        self.trace = trace
        self.gradients = gradients
        self.scratch = scratch
        hidden = scratch.hidden.view.rows(0..<block.context.batch.count)
    }

    private var weights: BlockWeights { block.weights }

    /// Turns the gradient of the block's output, in `scratch.hidden`, into that of its input, and computes the gradients of
    /// its parameters.
    func run() {
        let gateUp = room(scratch.gateUp, trace[.gateUp].columns)
        let product = block.description.feedForward.isGated ? block.gate(gateUp) : gateUp
        let attended = room(scratch.attended, trace[.attended].columns)
        let projected = room(scratch.projected, trace[.projected].columns)

        // output = middle + norm(down(p)), p = act(gate) · up
        differentiate(.product, differentiateSum(.product, \.feedForwardOutput), into: product) { rows in
            differentiateActivation(gateUp, rows: rows)
        }
        // gate, up of norm(middle)
        differentiate(.feedForwardInput, gateUp, through: \.feedForwardInput, of: .middle)
        // middle = input + norm(o(a))
        differentiate(.attended, differentiateSum(.attended, \.attentionOutput), into: attended)
        // a = attention(q, k, v)
        differentiateAttention(attended, into: projected)
        // q, k, v of norm(input)
        differentiate(.attentionInput, projected, through: \.attentionInput, of: .input)
    }

    /// A matrix of the batch's rows and so many columns in scratch memory.
    private func room(_ matrix: Matrix, _ columns: Int) -> MatrixView<Float> {
        MatrixView(matrix.pointer, rows: hidden.rows, columns: columns, stride: columns)
    }

    // MARK: - Linear layers and norms

    /// Backward of a group of linear layers, from the gradient dy of what left them.
    private func differentiate(
        _ stream: Stream, _ dy: MatrixView<Float>, into dx: MatrixView<Float>, addsToInput: Bool = false,
        then: (Range<Int>) -> Void = { _ in }
    ) {
        let group = weights[stream]
        for (layer, columns) in zip(group.layers, group.outputs) { gradients.observe(layer, dy.columns(columns)) }
        let pass = GroupGradients(
            x: block.input(of: stream, trace), z: trace[.bottleneck(stream)], dy: dy, dx: dx, addsToInput: addsToInput)
        group.backward(
            pass, gradient: gradients.weights?[stream], accumulating: gradients.accumulating, scratch, then: then)
    }

    /// The same for linear layers that read the norm of a residual stream, to whose gradient theirs is added.
    private func differentiate(
        _ stream: Stream, _ dy: MatrixView<Float>, through norm: KeyPath<BlockWeights, NormWeights?>,
        of buffer: BlockBuffer
    ) {
        guard let own = weights[keyPath: norm] else {
            return differentiate(stream, dy, into: hidden, addsToInput: true)
        }
        let normalized = room(scratch.normalized, hidden.columns)
        differentiate(stream, dy, into: normalized) { rows in
            Norm(own).backward(trace[buffer], normalized, scratch.statistics, rows: rows, into: hidden)
        }
        differentiateWeights(norm, trace[buffer], normalized)
    }

    /// The gradient of what a stage's linear layer leaves, from that of the residual sum: the same, or through the norm
    /// between.
    private func differentiateSum(_ stream: Stream, _ norm: KeyPath<BlockWeights, NormWeights?>) -> MatrixView<Float> {
        guard let own = weights[keyPath: norm] else { return hidden }
        let (x, result) = (block.output(of: stream, trace), room(scratch.normalized, hidden.columns))
        RowBlocks.forEach(hidden.rows) { rows in
            for row in rows { result.row(row).update(repeating: 0, count: result.columns) }
            Norm(own).backward(x, hidden, scratch.statistics, rows: rows, into: result)
        }
        differentiateWeights(norm, x, hidden)
        return result
    }

    /// The gradients of a norm's own parameters, where they have a place.
    private func differentiateWeights(
        _ norm: KeyPath<BlockWeights, NormWeights?>, _ x: MatrixView<Float>, _ dy: MatrixView<Float>
    ) {
        guard let own = weights[keyPath: norm], let gradient = gradients.weights?[keyPath: norm] else { return }
        Norm(own).differentiateWeights(x, dy, scratch.statistics, into: gradient, accumulating: gradients.accumulating)
    }

    // MARK: - Activation and attention

    /// The gradients of gate and up from that of the product, which stands where the gate's goes.
    private func differentiateActivation(_ gradient: MatrixView<Float>, rows: Range<Int>) {
        let (gateUp, feedForward) = (trace[.gateUp], block.description.feedForward)
        let up = block.up(gateUp)
        for row in rows {
            if feedForward.isGated {
                feedForward.activation.backward(
                    gate: block.gate(gateUp).row(row), up: up.row(row), gradient: block.gate(gradient).row(row),
                    up: block.up(gradient).row(row), up.columns)
            } else {
                feedForward.activation.backward(up.row(row), gradient: gradient.row(row), up.columns)
            }
        }
    }

    /// The gradients of what leaves q, k and v, from that of the weighted values.
    private func differentiateAttention(_ attended: MatrixView<Float>, into projected: MatrixView<Float>) {
        let value = projected.columns(block.columns(of: .value))
        let own = (
            query: projected.columns(block.columns(of: .query)), key: projected.columns(block.columns(of: .key))
        )
        // There is room for it as soon as some block has such norms.
        let normalized = block.description.attention.headNorm == nil ? nil : scratch.heads
        let seen = normalized.map { block.split(room($0, trace[.heads].columns)) } ?? own
        Attention(block.description.attention).backward(
            block.context.batch, block.matrices(trace), statistics: trace[.statistics],
            scores: block.context.scratch.scores,
            gradients: .init(query: seen.query, key: seen.key, value: value, attended: attended))
        let (heads, keyHeads) = (block.description.attention.heads, block.description.attention.keyValueHeads)
        RowBlocks.forEach(hidden.rows) { rows in
            for row in rows {
                // Rotation by the opposite angle.
                block.rotate(seen.query.row(row), heads: heads, row: row, direction: -1)
                block.rotate(seen.key.row(row), heads: keyHeads, row: row, direction: -1)
            }
        }
        differentiateHeads(\.query, .query, seen.query, into: own.query)
        differentiateHeads(\.key, .key, seen.key, into: own.key)
    }

    /// Backward of the norm of each head, if there is one, head by head.
    private func differentiateHeads(
        _ norm: KeyPath<BlockWeights, NormWeights?>, _ role: LinearRole, _ dy: MatrixView<Float>,
        into dx: MatrixView<Float>
    ) {
        guard let own = weights[keyPath: norm] else { return }
        let (x, size) = (trace[.projected].columns(block.columns(of: role)), block.description.attention.headSize)
        for head in 0..<x.columns / size {
            let columns = head * size..<(head + 1) * size
            let (x, dy, dx) = (x.columns(columns), dy.columns(columns), dx.columns(columns))
            RowBlocks.forEach(x.rows) { rows in
                for row in rows { dx.row(row).update(repeating: 0, count: size) }
                Norm(own).backward(x, dy, scratch.statistics, rows: rows, into: dx)
            }
            guard let gradient = gradients.weights?[keyPath: norm] else { continue }
            Norm(own).differentiateWeights(
                x, dy, scratch.statistics, into: gradient, accumulating: gradients.accumulating || head > 0)
        }
    }
}
