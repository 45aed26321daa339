import CLAPACK
import Tensors

extension Factorization {
    /// C ← A·Bᵀ for A `[m, k]`, B `[n, k]` and C `[m, n]`, on the calling thread.
    public static func multiply(_ a: DoubleMatrix, transposed b: DoubleMatrix, into c: DoubleMatrix) {
        let (m, n, k) = (a.rows, b.rows, a.columns)
        precondition(b.columns == k && c.rows == m && c.columns == n, "\(a.shape) · \(b.shape)ᵀ → \(c.shape)")
        guard m > 0, n > 0, k > 0 else { return c.pointer.update(repeating: 0, count: c.count) }
        OpenBLAS.useOneThread()
        cblas_dgemm(
            CblasRowMajor, CblasNoTrans, CblasTrans, Int32(m), Int32(n), Int32(k), 1, a.pointer, Int32(k), b.pointer,
            Int32(k), 0, c.pointer, Int32(n))
    }

    /// The upper triangle of S ← S + XᵀX for X `[m, n]` and S `[n, n]`, on the calling thread; what is below stays.
    public static func addGram(of x: DoubleMatrix, to s: DoubleMatrix) {
        let (m, n) = (x.rows, x.columns)
        precondition(s.rows == n && s.columns == n, "\(x.shape)ᵀ · \(x.shape) → \(s.shape)")
        guard m > 0, n > 0 else { return }
        OpenBLAS.useOneThread()
        cblas_dsyrk(
            CblasRowMajor, CblasUpper, CblasTrans, Int32(n), Int32(m), 1, x.pointer, Int32(n), 1, s.pointer, Int32(n))
    }
}
