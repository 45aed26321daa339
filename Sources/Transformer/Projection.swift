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
            ck_f32_to_f64(single.pointer, result.pointer, count)
            return result
        }
        for row in 0..<rows {
            for column in 0..<columns {
                result.pointer[column * rows + row] = Double(single.pointer[row * columns + column])
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

    /// y ← x · W, or x · Wᵀ. `scratch` takes x in bfloat16 where the weight is.
    func apply(_ x: MatrixView<Float>, transposed: Bool, scratch: MatrixView<BFloat16>?, into y: MatrixView<Float>) {
        switch storage {
        case .single(let matrix): multiply(x, matrix.view, transposeB: transposed, into: y)
        case .bfloat16(let tensor):
            guard let scratch else { preconditionFailure("a bfloat16 weight without scratch memory") }
            let rounded = MatrixView(scratch.pointer, rows: x.rows, columns: x.columns, stride: x.columns)
            round(x, into: rounded)
            multiply(rounded, tensor.view, transposeB: transposed, into: y)
        case .none: preconditionFailure("a weight of a plan has no elements")
        }
    }
}

/// y = W·x + b.
public struct DenseProjection: Sendable {
    /// `[out, in]`.
    public let weight: Weight
    /// `[out]`.
    public let bias: Weight?
}

/// y = B·σ(A·x) + b (PAPER.md, "Layer"), the factors in the orientation of the paper's code.
public struct LowRankProjection: Sendable {
    /// A, `[in, rank]`.
    public let a: Weight
    /// B, `[rank, out]`.
    public let b: Weight
    /// `[out]`.
    public let bias: Weight?
    /// Whether σ = silu stands between the factors; else they are a linear bottleneck.
    public let isActivated: Bool

    public var rank: Int { a.columns }
}

/// A linear layer of the decoder, dense or in CoLA's low-rank form.
public enum Projection: Sendable {
    case dense(DenseProjection)
    case lowRank(LowRankProjection)

    public var bias: Weight? {
        switch self {
        case .dense(let dense): dense.bias
        case .lowRank(let lowRank): lowRank.bias
        }
    }

    /// Width of the bottleneck, if there is one.
    public var rank: Int? {
        if case .lowRank(let lowRank) = self { lowRank.rank } else { nil }
    }

    /// FLOPs of one token: two per parameter of the matrices.
    var flops: Int {
        switch self {
        case .dense(let dense): 2 * dense.weight.count
        case .lowRank(let lowRank): 2 * (lowRank.a.count + lowRank.b.count)
        }
    }

    /// y ← layer(x) for x `[rows, in]`, y `[rows, out]`. A low-rank layer leaves σ(A·x) in `bottleneck` `[rows, rank]`.
    func forward(
        _ x: MatrixView<Float>, bottleneck: MatrixView<Float>?, scratch: MatrixView<BFloat16>?,
        into y: MatrixView<Float>
    ) {
        switch self {
        case .dense(let dense): dense.weight.apply(x, transposed: true, scratch: scratch, into: y)
        case .lowRank(let lowRank):
            guard let h = bottleneck else { preconditionFailure("a low-rank layer without room for its bottleneck") }
            lowRank.a.apply(x, transposed: false, scratch: scratch, into: h)
            if lowRank.isActivated {
                for row in 0..<h.rows { ck_silu(h.row(row), h.columns) }
            }
            lowRank.b.apply(h, transposed: false, scratch: scratch, into: y)
        }
        if let bias = bias?.vector {
            for row in 0..<y.rows { ck_add(y.row(row), bias, y.columns) }
        }
    }
}
