import CKernels
import LinearAlgebra
import Tensors

/// The arithmetic of one block:
///
///     x = norm(input)                      what q, k and v read
///     q, k, v                              heads of q and k normalised and rotated
///     a = attention(q, k, v)               what o reads
///     middle = input + norm(o(a))
///     y = norm(middle)                     what gate and up read
///     p = act(gate(y)) · up(y)             what down reads
///     output = middle + norm(down(p))
///
/// Norms that the description does not have fall away. Each stage – a group of linear layers with what comes before and
/// after – stands once, in `prepare` and `finish`; forward, recomputation and `BlockWalk` go through them.
struct DecoderBlock {
    let description: BlockDescription
    let weights: BlockWeights
    let context: PassContext
    /// How each sequence is rotated; nil without rotation.
    private let rotations: [RotaryTable]?

    init(_ model: LanguageModel, _ index: Int, _ context: PassContext) {
        description = model.description.blocks[index]
        weights = model.weights.blocks[index]
        self.context = context
        rotations = context.scratch.rotations.tables(block: index, lengths: context.batch.lengths)
    }

    // MARK: - Forward

    /// Makes everything in the trace of `input`, and the residual stream that leaves the block.
    func forward(_ trace: BlockTrace, into output: MatrixView<Float>) {
        RowBlocks.forEach(context.batch.count) { run(.attentionInput, trace, rows: $0) }
        attend(trace)
        RowBlocks.forEach(context.batch.count) { rows in
            run(.attended, trace, rows: rows)
            run(.feedForwardInput, trace, rows: rows)
            run(.product, trace, rows: rows, output: output)
        }
    }

    /// Makes again what backward needs and the memory mode has not kept.
    func recompute(_ trace: BlockTrace, _ mode: MemoryMode) {
        guard mode != .plain else { return }
        let isKept = mode == .colaM
        RowBlocks.forEach(context.batch.count) { run(.attentionInput, trace, rows: $0, reusing: isKept) }
        attend(trace)
        RowBlocks.forEach(context.batch.count) { rows in
            if !isKept {
                run(.attended, trace, rows: rows)
            } else if weights.attentionOutput != nil {
                project(.attended, trace, rows: rows, reusing: true, into: output(of: .attended, trace).rows(rows))
            }
            run(.feedForwardInput, trace, rows: rows, reusing: isKept)
            prepare(.product, trace, rows: rows)
            if weights.feedForwardOutput != nil {
                project(.product, trace, rows: rows, reusing: isKept, into: output(of: .product, trace).rows(rows))
            } else if !isKept {
                // Backward reads no more of it than its bottleneck.
                project(.product, trace, rows: rows, reusing: false, into: nil)
            }
        }
    }

    /// A stage for some rows. `output` is where the residual stream that leaves the block goes.
    private func run(
        _ stream: Stream, _ trace: BlockTrace, rows: Range<Int>, reusing: Bool = false,
        output: MatrixView<Float>? = nil
    ) {
        prepare(stream, trace, rows: rows)
        project(stream, trace, rows: rows, reusing: reusing, into: self.output(of: stream, trace).rows(rows))
        finish(stream, trace, rows: rows, output: output ?? trace[.middle])
    }

    /// What the linear layers of a stage read.
    func input(of stream: Stream, _ trace: BlockTrace) -> MatrixView<Float> {
        switch stream {
        case .attentionInput: weights.attentionInput == nil ? trace[.input] : trace[.attentionInput]
        case .attended: trace[.attended]
        case .feedForwardInput: weights.feedForwardInput == nil ? trace[.middle] : trace[.feedForwardInput]
        case .product: trace[.product]
        }
    }

    /// Where what leaves the linear layers of a stage goes.
    func output(of stream: Stream, _ trace: BlockTrace) -> MatrixView<Float> {
        let added = context.scratch.projected.view.rows(0..<context.batch.count)
        return switch stream {
        case .attentionInput: trace[.projected]
        case .attended: weights.attentionOutput == nil ? added : trace[.attentionOutput]
        case .feedForwardInput: trace[.gateUp]
        case .product: weights.feedForwardOutput == nil ? added : trace[.feedForwardOutput]
        }
    }

    /// Makes what the linear layers of a stage read; attention itself, which looks at all rows, is `attend`.
    func prepare(_ stream: Stream, _ trace: BlockTrace, rows: Range<Int>) {
        switch stream {
        case .attentionInput:
            weights.attentionInput.map {
                Norm($0).forward(trace[.input].rows(rows), into: trace[.attentionInput].rows(rows))
            }
        case .attended: break
        case .feedForwardInput:
            weights.feedForwardInput.map {
                Norm($0).forward(trace[.middle].rows(rows), into: trace[.feedForwardInput].rows(rows))
            }
        case .product:
            let (gate, up) = (gate(trace[.gateUp]), up(trace[.gateUp]))
            let (product, activation) = (trace[.product], description.feedForward.activation)
            for row in rows {
                if description.feedForward.isGated {
                    activation.forward(gate: gate.row(row), up: up.row(row), into: product.row(row), product.columns)
                } else {
                    activation.forward(up.row(row), into: product.row(row), product.columns)
                }
            }
        }
    }

    private func project(
        _ stream: Stream, _ trace: BlockTrace, rows: Range<Int>, reusing: Bool, into y: MatrixView<Float>?
    ) {
        let z = trace[.bottleneck(stream)].rows(rows)
        let room = GroupRoom(
            bottleneck: z, activated: context.activatedRoom(for: z, rows: rows),
            rounded: context.scratch.rounded?.view.rows(rows), reusesBottleneck: reusing)
        weights[stream].forward(input(of: stream, trace).rows(rows), room, into: y)
    }

    /// What comes after the linear layers of a stage: the norms of heads and the rotation, or the residual sum, to `output`.
    func finish(_ stream: Stream, _ trace: BlockTrace, rows: Range<Int>, output: MatrixView<Float>) {
        switch stream {
        case .attentionInput: for row in rows { turnHeads(of: row, trace) }
        case .attended: add(weights.attentionOutput, stream, trace, to: trace[.input], rows: rows, into: output)
        case .feedForwardInput: break
        case .product: add(weights.feedForwardOutput, stream, trace, to: trace[.middle], rows: rows, into: output)
        }
    }

    /// sum ← stream + norm(what left the linear layer).
    private func add(
        _ norm: NormWeights?, _ stage: Stream, _ trace: BlockTrace, to residual: MatrixView<Float>, rows: Range<Int>,
        into sum: MatrixView<Float>
    ) {
        let (added, first) = (context.scratch.projected.view, rows.lowerBound)
        norm.map { Norm($0).forward(output(of: stage, trace).rows(rows), into: added.rows(rows)) }
        ck_sum(residual.row(first), added.row(first), sum.row(first), rows.count * sum.columns)
    }
}

// MARK: - Attention

extension DecoderBlock {
    /// attended ← attention over q, k, v.
    func attend(_ trace: BlockTrace) {
        Attention(description.attention).forward(
            context.batch, matrices(trace), scores: context.scratch.scores,
            statistics: context.keepsStatistics ? trace[.statistics] : nil)
    }

    func matrices(_ trace: BlockTrace) -> Attention.Matrices {
        let projected = trace[.projected]
        let (query, key) = heads(trace)
        return .init(
            query: query, key: key, value: projected.columns(columns(of: .value)), attended: trace[.attended])
    }

    /// q and k as attention sees them.
    func heads(_ trace: BlockTrace) -> (query: MatrixView<Float>, key: MatrixView<Float>) {
        guard description.attention.headNorm == nil else { return split(trace[.heads]) }
        return (trace[.projected].columns(columns(of: .query)), trace[.projected].columns(columns(of: .key)))
    }

    /// q beside k, as they stand after the norm of their heads.
    func split(_ heads: MatrixView<Float>) -> (query: MatrixView<Float>, key: MatrixView<Float>) {
        let width = description.attention.queryWidth
        return (heads.columns(0..<width), heads.columns(width..<heads.columns))
    }

    /// The columns of a linear layer's output among those of its group.
    func columns(of role: LinearRole) -> Range<Int> { weights[role.stream].columns(of: role) }

    func gate(_ gateUp: MatrixView<Float>) -> MatrixView<Float> { gateUp.columns(columns(of: .gate)) }
    func up(_ gateUp: MatrixView<Float>) -> MatrixView<Float> { gateUp.columns(columns(of: .up)) }

    /// Normalises the heads of one token's q and k, if there is a norm of them, and rotates them by its position.
    private func turnHeads(of row: Int, _ trace: BlockTrace) {
        let (query, key) = heads(trace)
        for (norm, role, heads, place) in [
            (weights.query, LinearRole.query, description.attention.heads, query),
            (weights.key, .key, description.attention.keyValueHeads, key),
        ] {
            if let norm {
                let source = trace[.projected].columns(columns(of: role)).row(row)
                for head in 0..<heads {
                    let start = head * description.attention.headSize
                    Norm(norm).forward(source + start, into: place.row(row) + start)
                }
            }
            rotate(place.row(row), heads: heads, row: row, direction: 1)
        }
    }

    /// Rotates the heads of one token in place: `direction` 1 forward, −1 back.
    func rotate(_ elements: UnsafeMutablePointer<Float>, heads: Int, row: Int, direction: Float) {
        rotations?[context.sequences[row]].rotate(
            elements, heads: heads, position: context.positions[row], direction: direction)
    }
}
