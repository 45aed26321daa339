import CKernels
import Glibc

/// The upper 16 bits of an IEEE single: 8 exponent and 7 fraction bits.
public struct BFloat16: BitwiseCopyable, Sendable, Equatable {
    public var bitPattern: UInt16

    public init(bitPattern: UInt16) { self.bitPattern = bitPattern }

    /// Rounds to nearest, ties to even.
    public init(_ value: Float) {
        var input = value
        var output: UInt16 = 0
        ck_f32_to_bf16(&input, &output, 1)
        bitPattern = output
    }

    public var float: Float { Float(bitPattern: UInt32(bitPattern) << 16) }
}

private let hugePage = 2 << 20

/// Dense row-major storage of any number of dimensions, aligned to 64 bytes.
///
/// A reference: weights and workspaces are large, and are shared rather than copied. Elements are read and written
/// through `pointer` or a `view`; who shares a tensor between threads sees to it that writes do not overlap.
public final class Tensor<Element: BitwiseCopyable>: @unchecked Sendable {
    public let shape: [Int]
    public let count: Int
    public let pointer: UnsafeMutablePointer<Element>
    /// Whose memory this is, if not its own.
    private let arena: Arena?

    /// Storage whose elements have no defined value yet, of its own or in an arena.
    public init(uninitialized shape: [Int], in arena: Arena? = nil) {
        precondition(shape.allSatisfy { $0 >= 0 }, "a tensor's extents are not negative: \(shape)")
        self.shape = shape
        self.arena = arena
        count = shape.reduce(1, *)
        let bytes = max(64, (count * MemoryLayout<Element>.stride + 63) / 64 * 64)
        if let arena {
            pointer = arena.allocate(bytes).bindMemory(to: Element.self, capacity: count)
            return
        }
        var memory: UnsafeMutableRawPointer?
        // Large tensors lie on huge pages where the system gives them on request: products walk over many pages.
        let isLarge = bytes >= hugePage
        let status = posix_memalign(&memory, isLarge ? hugePage : 64, bytes)
        guard status == 0, let memory else { MemoryExhaustion.report(bytes: bytes) }
        if isLarge { madvise(memory, bytes, MADV_HUGEPAGE) }
        pointer = memory.bindMemory(to: Element.self, capacity: count)
    }

    deinit { if arena == nil { free(pointer) } }

    public var bytes: Int { count * MemoryLayout<Element>.stride }

    /// Rows of the matrix that has the last extent as its columns.
    public var rows: Int { columns == 0 ? 0 : count / columns }
    public var columns: Int { shape.last ?? 1 }

    public var buffer: UnsafeMutableBufferPointer<Element> { .init(start: pointer, count: count) }

    public var view: MatrixView<Element> { MatrixView(pointer, rows: rows, columns: columns, stride: columns) }

    public subscript(row: Int, column: Int) -> Element {
        get { view[row, column] }
        set { view[row, column] = newValue }
    }
}

extension Tensor where Element: ExpressibleByIntegerLiteral {
    /// Storage filled with zeros, of its own or in an arena.
    public convenience init(shape: [Int], in arena: Arena? = nil) {
        self.init(uninitialized: shape, in: arena)
        // An arena's memory starts as zeros; touching it here would fetch it all on this thread.
        if arena == nil { buffer.update(repeating: 0) }
    }

    public convenience init(rows: Int, columns: Int) { self.init(shape: [rows, columns]) }
}

extension Tensor {
    /// A copy of `elements`, row by row.
    public convenience init(shape: [Int], _ elements: some Collection<Element>) {
        self.init(uninitialized: shape)
        precondition(elements.count == count, "\(elements.count) elements do not fill the shape \(shape)")
        _ = buffer.update(fromContentsOf: elements)
    }

    /// A tensor of the same elements in storage of its own.
    public func copy() -> Tensor {
        let result = Tensor(uninitialized: shape)
        result.pointer.update(from: pointer, count: count)
        return result
    }

    /// The first rows of a matrix in storage of their own.
    public func prefix(rows count: Int) -> Tensor {
        precondition(count <= rows, "\(count) of \(rows) rows")
        let result = Tensor(uninitialized: [count, columns])
        result.pointer.update(from: pointer, count: result.count)
        return result
    }

    /// A copy of all elements, row by row.
    public var elements: [Element] { withExtendedLifetime(self) { Array(buffer) } }
}

/// A matrix of single-precision numbers, `[rows, columns]`.
public typealias Matrix = Tensor<Float>

/// A rectangle in somebody's row-major storage. It does not keep the storage alive.
public struct MatrixView<Element: BitwiseCopyable>: @unchecked Sendable {
    public let pointer: UnsafeMutablePointer<Element>
    public let rows: Int
    public let columns: Int
    /// Elements from one row to the next.
    public let stride: Int

    public init(_ pointer: UnsafeMutablePointer<Element>, rows: Int, columns: Int, stride: Int) {
        precondition(
            rows >= 0 && columns >= 0 && (stride >= columns || rows <= 1),
            "rows of \(columns) overlap at stride \(stride)")
        self.pointer = pointer
        self.rows = rows
        self.columns = columns
        self.stride = stride
    }

    public subscript(row: Int, column: Int) -> Element {
        get { pointer[row * stride + column] }
        nonmutating set { pointer[row * stride + column] = newValue }
    }

    public func row(_ index: Int) -> UnsafeMutablePointer<Element> { pointer + index * stride }

    public func rows(_ range: Range<Int>) -> Self {
        precondition(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) of \(rows)")
        return Self(pointer + range.lowerBound * stride, rows: range.count, columns: columns, stride: stride)
    }

    public func columns(_ range: Range<Int>) -> Self {
        precondition(range.lowerBound >= 0 && range.upperBound <= columns, "columns \(range) of \(columns)")
        return Self(pointer + range.lowerBound, rows: rows, columns: range.count, stride: stride)
    }
}
