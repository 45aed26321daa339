import LinearAlgebra
import Tensors
import Transformer

/// Spectra of the weight matrices themselves.
public enum WeightSpectra {
    /// The singular values of one linear layer's matrix; for a low-rank layer of the product B·A, where σ is left out.
    public struct Entry: Sendable {
        public let layer: Int
        public let module: LinearModule
        public let rows: Int
        public let columns: Int
        public let singularValues: [Double]
    }

    /// Singular values of the weights of the given layers and modules, by LAPACK in double precision.
    public static func compute(
        _ decoder: Decoder, layers: [Int], modules: [LinearModule], progress: (Int) -> Void = { _ in }
    ) throws(LinearAlgebraError) -> [Entry] {
        let places = layers.flatMap { layer in modules.map { (layer: layer, module: $0) } }
        let results = ParallelResults<Result<Entry, LinearAlgebraError>>(count: places.count)
        results.fill(order: Array(places.indices), progress: progress) { index in
            let (layer, module) = places[index]
            return Result { () throws(LinearAlgebraError) in
                let matrix = product(decoder.weights.layers[layer][module])
                let (rows, columns) = (matrix.rows, matrix.columns)
                let values = try Factorization.singularValues(of: matrix)
                return Entry(layer: layer, module: module, rows: rows, columns: columns, singularValues: values)
            }
        }
        return try results.values.map { result throws(LinearAlgebraError) in try result.get() }
    }

    private static func product(_ projection: Projection) -> DoubleMatrix {
        switch projection {
        case .dense(let dense): dense.weight.doubles()
        case .lowRank(let lowRank):
            Factorization.multiply(lowRank.b.doubles(transposed: true), lowRank.a.doubles(transposed: true))
        }
    }
}
