import CKernels
import LinearAlgebra
import Tensors

/// What the matrix products compute with; sums, norms and softmax are always in single precision.
public enum Precision: String, Sendable, CaseIterable, Codable {
    case f32, bf16
}

/// A parameter in the precision it is computed with.
public final class Weight: Sendable {
    public enum Storage: Sendable {
        case single(Matrix)
        case bfloat16(Tensor<BFloat16>)
        /// No elements: the weight stands for its name and shape in a plan.
        case none
    }

    public let shape: [Int]
    public let storage: Storage

    /// A parameter whose elements are not yet set; without a precision it has none.
    public init(shape: [Int], precision: Precision?, in arena: Arena? = nil) {
        self.shape = shape
        switch precision {
        case nil: storage = .none
        case .f32: storage = .single(Matrix(uninitialized: shape, in: arena))
        case .bf16: storage = .bfloat16(Tensor(uninitialized: shape, in: arena))
        }
    }

    public init(_ matrix: Matrix) {
        shape = matrix.shape
        storage = .single(matrix)
    }

    public var count: Int { shape.reduce(1, *) }
    public var rows: Int { shape.count > 1 ? shape[0] : 1 }
    public var columns: Int { shape.last ?? 1 }

    public var bytes: Int {
        switch storage {
        case .single(let matrix): matrix.bytes
        case .bfloat16(let tensor): tensor.bytes
        case .none: 0
        }
    }

    /// The elements of one row in single precision.
    func copyRow(_ row: Int, to destination: UnsafeMutablePointer<Float>) {
        switch storage {
        case .single(let matrix): destination.update(from: matrix.pointer + row * columns, count: columns)
        case .bfloat16(let tensor):
            (tensor.pointer + row * columns).withMemoryRebound(to: UInt16.self, capacity: columns) {
                ck_bf16_to_f32($0, destination, columns)
            }
        case .none: preconditionFailure("a weight of a plan has no elements")
        }
    }

    /// A vector parameter, which is always kept in single precision.
    var vector: UnsafePointer<Float> {
        guard case .single(let matrix) = storage else { preconditionFailure("a vector in bfloat16") }
        return UnsafePointer(matrix.pointer)
    }

    /// All elements in double precision, `[rows, columns]`, transposed to `[columns, rows]` on request.
    public func doubles(transposed: Bool = false) -> DoubleMatrix {
        let single: Matrix
        switch storage {
        case .single(let matrix): single = matrix
        case .bfloat16, .none:
            single = Matrix(uninitialized: [rows, columns])
            for row in 0..<rows { copyRow(row, to: single.pointer + row * columns) }
        }
        let result = DoubleMatrix(uninitialized: transposed ? [columns, rows] : [rows, columns])
        guard transposed else {
            withExtendedLifetime(single) { ck_f32_to_f64(single.pointer, result.pointer, count) }
            return result
        }
        withExtendedLifetime(single) {
            for row in 0..<rows {
                for column in 0..<columns {
                    result.pointer[column * rows + row] = Double(single.pointer[row * columns + column])
                }
            }
        }
        return result
    }

    /// Sets every element to an independent normal number.
    public func fillNormal(deviation: Double, mean: Double = 0, seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for i in 0..<count {
            let value = Float(mean + deviation * generator.normal())
            switch storage {
            case .single(let matrix): matrix.pointer[i] = value
            case .bfloat16(let tensor): tensor.pointer[i] = BFloat16(value)
            case .none: preconditionFailure("a weight of a plan has no elements")
            }
        }
    }

    /// y ← x · W or x · Wᵀ, or y ← y + that. x is rounded where the weight is.
    func apply(_ x: Operand, transposed: Bool, accumulating: Bool = false, into y: MatrixView<Float>) {
        switch storage {
        case .single(let matrix):
            multiply(x.single, matrix.view, transposeB: transposed, accumulating: accumulating, into: y)
        case .bfloat16(let tensor):
            guard let rounded = x.rounded else { preconditionFailure("a bfloat16 weight without a rounded operand") }
            multiply(rounded, tensor.view, transposeB: transposed, accumulating: accumulating, into: y)
        case .none: preconditionFailure("a weight of a plan has no elements")
        }
    }

    /// The weight ← aᵀ · b, or weight + aᵀ · b: how the gradient of a matrix arises from what entered and what left it.
    func setProduct(_ a: Operand, _ b: Operand, accumulating: Bool) {
        guard case .single(let matrix) = storage else { preconditionFailure("gradients are in single precision") }
        if let left = a.rounded, let right = b.rounded {
            multiply(left, right, transposeA: true, accumulating: accumulating, into: matrix.view)
        } else {
            multiply(a.single, b.single, transposeA: true, accumulating: accumulating, into: matrix.view)
        }
    }
}

/// A matrix as the products take it: in single precision, or its copy in bfloat16.
struct Operand {
    let single: MatrixView<Float>
    let rounded: MatrixView<BFloat16>?

    /// Rounds into `scratch`, if there is any, on all threads.
    init(_ matrix: MatrixView<Float>, scratch: MatrixView<BFloat16>?) {
        single = matrix
        rounded = scratch.map {
            MatrixView($0.pointer, rows: matrix.rows, columns: matrix.columns, stride: matrix.columns)
        }
        guard let rounded else { return }
        ThreadPool.forEachRange(matrix.rows) { round(matrix.rows($0), into: rounded.rows($0)) }
    }
}
