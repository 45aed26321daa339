import CKernels
import LinearAlgebra
import Tensors

/// The reference for `Moments`: the R of a QR factorisation of all activations with a column of ones beside them, updated
/// slab by slab. It never squares the activations, so singular values are exact to ε·σ₁ instead of √ε·σ₁; it costs about
/// six times the FLOPs.
public final class TriangularAccumulator {
    public let features: Int
    public private(set) var tokens = 0

    /// R above the rows that wait for the next factorisation, `[width + slab, width]` for width = features + 1.
    private var stack: DoubleMatrix
    private var waiting = 0
    private let slab: Int

    public init(features: Int) {
        self.features = features
        slab = max(256, features + 1)
        stack = DoubleMatrix(shape: [features + 1 + slab, features + 1])
    }

    public var bytes: Int { stack.bytes }

    /// Adds the rows of `activations` `[tokens, features]`.
    public func add(_ activations: MatrixView<Float>) throws(LinearAlgebraError) {
        precondition(activations.columns == features, "\(activations.columns) features, expected \(features)")
        let width = features + 1
        for row in 0..<activations.rows {
            let destination = stack.pointer + (width + waiting) * width
            ck_f32_to_f64(activations.row(row), destination, features)
            destination[features] = 1
            waiting += 1
            if waiting == slab { try reduce() }
        }
        tokens += activations.rows
    }

    /// Factorises what waits. Until more is added, `factor` then only reads.
    func reduce() throws(LinearAlgebraError) {
        guard waiting > 0 else { return }
        let width = features + 1
        let factor = try Factorization.triangularFactor(of: stack)
        stack.buffer.update(repeating: 0)
        stack.pointer.update(from: factor.pointer, count: width * width)
        waiting = 0
    }

    /// R, `[features + 1, features + 1]`, with RᵀR = Σ [x; 1]·[x; 1]ᵀ.
    public func factor() throws(LinearAlgebraError) -> DoubleMatrix {
        try reduce()
        let width = features + 1
        let factor = DoubleMatrix(uninitialized: [width, width])
        factor.pointer.update(from: stack.pointer, count: width * width)
        return factor
    }
}
