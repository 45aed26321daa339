import LinearAlgebra
import Tensors

/// What the error of a linear layer is measured by.
public enum Weighting: String, Sendable, CaseIterable, Codable {
    /// The weights themselves: ‖W − M‖², whatever goes through them.
    case weight
    /// What leaves the layer: E‖(W − M)x‖².
    case output
    /// The loss, to second order: ½ E‖Γ^½ (W − M) x‖² with Γ = E[g·gᵀ] the gradient's second moment.
    case fisher
}

/// How a linear layer W `[m, n]` is cut down to rank r with the least weighted error, for every r at once.
///
/// With C = E[x·xᵀ] and Γ, the best M of rank r minimises ‖Γ^½ (W − M) C^½‖, by Eckart and Young from the singular value
/// decomposition of that matrix S = Rᵀ_Γ W R_C for any roots of Γ and C. Its squared singular values λ are the energies
/// of the directions; the error is the sum of those left out. Neither form below needs an inverse of C, so a singular one
/// does no harm; of Γ, damped, a triangular system is solved.
public struct WeightedFactors {
    /// λ, descending; min(m, n) of them.
    public let energies: [Double]
    /// A `[k, n]`: row i makes latent i, whose second moment is λᵢ.
    let a: DoubleMatrix
    /// B `[m, k]`.
    let b: DoubleMatrix

    /// The problem for one layer.
    public struct Problem {
        let weight: DoubleMatrix
        /// C, damped; nil for the identity.
        let input: DoubleMatrix?
        /// Γ, damped; nil for the identity.
        let gradient: DoubleMatrix?

        /// - Parameters:
        ///   - weight: W `[m, n]`.
        ///   - input: C `[n, n]`; nil leaves it out.
        ///   - gradient: Γ `[m, m]`; nil leaves it out.
        ///   - inputDamping, gradientDamping: parts of the mean of the diagonal that are added to it.
        public init(
            weight: DoubleMatrix, input: DoubleMatrix?, gradient: DoubleMatrix?, inputDamping: Double = 0,
            gradientDamping: Double = 0
        ) {
            self.weight = weight
            self.input = input.map { Self.damped($0, by: inputDamping) }
            self.gradient = gradient.map { Self.damped($0, by: gradientDamping) }
        }

        private static func damped(_ matrix: DoubleMatrix, by part: Double) -> DoubleMatrix {
            guard part > 0 else { return matrix }
            let n = matrix.rows
            let mean = (0..<n).reduce(0) { $0 + matrix[$1, $1] } / Double(max(1, n))
            let result = matrix.copy()
            // A matrix of zeros – a layer that is never reached – becomes a small multiple of the identity.
            for i in 0..<n { result[i, i] += mean > 0 ? part * mean : 1e-30 }
            return result
        }

        /// Whether the smaller eigenproblem is the outputs': that of Rᵀ_Γ W C Wᵀ R_Γ; else it is R_Cᵀ Wᵀ Γ W R_C.
        private var isTall: Bool { weight.rows > weight.columns }

        /// W C Wᵀ or Wᵀ Γ W, upper triangle.
        private var inner: DoubleMatrix {
            let w = isTall ? weight.transposed : weight
            if let middle = isTall ? gradient : input { return Factorization.congruence(w, middle) }
            return Factorization.multiply(w, w, transposeB: true)
        }

        /// Rᵀ K R for K = `inner` and R the root of the other matrix, in storage of its own.
        private func core(_ inner: DoubleMatrix, _ root: DoubleMatrix?) -> DoubleMatrix {
            root.map { Factorization.congruence($0.transposed, inner) } ?? inner.copy()
        }

        private func root() throws(LinearAlgebraError) -> DoubleMatrix? {
            guard let outer = isTall ? input : gradient else { return nil }
            return try Factorization.root(of: outer)
        }

        /// λ, descending.
        public func energies() throws(LinearAlgebraError) -> [Double] {
            let inner = inner.symmetrized
            return try Factorization.eigenvalues(ofSymmetric: core(inner, try root())).map { max(0, $0) }
        }

        /// Both factors of the `rank` first directions.
        public func factors(rank: Int) throws(LinearAlgebraError) -> WeightedFactors {
            let (inner, root) = (inner.symmetrized, try root())
            let (values, vectors) = try Factorization.eigenvectors(ofSymmetric: core(inner, root))
            let energies = values.map { max(0, $0) }
            precondition(rank <= energies.count, "rank \(rank) of \(weight.shape)")
            // Vᵀ, `[r, k]`.
            let v = vectors.prefix(rows: rank)
            // Rᵀ from the left of what follows: Vᵀ·Rᵀ.
            let mapped = root.map { Factorization.multiply(v, $0, transposeB: true) } ?? v
            if isTall {
                // A = Λ^−½ Vᵀ Rᵀ K and B = W R V Λ^−½; a direction without energy stays zero.
                let floor = 1e-14 * (energies.first ?? 0)
                let scales = energies.prefix(rank).map { $0 > floor ? 1 / $0.squareRoot() : 0 }
                let a = Factorization.multiply(mapped, inner)
                let b = Factorization.multiply(weight, mapped, transposeB: true)
                for i in 0..<rank {
                    for column in 0..<a.columns { a[i, column] *= scales[i] }
                    for row in 0..<b.rows { b[row, i] *= scales[i] }
                }
                return WeightedFactors(energies: energies, a: a, b: b)
            }
            // A = Uᵀ Rᵀ W and B = R⁻ᵀ U.
            let b = v.transposed
            if let root { Factorization.solveTransposed(lower: root, b) }
            return WeightedFactors(energies: energies, a: Factorization.multiply(mapped, weight), b: b)
        }
    }
}

extension DoubleMatrix {
    var transposed: DoubleMatrix {
        let result = DoubleMatrix(uninitialized: [columns, rows])
        let block = 32
        for top in stride(from: 0, to: rows, by: block) {
            for left in stride(from: 0, to: columns, by: block) {
                for row in top..<Swift.min(rows, top + block) {
                    for column in left..<Swift.min(columns, left + block) {
                        result.pointer[column * rows + row] = pointer[row * columns + column]
                    }
                }
            }
        }
        return result
    }

    /// The matrix itself, with its upper triangle copied to the lower one.
    var symmetrized: DoubleMatrix {
        for row in 0..<rows {
            for column in 0..<row { pointer[row * columns + column] = pointer[column * columns + row] }
        }
        return self
    }
}
