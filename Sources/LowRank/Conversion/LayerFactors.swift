import CKernels
import LinearAlgebra
import Tensors
import Transformer

/// y = B·σ(A·x) + b in double precision, before it becomes weights.
struct LayerFactors {
    /// A `[r, n]`.
    var a: DoubleMatrix
    /// B `[m, r]`.
    var b: DoubleMatrix
    /// `[m]`.
    var bias: [Double]

    var rank: Int { a.rows }

    /// Moves scale between the factors: row i of A times sᵢ, column i of B divided by it.
    func scaled(by scales: [Double]) -> LayerFactors {
        let (a, b) = (a.copy(), b.copy())
        for (i, scale) in scales.enumerated() where scale > 0 {
            for column in 0..<a.columns { a[i, column] *= scale }
            for row in 0..<b.rows { b[row, i] /= scale }
        }
        return LayerFactors(a: a, b: b, bias: bias)
    }

    /// Sets the weights of a low-rank linear layer, which hold A and B transposed.
    func store(in weights: LinearWeights.LowRank) {
        func copy(_ matrix: DoubleMatrix, to weight: Weight) {
            precondition(weight.shape == [matrix.columns, matrix.rows], "\(matrix.shape) for \(weight.shape)")
            let transposed = matrix.transposed
            let single = Matrix(uninitialized: transposed.shape)
            withExtendedLifetime(transposed) { ck_f64_to_f32(transposed.pointer, single.pointer, transposed.count) }
            weight.assign(Weight(single))
        }
        copy(a, to: weights.a)
        copy(b, to: weights.b)
        if let weight = weights.bias { ck_f64_to_f32(bias, weight.view.pointer, bias.count) }
    }
}
