import CKernels
import CLAPACK
import COneDNN
import Tensors

/// C ← op(A) · op(B), or C ← C + op(A) · op(B) when `accumulating`, in single precision: by oneDNN, or by OpenBLAS on
/// processors where its kernels are the faster ones (see ``Processor``).
///
/// op(A) is `[m, k]`, op(B) is `[k, n]`, C is `[m, n]`; op transposes where its flag is set. The longer side of C
/// is shared out over the threads; inside a parallel region all of it runs on the calling
/// thread. A given shape and thread count always adds in the same order.
public func multiply(
    _ a: MatrixView<Float>, _ b: MatrixView<Float>, transposeA: Bool = false, transposeB: Bool = false,
    accumulating: Bool = false, into c: MatrixView<Float>
) {
    guard let product = Product(a, b, transposeA, transposeB, accumulating, c) else { return }
    product.forEachPart { part in part.bySinglePrecision(a, b, into: c) }
}

/// C ← op(A) · op(B), or C ← C + op(A) · op(B), with bfloat16 operands, accumulated and stored in single precision.
///
/// By oneDNN's kernels for bfloat16 where ``Processor/multipliesBFloat16``, else by single-precision products of the
/// operands, widened block by block; both sum exact products, in different orders. Shapes and threads as for the
/// single-precision product.
public func multiply(
    _ a: MatrixView<BFloat16>, _ b: MatrixView<BFloat16>, transposeA: Bool = false, transposeB: Bool = false,
    accumulating: Bool = false, into c: MatrixView<Float>
) {
    guard let product = Product(a, b, transposeA, transposeB, accumulating, c) else { return }
    // What the library can do in general it may still refuse for a shape, or for want of memory. And oneDNN 3.7 is wrong
    // where C is a single row or column and another matrix has gaps between its rows.
    let isVector = product.rows.count == 1 || product.columns.count == 1
    if Processor.multipliesBFloat16, !isVector, product.byBFloat16Kernels(a, b, into: c) { return }
    product.forEachPart { part in part.byWidening(a, b, into: c) }
}

/// A product, or the part of it that computes a rectangle of C.
struct Product {
    let transposeA: Bool
    let transposeB: Bool
    var accumulating: Bool
    /// Of C.
    var rows: Range<Int>
    var columns: Range<Int>
    /// Over which terms it sums.
    var terms: Range<Int>

    /// All of C; checks the shapes. Nil where nothing is to be multiplied: C is empty, or a sum over nothing.
    init?<Element>(
        _ a: MatrixView<Element>, _ b: MatrixView<Element>, _ transposeA: Bool, _ transposeB: Bool,
        _ accumulating: Bool,
        _ c: MatrixView<Float>
    ) {
        let (m, k) = transposeA ? (a.columns, a.rows) : (a.rows, a.columns)
        let (inner, n) = transposeB ? (b.columns, b.rows) : (b.rows, b.columns)
        precondition(
            k == inner && c.rows == m && c.columns == n, "[\(m), \(k)] · [\(inner), \(n)] → [\(c.rows), \(c.columns)]")
        (self.transposeA, self.transposeB, self.accumulating) = (transposeA, transposeB, accumulating)
        (rows, columns, terms) = (0..<m, 0..<n, 0..<k)
        if m == 0 || n == 0 { return nil }
        if k == 0 {
            if !accumulating { for row in 0..<m { c.row(row).update(repeating: 0, count: n) } }
            return nil
        }
    }

    /// One part for each thread.
    ///
    /// Each packs its own part of the operand whose rows or columns are shared out, and all of the other: the longer side
    /// of C is cut.
    func forEachPart(_ body: (Product) -> Void) {
        if columns.count < 32 || (rows.count >= columns.count && rows.count >= 32 * ThreadPool.threads) {
            ThreadPool.forEachRange(rows.count, granularity: 16) {
                var part = self
                part.rows = $0
                body(part)
            }
        } else {
            ThreadPool.forEachRange(columns.count, granularity: 16) {
                var part = self
                part.columns = $0
                body(part)
            }
        }
    }

    /// The elements of A, as it is stored, that this part reads.
    private func part<Element>(ofA a: MatrixView<Element>) -> MatrixView<Element> {
        transposeA ? a.rows(terms).columns(rows) : a.rows(rows).columns(terms)
    }

    private func part<Element>(ofB b: MatrixView<Element>) -> MatrixView<Element> {
        transposeB ? b.rows(columns).columns(terms) : b.rows(terms).columns(columns)
    }

    private func part(ofC c: MatrixView<Float>) -> MatrixView<Float> { c.rows(rows).columns(columns) }

    // MARK: - How it is computed

    /// On the calling thread, if it is one of several.
    func bySinglePrecision(_ a: MatrixView<Float>, _ b: MatrixView<Float>, into c: MatrixView<Float>) {
        let (a, b, c) = (part(ofA: a), part(ofB: b), part(ofC: c))
        if Processor.multipliesByOpenBLAS { return byOpenBLAS(a, b, c) }
        let status = conednn_sgemm(
            transposeA, transposeB, Int64(rows.count), Int64(columns.count), Int64(terms.count), 1, a.pointer,
            Int64(a.stride), b.pointer, Int64(b.stride), accumulating ? 1 : 0, c.pointer, Int64(c.stride))
        if status != 0 { byOpenBLAS(a, b, c) }
    }

    /// On the calling thread: where OpenBLAS is the faster one, and after a refusal of oneDNN, which may lack memory for its
    /// copies of the operands.
    func byOpenBLAS(_ a: MatrixView<Float>, _ b: MatrixView<Float>, _ c: MatrixView<Float>) {
        OpenBLAS.useOneThread()
        cblas_sgemm(
            CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
            Int32(rows.count), Int32(columns.count), Int32(terms.count), 1, a.pointer, Int32(a.stride), b.pointer,
            Int32(b.stride), accumulating ? 1 : 0, c.pointer, Int32(c.stride))
    }

    /// The whole product on all threads; false, and C as it was, if oneDNN refuses.
    func byBFloat16Kernels(_ a: MatrixView<BFloat16>, _ b: MatrixView<BFloat16>, into c: MatrixView<Float>) -> Bool {
        let status = a.pointer.withMemoryRebound(to: UInt16.self, capacity: 1) { left in
            b.pointer.withMemoryRebound(to: UInt16.self, capacity: 1) { right in
                conednn_bf16_gemm(
                    transposeA, transposeB, accumulating, Int64(rows.count), Int64(columns.count), Int64(terms.count),
                    left, Int64(a.stride), right, Int64(b.stride), c.pointer, Int64(c.stride))
            }
        }
        return status == 0
    }

    /// Block by block in single precision: a block of each operand is widened, which is exact, and multiplied.
    func byWidening(_ a: MatrixView<BFloat16>, _ b: MatrixView<BFloat16>, into c: MatrixView<Float>) {
        // At most 1.5 MiB for the two blocks: they stay in the second level of cache while they are multiplied.
        let (height, width, depth) = (min(256, rows.count), min(512, columns.count), min(512, terms.count))
        let left = Matrix(uninitialized: [height * depth])
        let right = Matrix(uninitialized: [depth * width])
        withExtendedLifetime((left, right)) {
            var block = self
            for terms in terms.split(into: depth) {
                block.terms = terms
                block.accumulating = accumulating || terms.lowerBound > self.terms.lowerBound
                for columns in columns.split(into: width) {
                    block.columns = columns
                    let b = widen(block.part(ofB: b), in: right)
                    for rows in rows.split(into: height) {
                        block.rows = rows
                        let a = widen(block.part(ofA: a), in: left)
                        block.multiplyBlocks(a, b, block.part(ofC: c))
                    }
                }
            }
        }
    }

    private func multiplyBlocks(_ a: MatrixView<Float>, _ b: MatrixView<Float>, _ c: MatrixView<Float>) {
        var whole = self
        (whole.rows, whole.columns, whole.terms) = (0..<rows.count, 0..<columns.count, 0..<terms.count)
        whole.bySinglePrecision(a, b, into: c)
    }
}

extension Range<Int> {
    /// Consecutive pieces of at most `length`.
    fileprivate func split(into length: Int) -> some Sequence<Range<Int>> {
        stride(from: lowerBound, to: upperBound, by: length).lazy.map { $0..<Swift.min($0 + length, upperBound) }
    }
}

/// A copy in single precision, without gaps between its rows, at the start of `scratch`.
private func widen(_ source: MatrixView<BFloat16>, in scratch: Matrix) -> MatrixView<Float> {
    let copy = MatrixView(scratch.pointer, rows: source.rows, columns: source.columns, stride: source.columns)
    for row in 0..<source.rows {
        source.row(row).withMemoryRebound(to: UInt16.self, capacity: source.columns) {
            ck_bf16_to_f32($0, copy.row(row), source.columns)
        }
    }
    return copy
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
