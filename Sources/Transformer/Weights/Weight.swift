import CKernels
import LinearAlgebra
import Tensors

/// What the matrix products compute with; sums, norms and softmax are always in single precision.
public enum Precision: String, Sendable, CaseIterable, Codable {
    case f32, bf16
}

/// A parameter in the precision it is computed with: a matrix, or a vector of one row.
///
/// Its elements lie in storage that neighbours may share: weights whose products are one product stand side by side. Then
/// the rows of a factor A lie apart (`rowStride`), and elements are reached by `view`, row by row, or in `runs`.
public final class Weight: Sendable {
    enum Storage: Sendable {
        case single(Matrix)
        case bfloat16(Tensor<BFloat16>)
        /// No elements: the weight stands for its name and shape in a plan.
        case none
    }

    public let shape: [Int]
    /// Elements from one row to the next.
    public let rowStride: Int
    let storage: Storage
    /// Of the first element in the storage.
    private let offset: Int

    /// A parameter whose elements are not yet set; without a precision it has none.
    public init(shape: [Int], precision: Precision?, in arena: Arena? = nil) {
        self.shape = shape
        rowStride = shape.last ?? 1
        offset = 0
        switch precision {
        case nil: storage = .none
        case .f32: storage = .single(Matrix(uninitialized: shape, in: arena))
        case .bf16: storage = .bfloat16(Tensor(uninitialized: shape, in: arena))
        }
    }

    public init(_ matrix: Matrix) {
        shape = matrix.shape
        rowStride = matrix.columns
        offset = 0
        storage = .single(matrix)
    }

    private init(part of: Weight, shape: [Int], offset: Int) {
        self.shape = shape
        self.offset = of.offset + offset
        rowStride = of.rowStride
        storage = of.storage
    }

    /// Some rows of a matrix, in the same memory.
    func rows(_ range: Range<Int>) -> Weight {
        Weight(part: self, shape: [range.count, columns], offset: range.lowerBound * rowStride)
    }

    /// Some columns of a matrix, in the same memory.
    func columns(_ range: Range<Int>) -> Weight {
        Weight(part: self, shape: [rows, range.count], offset: range.lowerBound)
    }

    public var count: Int { shape.reduce(1, *) }
    public var rows: Int { shape.count > 1 ? shape[0] : 1 }
    public var columns: Int { shape.last ?? 1 }

    /// nil for the weight of a plan.
    public var precision: Precision? {
        switch storage {
        case .single: .f32
        case .bfloat16: .bf16
        case .none: nil
        }
    }

    public var bytes: Int {
        switch storage {
        case .single: 4 * count
        case .bfloat16: 2 * count
        case .none: 0
        }
    }

    // MARK: - Elements

    /// The elements of a weight in single precision. They live as long as the weight.
    public var view: MatrixView<Float> {
        guard case .single(let matrix) = storage else {
            preconditionFailure("a weight that is not in single precision")
        }
        return MatrixView(matrix.pointer + offset, rows: rows, columns: columns, stride: rowStride)
    }

    /// The elements of a weight in bfloat16.
    public var roundedView: MatrixView<BFloat16> {
        guard case .bfloat16(let tensor) = storage else { preconditionFailure("a weight that is not in bfloat16") }
        return MatrixView(tensor.pointer + offset, rows: rows, columns: columns, stride: rowStride)
    }

    /// Whether no gaps are between the rows.
    public var isContiguous: Bool { rows == 1 || rowStride == columns }

    /// The pieces without gaps that the elements `range`, counted row by row, lie in: offsets from the first element of the
    /// view, and numbers of elements. The same for all weights of one layout.
    public func runs(_ range: Range<Int>) -> [(offset: Int, count: Int)] {
        guard !isContiguous else { return [(range.lowerBound, range.count)] }
        var runs: [(offset: Int, count: Int)] = []
        var index = range.lowerBound
        while index < range.upperBound {
            let (row, column) = index.quotientAndRemainder(dividingBy: columns)
            let count = min(columns - column, range.upperBound - index)
            runs.append((row * rowStride + column, count))
            index += count
        }
        return runs
    }

    /// The elements of one row in single precision.
    func copyRow(_ row: Int, to destination: UnsafeMutablePointer<Float>) {
        switch storage {
        case .single: destination.update(from: view.row(row), count: columns)
        case .bfloat16:
            roundedView.row(row).withMemoryRebound(to: UInt16.self, capacity: columns) {
                ck_bf16_to_f32($0, destination, columns)
            }
        case .none: preconditionFailure("a weight of a plan has no elements")
        }
    }

    /// A copy in single precision without gaps, of the parameter's shape; all rows, or some.
    public func copy(rows range: Range<Int>? = nil) -> Matrix {
        let range = range ?? 0..<rows
        let result = Matrix(uninitialized: shape.count > 1 ? [range.count, columns] : shape)
        for (index, row) in range.enumerated() { copyRow(row, to: result.pointer + index * columns) }
        return result
    }

    /// Sets one row to elements in single precision, rounded where the weight is in bfloat16.
    func set(row: Int, to source: UnsafePointer<Float>) {
        switch storage {
        case .single: view.row(row).update(from: source, count: columns)
        case .bfloat16:
            roundedView.row(row).withMemoryRebound(to: UInt16.self, capacity: columns) {
                ck_f32_to_bf16(source, $0, columns)
            }
        case .none: preconditionFailure("a weight of a plan has no elements")
        }
    }

    /// Sets all elements to those of a weight of the same shape in single precision, rounded where this one is in bfloat16.
    public func assign(_ other: Weight) {
        precondition(shape == other.shape, "\(other.shape) assigned to \(shape)")
        for row in 0..<rows { set(row: row, to: other.view.row(row)) }
    }

    /// A vector parameter, which is always kept in single precision.
    var vector: UnsafePointer<Float> { UnsafePointer(view.pointer) }

    /// All elements in double precision, `[rows, columns]`, transposed to `[columns, rows]` on request.
    public func doubles(transposed: Bool = false) -> DoubleMatrix {
        let single = copy()
        let result = DoubleMatrix(uninitialized: transposed ? [columns, rows] : [rows, columns])
        withExtendedLifetime(single) {
            guard transposed else { return ck_f32_to_f64(single.pointer, result.pointer, count) }
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
        fill { Float(mean + deviation * generator.normal()) }
    }

    /// Sets the elements one after the other, row by row.
    public func fill(_ value: () -> Float) {
        for row in 0..<rows {
            for column in 0..<columns {
                switch storage {
                case .single: view[row, column] = value()
                case .bfloat16: roundedView[row, column] = BFloat16(value())
                case .none: preconditionFailure("a weight of a plan has no elements")
                }
            }
        }
    }

    // MARK: - Products

    /// y ← x · W or x · Wᵀ, or y ← y + that. x is rounded where the weight is.
    func apply(_ x: Operand, transposed: Bool, accumulating: Bool = false, into y: MatrixView<Float>) {
        switch storage {
        case .single:
            multiply(x.single, view, transposeB: transposed, accumulating: accumulating, into: y)
        case .bfloat16:
            guard let rounded = x.rounded else { preconditionFailure("a bfloat16 weight without a rounded operand") }
            multiply(rounded, roundedView, transposeB: transposed, accumulating: accumulating, into: y)
        case .none: preconditionFailure("a weight of a plan has no elements")
        }
    }

    /// The weight ← aᵀ · b, or weight + aᵀ · b: how the gradient of a matrix arises from what entered and what left it.
    func setProduct(_ a: Operand, _ b: Operand, accumulating: Bool) {
        if let left = a.rounded, let right = b.rounded {
            multiply(left, right, transposeA: true, accumulating: accumulating, into: view)
        } else {
            multiply(a.single, b.single, transposeA: true, accumulating: accumulating, into: view)
        }
    }
}
