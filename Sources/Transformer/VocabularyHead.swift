import CKernels
import LinearAlgebra
import Tensors

/// The last RMSNorm and the product with the vocabulary, over chunks of rows: the logits of a whole batch never exist.
public final class VocabularyHead {
    private let decoder: Decoder
    private let head: Weight
    private let normalized: Matrix
    private let rounded: Tensor<BFloat16>?
    private let logits: Matrix

    /// Rows handled at a time: about 64 MiB of logits.
    public let chunk: Int

    /// Needs a decoder that was loaded with its head.
    public init(_ decoder: Decoder) {
        guard let head = decoder.weights.head else { preconditionFailure("the decoder was loaded without its head") }
        self.decoder = decoder
        self.head = head
        let vocabulary = decoder.configuration.vocabularySize
        chunk = max(16, min(1024, (16 << 20) / vocabulary))
        normalized = Matrix(uninitialized: [chunk, decoder.configuration.hiddenSize])
        rounded = decoder.precision == .bf16 ? Tensor(uninitialized: normalized.shape) : nil
        logits = Matrix(uninitialized: [chunk, vocabulary])
    }

    public var bytes: Int { normalized.bytes + (rounded?.bytes ?? 0) + logits.bytes }

    /// Calls `body` with the logits `[rows, V]` of one chunk of `hidden` `[N, C]` after the other, and the chunk's rows.
    public func forEachChunk<E: Error>(
        of hidden: MatrixView<Float>, _ body: (Range<Int>, MatrixView<Float>) throws(E) -> Void
    ) throws(E) {
        let (c, epsilon) = (hidden.columns, decoder.configuration.normEpsilon)
        for start in stride(from: 0, to: hidden.rows, by: chunk) {
            let rows = start..<min(start + chunk, hidden.rows)
            ThreadPool.forEachRange(rows.count) { part in
                for row in part {
                    ck_rms_norm(
                        hidden.row(start + row), decoder.weights.norm.vector, normalized.view.row(row), c, epsilon)
                }
            }
            let output = logits.view.rows(0..<rows.count)
            head.apply(normalized.view.rows(0..<rows.count), transposed: true, scratch: rounded?.view, into: output)
            try body(rows, output)
        }
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

    /// FLOPs of one row.
    public var flops: Double { 2 * Double(head.count) }
}
