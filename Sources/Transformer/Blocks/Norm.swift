import CKernels
import Tensors

/// A norm at work: y = x̂ ∘ (offset + weight) + bias, see `NormDescription`.
struct Norm {
    let weights: NormWeights

    init(_ weights: NormWeights) { self.weights = weights }

    private var description: NormDescription { weights.description }

    /// y ← norm(x) for x and y `[rows, features]`. y may be x.
    func forward(_ x: MatrixView<Float>, into y: MatrixView<Float>) {
        for row in 0..<x.rows { forward(x.row(row), into: y.row(row)) }
    }

    /// One row of as many features as the weight has.
    func forward(_ x: UnsafePointer<Float>, into y: UnsafeMutablePointer<Float>) {
        let (weight, count) = (weights.weight.vector, weights.weight.count)
        switch description.kind {
        case .rms: ck_rms_norm(x, weight, description.offset, y, count, description.epsilon)
        case .layer: ck_layer_norm(x, weight, weights.bias?.vector, y, count, description.epsilon)
        }
    }

    /// Backward of `forward` for some rows: dx ← dx + the gradient of x from y's gradient dy. Leaves in `statistics` what
    /// the gradients of weight and bias need.
    ///
    /// With g = dy ∘ (offset + w) and the row's scale s: RMSNorm dx = s·(g − x̂·mean(g·x̂)), LayerNorm
    /// dx = s·(g − mean(g) − x̂·mean(g·x̂)).
    func backward(
        _ x: MatrixView<Float>, _ dy: MatrixView<Float>, _ statistics: NormStatistics, rows: Range<Int>,
        into dx: MatrixView<Float>
    ) {
        let (weight, count) = (weights.weight.vector, weights.weight.count)
        for row in rows {
            switch description.kind {
            case .rms:
                statistics.scales.pointer[row] = ck_rms_norm_backward(
                    x.row(row), weight, description.offset, dy.row(row), dx.row(row), count, description.epsilon)
            case .layer:
                statistics.scales.pointer[row] = ck_layer_norm_backward(
                    x.row(row), weight, dy.row(row), dx.row(row), count, description.epsilon,
                    statistics.means.pointer + row)
            }
        }
    }

    /// The gradients of weight, Σ dy · x̂, and bias, Σ dy, after `backward` for all rows.
    func differentiateWeights(
        _ x: MatrixView<Float>, _ dy: MatrixView<Float>, _ statistics: NormStatistics, into gradient: NormWeights,
        accumulating: Bool
    ) {
        let sums = gradient.weight.view.pointer
        let (scales, means) = (statistics.scales.pointer, statistics.means.pointer)
        ThreadPool.forEachRange(x.columns, granularity: 16) { columns in
            let start = columns.lowerBound
            switch description.kind {
            case .rms:
                ck_weighted_column_sums(
                    dy.pointer + start, dy.stride, x.pointer + start, x.stride, scales, x.rows, columns.count,
                    accumulating, sums + start)
            case .layer:
                ck_centered_weighted_column_sums(
                    dy.pointer + start, dy.stride, x.pointer + start, x.stride, scales, means, x.rows, columns.count,
                    accumulating, sums + start)
            }
        }
        gradient.bias?.setColumnSums(dy, accumulating: accumulating)
    }
}

/// What a norm's backward pass finds out about each row: 1 / √(variance + ε), and of LayerNorm the mean.
struct NormStatistics {
    let scales: Matrix
    let means: Matrix

    init(rows: Int) {
        scales = Matrix(uninitialized: [rows])
        means = Matrix(uninitialized: [rows])
    }

    var bytes: Int { scales.bytes + means.bytes }
}

extension Weight {
    /// The vector ← the sum of all rows, or vector + sum: the gradient of a bias.
    func setColumnSums(_ dy: MatrixView<Float>, accumulating: Bool) {
        let sums = view.pointer
        ThreadPool.forEachRange(dy.columns, granularity: 16) { columns in
            let start = columns.lowerBound
            ck_column_sums(dy.pointer + start, dy.stride, dy.rows, columns.count, accumulating, sums + start)
        }
    }
}
