import TestSupport
import Testing

@testable import LinearAlgebra
@testable import Tensors

/// A random matrix inside wider rows, whose gaps hold NaN: reading a gap spoils a product, writing one is seen.
private struct Padded {
    let storage: Matrix
    let rows: Int
    let columns: Int

    init(_ rows: Int, _ columns: Int, gap: Int, seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        (self.rows, self.columns) = (rows, columns)
        storage = Matrix.normal(shape: [rows, columns + gap], using: &generator)
        for row in 0..<rows {
            for column in columns..<columns + gap { storage[row, column] = .nan }
        }
    }

    var view: MatrixView<Float> { storage.view.columns(0..<columns) }
    var values: [Double] { (0..<rows * columns).map { Double(storage[$0 / columns, $0 % columns]) } }
    var gapsAreUntouched: Bool {
        (0..<rows).allSatisfy { row in (columns..<storage.columns).allSatisfy { storage[row, $0].isNaN } }
    }
}

/// Naive op(A)·op(B) in double precision, and Σ|a||b| for each element.
private func naiveProduct(
    _ a: [Double], _ b: [Double], m: Int, n: Int, k: Int, transposeA: Bool, transposeB: Bool
) -> (product: [Double], magnitudes: [Double]) {
    var product = [Double](repeating: 0, count: m * n)
    var magnitudes = product
    for i in 0..<m {
        for j in 0..<n {
            for p in 0..<k {
                let term = a[transposeA ? p * m + i : i * k + p] * b[transposeB ? j * k + p : p * n + j]
                product[i * n + j] += term
                magnitudes[i * n + j] += abs(term)
            }
        }
    }
    return (product, magnitudes)
}

/// Half a unit in the last place of 1 in single precision.
private let u = 0x1p-24

@Suite("Matrix products")
struct ProductTests {
    struct Shape: CustomTestStringConvertible {
        let m, n, k: Int
        var testDescription: String { "[\(m), \(k)] · [\(k), \(n)]" }
    }

    /// One, few and many rows and columns: both ways of sharing out the work, and neither.
    static let shapes: [Shape] = [
        .init(m: 1, n: 1, k: 1), .init(m: 1, n: 37, k: 5), .init(m: 37, n: 1, k: 3), .init(m: 2, n: 3, k: 101),
        .init(m: 3, n: 257, k: 17), .init(m: 67, n: 29, k: 41), .init(m: 131, n: 33, k: 7), .init(m: 197, n: 61, k: 1),
        .init(m: 13, n: 71, k: 300),
    ]

    @Test(
        "Single precision: every transposition, strided, stored or accumulated", arguments: shapes, [false, true])
    func single(shape: Shape, accumulating: Bool) {
        let (m, n, k) = (shape.m, shape.n, shape.k)
        for (transposeA, transposeB) in [(false, false), (true, false), (false, true), (true, true)] {
            for gap in [0, 3] {
                let a = transposeA ? Padded(k, m, gap: gap, seed: 1) : Padded(m, k, gap: gap, seed: 1)
                let b = transposeB ? Padded(n, k, gap: 2 * gap, seed: 2) : Padded(k, n, gap: 2 * gap, seed: 2)
                let c = Padded(m, n, gap: 5 * gap, seed: 3)
                let before = accumulating ? c.values : [Double](repeating: 0, count: m * n)
                let naive = naiveProduct(
                    a.values, b.values, m: m, n: n, k: k, transposeA: transposeA, transposeB: transposeB)
                if !accumulating {
                    for row in 0..<m { c.view.row(row).update(repeating: .nan, count: n) }
                }
                withExtendedLifetime((a, b, c)) {
                    multiply(
                        a.view, b.view, transposeA: transposeA, transposeB: transposeB, accumulating: accumulating,
                        into: c.view)
                }
                // k products and k additions in whatever order, and the one to what was there.
                let bounds = (0..<m * n).map { Double(k + 1) * u * 1.01 * (naive.magnitudes[$0] + abs(before[$0])) }
                expectClose(
                    c.values, zip(before, naive.product).map { $0 + $1 }, within: bounds, "\(transposeA), \(transposeB)"
                )
                #expect(c.gapsAreUntouched)
            }
        }
    }

    /// How products of bfloat16 matrices are made: as the processor has it, and in the way that is there for those that
    /// have no such products.
    enum Way: CaseIterable {
        case chosen, widened

        func multiply(_ a: MatrixView<BFloat16>, _ b: MatrixView<BFloat16>, _ product: Product, _ c: MatrixView<Float>)
        {
            switch self {
            case .chosen:
                LinearAlgebra.multiply(
                    a, b, transposeA: product.transposeA, transposeB: product.transposeB,
                    accumulating: product.accumulating, into: c)
            case .widened: product.forEachPart { $0.byWidening(a, b, into: c) }
            }
        }
    }

    /// More than one block of rows, of columns and of terms besides.
    static let blockShapes = shapes + [.init(m: 259, n: 519, k: 531), .init(m: 5, n: 7, k: 1031)]

    @Test(
        "bfloat16: every transposition, strided, stored or accumulated, against a twin on the rounded operands",
        arguments: blockShapes, Way.allCases)
    func bfloat16(shape: Shape, way: Way) throws {
        let (m, n, k) = (shape.m, shape.n, shape.k)
        for (transposeA, transposeB) in [(false, false), (true, false), (false, true), (true, true)] {
            for accumulating in [false, true] {
                let a = transposeA ? Padded(k, m, gap: 3, seed: 4) : Padded(m, k, gap: 3, seed: 4)
                let b = transposeB ? Padded(n, k, gap: 0, seed: 5) : Padded(k, n, gap: 1, seed: 5)
                let c = Padded(m, n, gap: 5, seed: 6)
                let before = accumulating ? c.values : [Double](repeating: 0, count: m * n)
                if !accumulating {
                    for row in 0..<m { c.view.row(row).update(repeating: .nan, count: n) }
                }
                let roundedA = Tensor<BFloat16>(uninitialized: a.storage.shape)
                let roundedB = Tensor<BFloat16>(uninitialized: [b.rows, b.columns])
                try withExtendedLifetime((a, b, c, roundedA, roundedB)) {
                    let left = roundedA.view.columns(0..<a.columns)
                    round(a.view, into: left)
                    round(b.view, into: roundedB.view)
                    let product = try #require(
                        Product(left, roundedB.view, transposeA, transposeB, accumulating, c.view))
                    way.multiply(left, roundedB.view, product, c.view)
                }
                func rounded(_ values: [Double]) -> [Double] { values.map { Double(BFloat16(Float($0)).float) } }
                let naive = naiveProduct(
                    rounded(a.values), rounded(b.values), m: m, n: n, k: k, transposeA: transposeA,
                    transposeB: transposeB)
                // k products, exact in single precision, k additions, and the one to what was there.
                let bounds = (0..<m * n).map { Double(k + 1) * u * 1.01 * (naive.magnitudes[$0] + abs(before[$0])) }
                expectClose(
                    c.values, zip(before, naive.product).map { $0 + $1 }, within: bounds,
                    "\(transposeA), \(transposeB), \(accumulating)")
                #expect(c.gapsAreUntouched)
            }
        }
    }

    @Test(
        "bfloat16: where no sum is rounded, the processor's own product and the one of widened operands are the same bits"
    )
    func sameBits() throws {
        let (m, n, k) = (259, 517, 1031)
        var generator = SeededGenerator(seed: 11)
        // Products of numbers of four bits: sums of 1031 of them are whole and below 2²⁴.
        func whole(_ rows: Int, _ columns: Int) -> Tensor<BFloat16> {
            Tensor(
                shape: [rows, columns],
                (0..<rows * columns).map { _ in BFloat16(Float(Int.random(in: -15...15, using: &generator))) })
        }
        let (a, b) = (whole(m, k), whole(n, k))
        let results = try Way.allCases.map { way in
            let c = Matrix(shape: [m, n])
            try withExtendedLifetime((a, b)) {
                let product = try #require(Product(a.view, b.view, false, true, false, c.view))
                way.multiply(a.view, b.view, product, c.view)
            }
            return c.elements.map(\.bitPattern)
        }
        let differing = zip(results[0], results[1]).enumerated().first { $1.0 != $1.1 }
        #expect(differing == nil)
        #expect(Set(results[0]).count > 100)
    }

    @Test("Single precision by OpenBLAS, for what oneDNN refuses", arguments: shapes, [false, true])
    func openBLAS(shape: Shape, accumulating: Bool) throws {
        let (m, n, k) = (shape.m, shape.n, shape.k)
        for (transposeA, transposeB) in [(false, false), (true, false), (false, true), (true, true)] {
            let a = transposeA ? Padded(k, m, gap: 3, seed: 1) : Padded(m, k, gap: 3, seed: 1)
            let b = transposeB ? Padded(n, k, gap: 1, seed: 2) : Padded(k, n, gap: 1, seed: 2)
            let c = Padded(m, n, gap: 5, seed: 3)
            let before = accumulating ? c.values : [Double](repeating: 0, count: m * n)
            let naive = naiveProduct(
                a.values, b.values, m: m, n: n, k: k, transposeA: transposeA, transposeB: transposeB)
            try withExtendedLifetime((a, b, c)) {
                let product = try #require(Product(a.view, b.view, transposeA, transposeB, accumulating, c.view))
                product.byOpenBLAS(a.view, b.view, c.view)
            }
            let bounds = (0..<m * n).map { Double(k + 1) * u * 1.01 * (naive.magnitudes[$0] + abs(before[$0])) }
            expectClose(
                c.values, zip(before, naive.product).map { $0 + $1 }, within: bounds, "\(transposeA), \(transposeB)")
            #expect(c.gapsAreUntouched)
        }
    }

    @Test("A product over nothing is zero, or adds nothing; empty matrices are left alone")
    func empty() {
        let c = Padded(3, 5, gap: 2, seed: 7)
        let (a, b) = (Matrix(shape: [3, 0]), Matrix(shape: [0, 5]))
        let before = c.values
        withExtendedLifetime((a, b, c)) {
            let left = MatrixView(a.pointer, rows: 3, columns: 0, stride: 0)
            let right = MatrixView(b.pointer, rows: 0, columns: 5, stride: 5)
            multiply(left, right, accumulating: true, into: c.view)
            #expect(c.values == before)
            multiply(left, right, into: c.view)
            #expect(c.values.allSatisfy { $0 == 0 })
            #expect(c.gapsAreUntouched)
            let none = MatrixView(c.storage.pointer, rows: 0, columns: 5, stride: 5)
            multiply(right, MatrixView(c.storage.pointer, rows: 5, columns: 5, stride: 5), into: none)
        }
    }

    @Test("Inside a parallel region a product is what it is outside")
    func nested() {
        let (a, b) = (Padded(67, 41, gap: 0, seed: 8), Padded(41, 29, gap: 0, seed: 9))
        let results = (0..<5).map { _ in Matrix(shape: [67, 29]) }
        let naive = naiveProduct(a.values, b.values, m: 67, n: 29, k: 41, transposeA: false, transposeB: false)
        withExtendedLifetime((a, b)) {
            ThreadPool.forEach(5) { multiply(a.view, b.view, into: results[$0].view) }
        }
        for result in results {
            expectClose(result.buffer.map(Double.init), naive.product, within: naive.magnitudes.map { 42 * u * $0 })
        }
    }

    @Test("Shapes that do not fit are our bug")
    func mismatch() async {
        await #expect(processExitsWith: .failure) {
            let (a, b, c) = (Matrix(shape: [2, 3]), Matrix(shape: [2, 3]), Matrix(shape: [2, 3]))
            multiply(a.view, b.view, into: c.view)
        }
    }
}
