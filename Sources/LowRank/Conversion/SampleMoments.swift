import CKernels
import LinearAlgebra
import Tensors

/// Means over the rows of matrices in single precision, added up in double precision.
enum SampleMoments {
    /// E[aᵀ·b] `[p, q]` for a `[N, p]` and b `[N, q]`.
    static func cross(_ a: Matrix, _ b: Matrix) -> DoubleMatrix {
        precondition(a.rows == b.rows, "\(a.rows) and \(b.rows) rows")
        let (edge, slab) = (192, 2048)
        let tiles = stride(from: 0, to: a.columns, by: edge).flatMap { left in
            stride(from: 0, to: b.columns, by: edge).map { (left, $0) }
        }
        let result = DoubleMatrix(shape: [a.columns, b.columns])
        let products = Matrix(uninitialized: [ThreadPool.threads, edge * edge])
        for start in stride(from: 0, to: a.rows, by: slab) {
            let rows = start..<min(start + slab, a.rows)
            ThreadPool.forEach(tiles.count) { index in
                let (left, right) = tiles[index]
                let (p, q) = (min(edge, a.columns - left), min(edge, b.columns - right))
                let tile = MatrixView(
                    products.view.row(ThreadPool.currentThread), rows: p, columns: q, stride: q)
                multiply(
                    a.view.rows(rows).columns(left..<left + p), b.view.rows(rows).columns(right..<right + q),
                    transposeA: true,
                    into: tile)
                for row in 0..<p {
                    ck_add_widened(tile.row(row), result.pointer + (left + row) * b.columns + right, q)
                }
            }
        }
        let scale = 1 / Double(max(1, a.rows))
        for i in 0..<result.count { result.pointer[i] *= scale }
        return result
    }

    /// E[x] of each column.
    static func means(_ x: Matrix) -> [Double] { powers(x).map(\.first) }

    /// E[z], E[z²] and E[z⁴] of each column.
    static func powers(_ z: Matrix) -> [(first: Double, second: Double, fourth: Double)] {
        let sums = DoubleMatrix(shape: [3, z.columns])
        ThreadPool.forEachRange(z.columns, granularity: 64) { columns in
            let start = columns.lowerBound
            ck_column_powers(
                z.pointer + start, z.rows, z.columns, columns.count, sums.view.row(0) + start,
                sums.view.row(1) + start, sums.view.row(2) + start)
        }
        let count = Double(max(1, z.rows))
        return (0..<z.columns).map { (sums[0, $0] / count, sums[1, $0] / count, sums[2, $0] / count) }
    }

    /// Σ‖x − y‖² over all rows; without y, Σ‖x‖².
    static func squaredDistance(_ x: Matrix, _ y: Matrix?) -> Double {
        var sums = [Double](repeating: 0, count: x.rows)
        sums.withUnsafeMutableBufferPointer { sums in
            let base = sums.baseAddress
            ThreadPool.forEachRange(x.rows) { rows in
                for row in rows {
                    let a = x.view.row(row)
                    var sum = 0.0
                    if let y {
                        let b = y.view.row(row)
                        for column in 0..<x.columns {
                            let difference = Double(a[column] - b[column])
                            sum += difference * difference
                        }
                    } else {
                        sum = ck_sum_of_squares(a, x.columns)
                    }
                    base![row] = sum
                }
            }
        }
        return sums.reduce(0, +)
    }

    /// x·Mᵀ `[N, r]` for M `[r, n]`, in single precision.
    static func map(_ x: Matrix, by matrix: DoubleMatrix) -> Matrix {
        let y = Matrix(uninitialized: [x.rows, matrix.rows])
        add(x, by: matrix, sign: 1, accumulating: false, to: y)
        return y
    }

    /// y − x·Mᵀ.
    static func residual(_ y: Matrix, _ x: Matrix, by matrix: DoubleMatrix) -> Matrix {
        let result = Matrix(uninitialized: y.shape)
        ThreadPool.forEachRange(y.count, granularity: 1 << 12) { part in
            (result.pointer + part.lowerBound).update(from: y.pointer + part.lowerBound, count: part.count)
        }
        add(x, by: matrix, sign: -1, accumulating: true, to: result)
        return result
    }

    private static func add(_ x: Matrix, by matrix: DoubleMatrix, sign: Float, accumulating: Bool, to y: Matrix) {
        let single = Matrix(uninitialized: matrix.shape)
        ck_f64_to_f32(matrix.pointer, single.pointer, matrix.count)
        if sign != 1 { ck_scale(single.pointer, sign, single.count) }
        withExtendedLifetime(single) {
            multiply(x.view, single.view, transposeB: true, accumulating: accumulating, into: y.view)
        }
    }
}
