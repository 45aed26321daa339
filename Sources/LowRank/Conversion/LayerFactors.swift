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

    /// Sets the weights of a low-rank projection, which hold A and B transposed.
    func store(in projection: LowRankProjection) {
        func copy(_ matrix: DoubleMatrix, to weight: Weight) {
            precondition(weight.shape == [matrix.columns, matrix.rows], "\(matrix.shape) for \(weight.shape)")
            let transposed = matrix.transposed
            withExtendedLifetime(transposed) {
                ck_f64_to_f32(transposed.pointer, weight.elements, transposed.count)
            }
        }
        copy(a, to: projection.a)
        copy(b, to: projection.b)
        if let weight = projection.bias { ck_f64_to_f32(bias, weight.elements, bias.count) }
    }
}

extension Weight {
    /// The elements of a weight in single precision.
    var elements: UnsafeMutablePointer<Float> {
        guard case .single(let matrix) = storage else { preconditionFailure("a conversion is in single precision") }
        return matrix.pointer
    }
}
