import CKernels
import LinearAlgebra
import Tensors

/// The last norm and the product with the vocabulary, over chunks of rows: the logits of a whole batch never exist.
public final class VocabularyHead {
    private let model: LanguageModel
    private let head: Weight
    private let normalized: Matrix
    private let rounded: Tensor<BFloat16>?
    private let logits: Matrix

    /// Rows handled at a time: at most about 64 MiB of logits.
    public let chunk: Int

    /// Needs a model that was loaded with its head. `maximumRows` says how many rows there are at most, if that is known.
    public init(_ model: LanguageModel, maximumRows: Int = .max) {
        guard let head = model.weights.head else { preconditionFailure("the model was loaded without its head") }
        self.model = model
        self.head = head
        let vocabulary = model.description.vocabularySize
        let limit = min(max(16, min(1024, (16 << 20) / vocabulary)), maximumRows)
        // Chunks of equal size, where the number of rows is known.
        let chunks = maximumRows == .max ? 1 : (maximumRows + limit - 1) / limit
        chunk = maximumRows == .max ? limit : (maximumRows + chunks - 1) / chunks
        normalized = Matrix(uninitialized: [chunk, model.description.hiddenSize])
        rounded = model.precision == .bf16 ? Tensor(uninitialized: normalized.shape) : nil
        logits = Matrix(uninitialized: [chunk, vocabulary])
    }

    public var bytes: Int { normalized.bytes + (rounded?.bytes ?? 0) + logits.bytes }

    /// Calls `body` with the logits `[rows, V]` of one chunk of `hidden` `[N, C]` after the other, and the chunk's rows.
    public func forEachChunk<E: Error>(
        of hidden: MatrixView<Float>, _ body: (Range<Int>, MatrixView<Float>) throws(E) -> Void
    ) throws(E) {
        try forEachChunk(of: hidden) { (rows, _, logits) throws(E) in try body(rows, logits) }
    }

    private func forEachChunk<E: Error>(
        of hidden: MatrixView<Float>,
        _ body: (_ rows: Range<Int>, _ normalized: Operand, _ logits: MatrixView<Float>) throws(E) -> Void
    ) throws(E) {
        for start in stride(from: 0, to: hidden.rows, by: chunk) {
            let rows = start..<min(start + chunk, hidden.rows)
            let (operand, output) = project(hidden.rows(rows))
            try body(rows, operand, output)
        }
    }

    /// The logits `[rows, V]` of at most `chunk` rows of hidden states. The view is the head's and holds until the next
    /// call.
    public func logits(of hidden: MatrixView<Float>) -> MatrixView<Float> { project(hidden).logits }

    private func project(_ x: MatrixView<Float>) -> (normalized: Operand, logits: MatrixView<Float>) {
        precondition(x.rows <= chunk, "\(x.rows) rows for chunks of \(chunk)")
        let input = normalized.view.rows(0..<x.rows)
        ThreadPool.forEachRange(x.rows) { part in
            Norm(model.weights.norm).forward(x.rows(part), into: input.rows(part))
        }
        let operand = Operand(input, scratch: rounded?.view)
        let output = logits.view.rows(0..<x.rows)
        head.apply(operand, transposed: true, into: output)
        return (operand, output)
    }

    /// −log p(target) in nats for each row of `hidden`.
    /// Rows whose target is nil give nil.
    public func losses(of hidden: MatrixView<Float>, targets: [UInt32?]) -> [Double?] {
        precondition(targets.count == hidden.rows, "\(targets.count) targets for \(hidden.rows) rows")
        let losses = Tensor<Double>(shape: [targets.count])
        forEachChunk(of: hidden) { rows, logits in
            ThreadPool.forEachRange(rows.count, granularity: 8) { part in
                for row in part {
                    guard let target = targets[rows.lowerBound + row] else { continue }
                    var best = 0
                    let normalizer = ck_log_sum_exp(logits.row(row), logits.columns, &best)
                    losses.pointer[rows.lowerBound + row] = Double(normalizer) - Double(logits[row, Int(target)])
                }
            }
        }
        return targets.indices.map { targets[$0] == nil ? nil : losses.pointer[$0] }
    }

    /// Forward and backward at once, while a chunk's logits exist: returns the sum of the objective's losses, and computes
    /// the gradients of `scale` times that sum.
    ///
    /// From the objective's d logits: d W = d logitsᵀ · x, dx = d logits · W. The hidden states' gradient goes to `dHidden`
    /// `[N, C]`, the parameters' to `gradients`; without them they are not computed.
    func lossAndGradients(
        of hidden: MatrixView<Float>, _ objective: some TokenObjective, scale: Float, _ gradients: ModelGradients?,
        _ scratch: HeadGradientScratch, into dHidden: MatrixView<Float>
    ) -> Double {
        precondition(gradients == nil || gradients?.weights.head != nil, "gradients without a head")
        let losses = Tensor<Double>(shape: [hidden.rows])
        let norm = Norm(model.weights.norm)
        var isFirst = gradients?.accumulating != true
        forEachChunk(of: hidden) { (rows, input, logits) in
            objective.prepare(rows)
            ThreadPool.forEachRange(rows.count, granularity: 8) { part in
                for row in part {
                    let (token, columns) = (rows.lowerBound + row, logits.columns)
                    if let loss = objective.differentiate(
                        token: token, logits: logits.row(row), count: columns, scale: scale)
                    {
                        losses.pointer[token] = loss
                    } else {
                        logits.row(row).update(repeating: 0, count: columns)
                    }
                    dHidden.row(token).update(repeating: 0, count: dHidden.columns)
                }
            }
            let output = Operand(logits, scratch: scratch.roundedLogits?.view)
            gradients?.weights.head?.setProduct(output, input, accumulating: !isFirst)
            let dNormalized = scratch.normalized.view.rows(0..<rows.count)
            head.apply(output, transposed: false, into: dNormalized)
            let (x, dx) = (hidden.rows(rows), dHidden.rows(rows))
            ThreadPool.forEachRange(rows.count) {
                norm.backward(x, dNormalized, scratch.statistics, rows: $0, into: dx)
            }
            if let gradients {
                norm.differentiateWeights(
                    x, dNormalized, scratch.statistics, into: gradients.weights.norm, accumulating: !isFirst)
            }
            isFirst = false
        }
        return losses.buffer.reduce(0, +)
    }

    /// FLOPs of one row.
    public var flops: Double { 2 * Double(head.count) }
}

/// What the head's backward pass computes with, for one chunk of rows.
struct HeadGradientScratch {
    /// The gradient of what leaves the last norm, `[chunk, C]`.
    let normalized: Matrix
    let statistics: NormStatistics
    /// The logits' gradient in bfloat16, `[chunk, V]`.
    let roundedLogits: Tensor<BFloat16>?

    init(_ model: LanguageModel, rows: Int) {
        normalized = Matrix(uninitialized: [rows, model.description.hiddenSize])
        statistics = NormStatistics(rows: rows)
        roundedLogits =
            model.precision == .bf16 ? Tensor(uninitialized: [rows, model.description.vocabularySize]) : nil
    }

    var bytes: Int { normalized.bytes + statistics.bytes + (roundedLogits?.bytes ?? 0) }
}
