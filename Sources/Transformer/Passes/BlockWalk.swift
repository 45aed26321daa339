import CKernels
import LinearAlgebra
import Tensors

/// A text's way through a model, stage by stage: for those who look at what linear layers read, or put something else in
/// place of what they make, before the next one reads it.
///
/// All tokens go at once. In each block the stages come in the order of `Stream`:
///
///     for stream in Stream.allCases {
///         let x = walk.input(of: stream)
///         walk.advance(stream, outputs: …what leaves the linear layers that read x…)
///     }
///
/// Letters: N tokens.
public final class BlockWalk {
    public let model: LanguageModel
    public let batch: TokenBatch
    /// Which block the walk is in, from 0; their number after the last one.
    public private(set) var block = 0

    private let context: PassContext
    private let memory: SharedBuffers
    /// The residual streams entering the block and leaving it, `[N, C]`.
    private var hidden: Matrix
    private var next: Matrix

    /// Begins in front of the first block.
    public init(_ model: LanguageModel, _ batch: TokenBatch) {
        precondition(model.precision == .f32, "a walk is in single precision")
        let description = model.description
        self.model = model
        self.batch = batch
        context = PassContext(
            batch,
            PassScratch(model, rows: batch.count, longestSequence: batch.longest, scoreRows: 1))
        memory = SharedBuffers(description, rows: batch.count) { ![.input, .statistics].contains($0) }
        hidden = Matrix(uninitialized: [batch.count, description.hiddenSize])
        next = Matrix(uninitialized: [batch.count, description.hiddenSize])
        model.embed(batch, into: hidden.view)
    }

    private var current: (DecoderBlock, BlockTrace) {
        let description = model.description
        let trace = BlockTrace(description.blocks[block], hiddenSize: description.hiddenSize) { buffer, columns in
            buffer == .input ? hidden.view : memory.view(of: buffer, columns: columns)
        }
        return (DecoderBlock(model, block, context), trace)
    }

    /// What the linear layers read, `[N, in]`, after the stages before have been advanced through.
    public func input(of stream: Stream) -> Matrix {
        let (block, trace) = current
        ThreadPool.forEachRange(batch.count) { block.prepare(stream, trace, rows: $0) }
        if stream == .attended { block.attend(trace) }
        let view = block.input(of: stream, trace)
        let copy = Matrix(uninitialized: [view.rows, view.columns])
        for row in 0..<view.rows { copy.view.row(row).update(from: view.row(row), count: view.columns) }
        return copy
    }

    /// Goes on with these outputs `[N, out]` of the linear layers that read a stream, in their order.
    public func advance(_ stream: Stream, outputs: [Matrix]) {
        let (block, trace) = current
        let group = block.weights[stream]
        precondition(
            outputs.count == group.layers.count, "\(outputs.count) outputs of \(group.layers.count) linear layers")
        let place = block.output(of: stream, trace)
        ThreadPool.forEachRange(batch.count) { rows in
            for (output, columns) in zip(outputs, group.outputs) {
                for row in rows {
                    place.columns(columns).row(row).update(from: output.view.row(row), count: columns.count)
                }
            }
            block.finish(stream, trace, rows: rows, output: stream == .product ? next.view : trace[.middle])
        }
        guard stream == .product else { return }
        swap(&hidden, &next)
        self.block += 1
    }

    /// The residual stream to which what leaves a stage's linear layer is added as it is, `[N, C]`; nil where a norm is
    /// between, and for stages whose outputs are not added to one.
    public func residual(of stream: Stream) -> Matrix? {
        let (block, trace) = current
        switch stream {
        case .attended where block.weights.attentionOutput == nil: return hidden.copy()
        case .product where block.weights.feedForwardOutput == nil:
            let copy = Matrix(uninitialized: hidden.shape)
            copy.pointer.update(from: trace[.middle].pointer, count: copy.count)
            return copy
        default: return nil
        }
    }

    /// What leaves one linear layer, `[N, out]`, for x `[N, in]`.
    public static func project(_ x: Matrix, _ linear: LinearWeights) -> Matrix {
        let group = LinearGroup(of: linear)
        let y = Matrix(uninitialized: [x.rows, linear.outputs])
        let z = linear.rank.map { Matrix(uninitialized: [x.rows, $0]) }
        // One part for each thread is too much for its cache; products want some hundred rows.
        let size = 256
        ThreadPool.forEach((x.rows + size - 1) / size) { index in
            let rows = index * size..<min(x.rows, (index + 1) * size)
            let bottleneck = z?.view.rows(rows) ?? .empty(rows: rows.count)
            group.forward(
                x.view.rows(rows), GroupRoom(bottleneck: bottleneck, activated: bottleneck, rounded: nil),
                into: y.view.rows(rows))
        }
        return y
    }
}
