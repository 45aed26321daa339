import CKernels
import Tensors

/// RMSNorm, y = weight · x / √(mean(x²) + ε), and the sums over rows that gradients of vectors are.
enum Normalization {
    /// y ← RMSNorm(x) for x and y `[rows, C]`.
    static func forward(_ x: MatrixView<Float>, _ weight: Weight, epsilon: Float, into y: MatrixView<Float>) {
        for row in 0..<x.rows { ck_rms_norm(x.row(row), weight.vector, 0, y.row(row), x.columns, epsilon) }
    }

    /// Backward of `forward`: dx ← dx + the gradient of x from y's gradient dy, and the weight's gradient, if that has a
    /// place.
    ///
    /// With s = 1 / √(mean(x²) + ε): dx = s · (w·dy − x · s² · mean(w·dy·x)), dw = Σ over rows of dy · x · s.
    /// `scales` takes s for each row.
    static func backward(
        _ x: MatrixView<Float>, _ weight: Weight, epsilon: Float, _ dy: MatrixView<Float>, gradient: Weight?,
        accumulating: Bool, scales: UnsafeMutablePointer<Float>, into dx: MatrixView<Float>
    ) {
        ThreadPool.forEachRange(x.rows) { rows in
            for row in rows {
                scales[row] = ck_rms_norm_backward(
                    x.row(row), weight.vector, 0, dy.row(row), dx.row(row), x.columns, epsilon)
            }
        }
        guard let sums = gradient?.gradientVector else { return }
        ThreadPool.forEachRange(x.columns, granularity: 16) { columns in
            let start = columns.lowerBound
            ck_weighted_column_sums(
                dy.pointer + start, dy.stride, x.pointer + start, x.stride, scales, x.rows, columns.count, accumulating,
                sums + start)
        }
    }
}

extension Weight {
    /// The elements of a vector's gradient.
    fileprivate var gradientVector: UnsafeMutablePointer<Float> {
        guard case .single(let matrix) = storage else { preconditionFailure("gradients are in single precision") }
        return matrix.pointer
    }

    /// The vector ← the sum of all rows, or vector + sum: the gradient of a bias.
    func setColumnSums(_ dy: MatrixView<Float>, accumulating: Bool) {
        let sums = gradientVector
        ThreadPool.forEachRange(dy.columns, granularity: 16) { columns in
            let start = columns.lowerBound
            ck_column_sums(dy.pointer + start, dy.stride, dy.rows, columns.count, accumulating, sums + start)
        }
    }
}
