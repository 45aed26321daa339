import LinearAlgebra
import Tensors
import Transformer

/// Spectra of the weight matrices themselves.
public enum WeightSpectra {
    /// The singular values of one linear layer's matrix; for a low-rank layer of the product B·A, where σ is left out.
    public struct Entry: Sendable {
        public let id: LinearLayer.ID
        public let rows: Int
        public let columns: Int
        public let singularValues: [Double]
    }

    /// Singular values of the weights of these linear layers, in their order, by LAPACK in double precision.
    public static func compute(
        _ model: LanguageModel, _ linears: [LinearLayer], progress: (Int) -> Void = { _ in }
    ) throws(LinearAlgebraError) -> [Entry] {
        let results = ParallelResults<Result<Entry, LinearAlgebraError>>(count: linears.count)
        results.fill(order: Array(linears.indices), progress: progress) { index in
            let linear = linears[index]
            return Result { () throws(LinearAlgebraError) in
                let matrix = product(model.weights[linear])
                let (rows, columns) = (matrix.rows, matrix.columns)
                let values = try Factorization.singularValues(of: matrix)
                return Entry(id: linear.id, rows: rows, columns: columns, singularValues: values)
            }
        }
        return try results.values.map { result throws(LinearAlgebraError) in try result.get() }
    }

    private static func product(_ weights: LinearWeights) -> DoubleMatrix {
        switch weights {
        case .dense(let dense): dense.weight.doubles()
        case .lowRank(let lowRank):
            Factorization.multiply(lowRank.b.doubles(transposed: true), lowRank.a.doubles(transposed: true))
        }
    }
}
