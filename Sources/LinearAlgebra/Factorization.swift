import CLAPACK
import Tensors

/// A matrix in double precision, `[rows, columns]`, row-major.
public typealias DoubleMatrix = Tensor<Double>

/// A LAPACK driver that did not converge or was given something that is not finite.
public struct LinearAlgebraError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What was computed, of which matrix.
    public let operation: String
    public let reason: String

    public init(operation: String, reason: String) {
        self.operation = operation
        self.reason = reason
    }

    public var description: String { "\(operation): \(reason)" }
}

/// Double-precision factorisations by OpenBLAS and LAPACK, each on the calling thread: callers run many side by side on
/// the one thread pool, which OpenBLAS' own threads would only disturb.
public enum Factorization {
    /// Eigenvalues, descending, of the symmetric `[n, n]` matrix, whose upper triangle is read and destroyed.
    ///
    /// Backward stable: each is within a small multiple of ε · ‖matrix‖ of the exact one.
    public static func eigenvalues(ofSymmetric matrix: DoubleMatrix) throws(LinearAlgebraError) -> [Double] {
        let n = matrix.rows
        precondition(matrix.columns == n, "[\(n), \(matrix.columns)] is not square")
        guard n > 0 else { return [] }
        OpenBLAS.useOneThread()
        var values = [Double](repeating: 0, count: n)
        // The upper triangle by rows is the lower one by columns.
        let status = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 0x4E, 0x4C, Int32(n), matrix.pointer, Int32(n), &values)
        guard status == 0 else {
            throw LinearAlgebraError(
                operation: "eigenvalues of a symmetric [\(n), \(n)] matrix", reason: reason(status, "did not converge"))
        }
        return values.reversed()
    }

    /// Eigenvalues, descending, and eigenvectors of the symmetric `[n, n]` matrix, whose upper triangle is read and which
    /// is destroyed. Row i of `vectors` `[n, n]` is the unit vector of value i.
    public static func eigenvectors(
        ofSymmetric matrix: DoubleMatrix
    ) throws(LinearAlgebraError) -> (values: [Double], vectors: DoubleMatrix) {
        let n = matrix.rows
        precondition(matrix.columns == n, "[\(n), \(matrix.columns)] is not square")
        let vectors = DoubleMatrix(uninitialized: [n, n])
        guard n > 0 else { return ([], vectors) }
        OpenBLAS.useOneThread()
        var values = [Double](repeating: 0, count: n)
        // The upper triangle by rows is the lower one by columns; the vectors come as columns by columns, which is rows.
        let status = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 0x56, 0x4C, Int32(n), matrix.pointer, Int32(n), &values)
        guard status == 0 else {
            throw LinearAlgebraError(
                operation: "eigenvectors of a symmetric [\(n), \(n)] matrix", reason: reason(status, "did not converge")
            )
        }
        for row in 0..<n {
            (vectors.pointer + row * n).update(from: matrix.pointer + (n - 1 - row) * n, count: n)
        }
        return (values.reversed(), vectors)
    }

    /// A root R `[n, n]` of the symmetric, positive semidefinite S `[n, n]`: S = R·Rᵀ. S is not changed.
    ///
    /// The Cholesky factor, lower triangular, where S is positive definite to working precision; else eigenvectors times
    /// the roots of the eigenvalues, of which those below 0 by rounding count as 0.
    public static func root(of s: DoubleMatrix) throws(LinearAlgebraError) -> DoubleMatrix {
        let n = s.rows
        let copy = s.copy()
        OpenBLAS.useOneThread()
        // The upper triangle by columns is the lower one by rows.
        if n == 0 || LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 0x55, Int32(n), copy.pointer, Int32(n)) == 0 {
            for row in 0..<n { (copy.pointer + row * n + row + 1).update(repeating: 0, count: n - row - 1) }
            return copy
        }
        copy.pointer.update(from: s.pointer, count: n * n)
        let (values, vectors) = try eigenvectors(ofSymmetric: copy)
        let root = DoubleMatrix(uninitialized: [n, n])
        for column in 0..<n {
            let scale = max(0, values[column]).squareRoot()
            for row in 0..<n { root.pointer[row * n + column] = scale * vectors.pointer[column * n + row] }
        }
        return root
    }

    /// X ← L⁻ᵀ·X for a lower triangular L `[n, n]` without zeros on its diagonal and X `[n, k]`.
    public static func solveTransposed(lower l: DoubleMatrix, _ x: DoubleMatrix) {
        precondition(l.rows == l.columns && l.rows == x.rows, "\(l.shape) \\ \(x.shape)")
        guard x.count > 0 else { return }
        OpenBLAS.useOneThread()
        cblas_dtrsm(
            CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, Int32(x.rows), Int32(x.columns), 1,
            l.pointer, Int32(l.columns), x.pointer, Int32(x.columns))
    }

    /// X `[n, k]` with S·X = Y for a symmetric, positive definite S `[n, n]` and Y `[n, k]`, both of which are destroyed;
    /// the result is in Y. Throws if S is not positive definite to working precision.
    public static func solve(positiveDefinite s: DoubleMatrix, _ y: DoubleMatrix) throws(LinearAlgebraError) {
        let (n, k) = (s.rows, y.columns)
        precondition(s.columns == n && y.rows == n, "\(s.shape) \\ \(y.shape)")
        guard n > 0, k > 0 else { return }
        OpenBLAS.useOneThread()
        let status = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 0x55, Int32(n), s.pointer, Int32(n))
        guard status == 0 else {
            throw LinearAlgebraError(
                operation: "Cholesky factorisation of a [\(n), \(n)] matrix",
                reason: reason(status, "it is not positive definite"))
        }
        // S by rows is now L Lᵀ with L below the diagonal.
        for transpose in [CblasNoTrans, CblasTrans] {
            cblas_dtrsm(
                CblasRowMajor, CblasLeft, CblasLower, transpose, CblasNonUnit, Int32(n), Int32(k), 1, s.pointer,
                Int32(n), y.pointer, Int32(k))
        }
    }

    /// Singular values, descending, of a matrix, which is destroyed.
    public static func singularValues(of matrix: DoubleMatrix) throws(LinearAlgebraError) -> [Double] {
        let (m, n) = (matrix.rows, matrix.columns)
        guard m > 0, n > 0 else { return [] }
        OpenBLAS.useOneThread()
        var values = [Double](repeating: 0, count: min(m, n))
        // Row-major [m, n] is the transpose, column-major: it has the same singular values.
        let status = LAPACKE_dgesdd(
            LAPACK_COL_MAJOR, 0x4E, Int32(n), Int32(m), matrix.pointer, Int32(n), &values, nil, 1, nil, 1)
        guard status == 0 else {
            throw LinearAlgebraError(
                operation: "singular values of a [\(m), \(n)] matrix", reason: reason(status, "did not converge"))
        }
        return values
    }

    /// R of M = QR: upper triangular `[n, n]` for M `[m, n]` with m ≥ n, so that RᵀR = MᵀM. M is destroyed.
    public static func triangularFactor(of matrix: DoubleMatrix) throws(LinearAlgebraError) -> DoubleMatrix {
        let (m, n) = (matrix.rows, matrix.columns)
        precondition(m >= n, "[\(m), \(n)] has fewer rows than columns")
        OpenBLAS.useOneThread()
        // Row-major M is Mᵀ by columns; its LQ factorisation Mᵀ = RᵀQᵀ leaves Rᵀ below the diagonal by columns,
        // which is R above the diagonal by rows.
        var scalars = [Double](repeating: 0, count: max(1, n))
        let status = LAPACKE_dgelqf(LAPACK_COL_MAJOR, Int32(n), Int32(m), matrix.pointer, Int32(n), &scalars)
        guard status == 0 else {
            throw LinearAlgebraError(
                operation: "QR factorisation of a [\(m), \(n)] matrix", reason: reason(status, "failed"))
        }
        let factor = DoubleMatrix(shape: [n, n])
        for row in 0..<n {
            for column in row..<n { factor[row, column] = matrix[row, column] }
        }
        return factor
    }

    /// A triangular R `[n, n]` with RᵀR = MᵀM, for M `[m, n]`: by Cholesky from MᵀM where that is positive definite to
    /// working precision, which is several times faster than QR, else by QR.
    ///
    /// For use in R·S·Rᵀ with M·S·Mᵀ meant: squaring M costs no more accuracy there than the product itself does.
    static func gramFactor(of matrix: DoubleMatrix) throws(LinearAlgebraError) -> DoubleMatrix {
        let (m, n) = (matrix.rows, matrix.columns)
        OpenBLAS.useOneThread()
        let factor = DoubleMatrix(shape: [n, n])
        cblas_dsyrk(
            CblasRowMajor, CblasUpper, CblasTrans, Int32(n), Int32(m), 1, matrix.pointer, Int32(n), 0, factor.pointer,
            Int32(n))
        // The upper triangle by rows is the lower one by columns.
        guard LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 0x4C, Int32(n), factor.pointer, Int32(n)) == 0 else {
            return try triangularFactor(of: matrix)
        }
        return factor
    }

    /// Eigenvalues, descending, of M·S·Mᵀ for M `[m, n]` and a symmetric, positive semidefinite S `[n, n]`, which is
    /// destroyed; the n largest if m > n – the others are zero.
    ///
    /// Each is within a small multiple of ε·‖M‖²·‖S‖ of the exact one, however singular S is.
    public static func eigenvalues(
        ofCongruence map: DoubleMatrix, _ s: DoubleMatrix
    ) throws(LinearAlgebraError) -> [Double] {
        let (m, n) = (map.rows, map.columns)
        precondition(s.rows == n && s.columns == n, "[\(m), \(n)] · [\(s.rows), \(s.columns)]")
        guard m >= n else { return try eigenvalues(ofSymmetric: congruence(map, s)) }
        // With MᵀM = RᵀR: the eigenvalues of R·S·Rᵀ, which LAPACK forms in half the operations of two products.
        let factor = try gramFactor(of: map)
        let status = LAPACKE_dsygst_work(
            LAPACK_COL_MAJOR, 2, 0x4C, Int32(n), s.pointer, Int32(n), factor.pointer, Int32(n))
        guard status == 0 else {
            throw LinearAlgebraError(
                operation: "congruence of a symmetric [\(n), \(n)] matrix", reason: reason(status, "failed"))
        }
        return try eigenvalues(ofSymmetric: s)
    }

    /// C ← op(A) · op(B) in double precision.
    public static func multiply(
        _ a: DoubleMatrix, _ b: DoubleMatrix, transposeA: Bool = false, transposeB: Bool = false
    ) -> DoubleMatrix {
        let (m, k) = transposeA ? (a.columns, a.rows) : (a.rows, a.columns)
        let (inner, n) = transposeB ? (b.columns, b.rows) : (b.rows, b.columns)
        precondition(k == inner, "[\(m), \(k)] · [\(inner), \(n)]")
        let c = DoubleMatrix(shape: [m, n])
        guard m > 0, n > 0, k > 0 else { return c }
        OpenBLAS.useOneThread()
        cblas_dgemm(
            CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans, Int32(m),
            Int32(n), Int32(k), 1, a.pointer, Int32(a.columns), b.pointer, Int32(b.columns), 0, c.pointer, Int32(n))
        return c
    }

    /// The upper triangle of W·S·Wᵀ `[m, m]` for a symmetric S `[n, n]` and W `[m, n]`; what is below is not defined.
    public static func congruence(_ w: DoubleMatrix, _ s: DoubleMatrix) -> DoubleMatrix {
        let (m, n) = (w.rows, w.columns)
        precondition(s.rows == n && s.columns == n, "[\(m), \(n)] · [\(s.rows), \(s.columns)]")
        let half = multiply(w, s)
        let result = DoubleMatrix(uninitialized: [m, m])
        OpenBLAS.useOneThread()
        // Block row by block row from the diagonal on: a little over half of the whole product.
        let block = 96
        for top in stride(from: 0, to: m, by: block) {
            let rows = min(block, m - top)
            cblas_dgemm(
                CblasRowMajor, CblasNoTrans, CblasTrans, Int32(rows), Int32(m - top), Int32(n), 1,
                half.pointer + top * n, Int32(n), w.pointer + top * n, Int32(n), 0,
                result.pointer + top * m + top, Int32(m))
        }
        return result
    }

    private static func reason(_ status: Int32, _ failure: String) -> String {
        switch status {
        case LAPACK_WORK_MEMORY_ERROR, LAPACK_TRANSPOSE_MEMORY_ERROR: "there is not enough memory"
        case ..<0: "argument \(-status) holds a number that is not finite"
        default: "\(failure) (LAPACK reports \(status))"
        }
    }
}
