import CKernels
import COneDNN
import Tensors

/// C ← op(A) · op(B), or C ← C + op(A) · op(B) when `accumulating`, in single precision by oneDNN.
///
/// op(A) is `[m, k]`, op(B) is `[k, n]`, C is `[m, n]`; op transposes where its flag is set. The longer side of C
/// is shared out over the threads; inside a parallel region all of it runs on the calling
/// thread. A given shape and thread count always adds in the same order.
public func multiply(
    _ a: MatrixView<Float>, _ b: MatrixView<Float>, transposeA: Bool = false, transposeB: Bool = false,
    accumulating: Bool = false, into c: MatrixView<Float>
) {
    let (m, k) = transposeA ? (a.columns, a.rows) : (a.rows, a.columns)
    let (inner, n) = transposeB ? (b.columns, b.rows) : (b.rows, b.columns)
    precondition(
        k == inner && c.rows == m && c.columns == n, "[\(m), \(k)] · [\(inner), \(n)] → [\(c.rows), \(c.columns)]")
    guard m > 0, n > 0 else { return }
    guard k > 0 else {
        if !accumulating { for row in 0..<m { c.row(row).update(repeating: 0, count: n) } }
        return
    }
    let beta: Float = accumulating ? 1 : 0
    func product(rows: Range<Int>, columns: Range<Int>) {
        let status = conednn_sgemm(
            transposeA, transposeB, Int64(rows.count), Int64(columns.count), Int64(k), 1,
            a.pointer + rows.lowerBound * (transposeA ? 1 : a.stride), Int64(a.stride),
            b.pointer + columns.lowerBound * (transposeB ? b.stride : 1), Int64(b.stride), beta,
            c.pointer + rows.lowerBound * c.stride + columns.lowerBound, Int64(c.stride))
        precondition(status == 0, "oneDNN refused a product [\(m), \(k)] · [\(k), \(n)]: status \(status)")
    }
    // Each thread packs its own part of the operand whose rows or columns are shared out, and all of the other: the longer
    // side is cut.
    if n < 32 || (m >= n && m >= 32 * ThreadPool.threads) {
        ThreadPool.forEachRange(m, granularity: 16) { product(rows: $0, columns: 0..<n) }
    } else {
        ThreadPool.forEachRange(n, granularity: 16) { product(rows: 0..<m, columns: $0) }
    }
}

/// C ← op(A) · op(B), or C ← C + op(A) · op(B), with bfloat16 operands, accumulated and stored in single precision by
/// oneDNN.
///
/// Shapes and threads as for the single-precision product.
public func multiply(
    _ a: MatrixView<BFloat16>, _ b: MatrixView<BFloat16>, transposeA: Bool = false, transposeB: Bool = false,
    accumulating: Bool = false, into c: MatrixView<Float>
) {
    let (m, k) = transposeA ? (a.columns, a.rows) : (a.rows, a.columns)
    let (inner, n) = transposeB ? (b.columns, b.rows) : (b.rows, b.columns)
    precondition(
        k == inner && c.rows == m && c.columns == n, "[\(m), \(k)] · [\(inner), \(n)] → [\(c.rows), \(c.columns)]")
    guard m > 0, n > 0 else { return }
    precondition(k > 0, "a product over an empty inner extent")
    let status = a.pointer.withMemoryRebound(to: UInt16.self, capacity: 1) { left in
        b.pointer.withMemoryRebound(to: UInt16.self, capacity: 1) { right in
            conednn_bf16_gemm(
                transposeA, transposeB, accumulating, Int64(m), Int64(n), Int64(k), left, Int64(a.stride), right,
                Int64(b.stride), c.pointer, Int64(c.stride))
        }
    }
    precondition(status == 0, "oneDNN refused a bfloat16 product [\(m), \(k)] · [\(k), \(n)]: status \(status)")
}

/// Rounds a matrix to bfloat16, row by row, into `[rows, columns]` of `destination`.
public func round(_ source: MatrixView<Float>, into destination: MatrixView<BFloat16>) {
    precondition(source.rows == destination.rows && source.columns == destination.columns, "shapes differ")
    for row in 0..<source.rows {
        destination.row(row).withMemoryRebound(to: UInt16.self, capacity: source.columns) {
            ck_f32_to_bf16(source.row(row), $0, source.columns)
        }
    }
}
