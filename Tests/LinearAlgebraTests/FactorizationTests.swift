import TestSupport
import Testing

@testable import LinearAlgebra
@testable import Tensors

private let epsilon = Double.ulpOfOne

/// Matrices and plain loops over them, all in double precision.
private enum Sample {
    static func normal(_ rows: Int, _ columns: Int, seed: UInt64) -> DoubleMatrix {
        var generator = SeededGenerator(seed: seed)
        return DoubleMatrix(shape: [rows, columns], (0..<rows * columns).map { _ in generator.normal() })
    }

    static func copy(_ matrix: DoubleMatrix) -> DoubleMatrix { DoubleMatrix(shape: matrix.shape, Array(matrix.buffer)) }

    /// A·B by three loops.
    static func product(_ a: DoubleMatrix, _ b: DoubleMatrix) -> DoubleMatrix {
        let result = DoubleMatrix(shape: [a.rows, b.columns])
        for i in 0..<a.rows {
            for j in 0..<b.columns { result[i, j] = (0..<a.columns).reduce(0) { $0 + a[i, $1] * b[$1, j] } }
        }
        return result
    }

    static func transpose(_ a: DoubleMatrix) -> DoubleMatrix {
        let result = DoubleMatrix(shape: [a.columns, a.rows])
        for i in 0..<a.rows {
            for j in 0..<a.columns { result[j, i] = a[i, j] }
        }
        return result
    }

    static func magnitudes(_ a: DoubleMatrix) -> DoubleMatrix { DoubleMatrix(shape: a.shape, a.buffer.map { abs($0) }) }

    /// An orthogonal matrix: one reflection x ↦ x − 2·v·(v·x) after another.
    static func orthogonal(_ n: Int, seed: UInt64) -> DoubleMatrix {
        let result = DoubleMatrix(shape: [n, n])
        for i in 0..<n { result[i, i] = 1 }
        let vectors = normal(3, n, seed: seed)
        for k in 0..<3 {
            let square = (0..<n).reduce(0) { $0 + vectors[k, $1] * vectors[k, $1] }
            for i in 0..<n {
                let dot = (0..<n).reduce(0) { $0 + result[i, $1] * vectors[k, $1] }
                for j in 0..<n { result[i, j] -= 2 * dot / square * vectors[k, j] }
            }
        }
        return result
    }

    static func diagonal(_ values: [Double]) -> DoubleMatrix {
        let result = DoubleMatrix(shape: [values.count, values.count])
        for (i, value) in values.enumerated() { result[i, i] = value }
        return result
    }

    /// Q·diag(values)·Qᵀ.
    static func symmetric(_ values: [Double], seed: UInt64) -> DoubleMatrix {
        let q = orthogonal(values.count, seed: seed)
        return product(product(q, diagonal(values)), transpose(q))
    }
}

/// What a backward stable method may be wrong by: a multiple of the size times ε times the norm.
private func stable(_ n: Int, norm: Double) -> Double { 8 * Double(n) * epsilon * norm }

@Suite("Eigenvalues of symmetric matrices")
struct EigenvalueTests {
    @Test("Of a diagonal, sorted")
    func diagonal() throws {
        let values = try Factorization.eigenvalues(ofSymmetric: Sample.diagonal([3, -7, 0, 11, 1e-9]))
        expectClose(values, [11, 3, 1e-9, 0, -7], within: stable(5, norm: 11))
    }

    @Test("Of a known spectrum: definite, indefinite, repeated, rank-deficient", arguments: [1, 2, 7, 24, 61])
    func known(n: Int) throws {
        let definite = (0..<n).map { 1 / Double(1 + $0 * $0) }
        let indefinite = (0..<n).map { Double(n) / 2 - Double($0) * 1.25 }
        let repeated = (0..<n).map { $0 < n / 2 ? 5.0 : 2 }
        let deficient = (0..<n).map { $0 < (n + 2) / 3 ? Double(n - $0) : 0 }
        for (index, expected) in [definite, indefinite, repeated, deficient].enumerated() {
            let matrix = Sample.symmetric(expected, seed: UInt64(10 + index))
            let norm = expected.map { abs($0) }.max()!
            let values = try Factorization.eigenvalues(ofSymmetric: matrix)
            expectClose(values, expected.sorted(by: >), within: stable(n, norm: norm), "case \(index)")
        }
    }

    @Test("Reads the upper triangle only")
    func upperTriangle() throws {
        let expected = [9.0, 4, 1, -2, -3]
        let matrix = Sample.symmetric(expected, seed: 20)
        for i in 0..<5 {
            for j in 0..<i { matrix[i, j] = 1e6 }
        }
        expectClose(
            try Factorization.eigenvalues(ofSymmetric: matrix), expected, within: stable(5, norm: 9))
    }

    @Test(
        "Add up to the trace and are the squared singular values of a factor", arguments: [(5, 3), (13, 29), (67, 31)])
    func gram(rows: Int, columns: Int) throws {
        let factor = Sample.normal(rows, columns, seed: 21)
        let gram = Sample.product(Sample.transpose(factor), factor)
        let trace = (0..<columns).reduce(0) { $0 + gram[$1, $1] }
        let values = try Factorization.eigenvalues(ofSymmetric: gram)
        expectClose([values.reduce(0, +)], [trace], within: stable(columns, norm: trace))
        let squares = try Factorization.singularValues(of: Sample.copy(factor)).map { $0 * $0 }
        let padded = squares + [Double](repeating: 0, count: columns - squares.count)
        expectClose(values, padded, within: stable(columns + rows, norm: squares[0]))
    }

    @Test("Of zeros, of one number and of nothing")
    func small() throws {
        #expect(try Factorization.eigenvalues(ofSymmetric: DoubleMatrix(shape: [6, 6])).allSatisfy { $0 == 0 })
        #expect(try Factorization.eigenvalues(ofSymmetric: DoubleMatrix(shape: [6, 6])).count == 6)
        #expect(try Factorization.eigenvalues(ofSymmetric: DoubleMatrix(shape: [1, 1], [-2.5])) == [-2.5])
        #expect(try Factorization.eigenvalues(ofSymmetric: DoubleMatrix(shape: [0, 0])).isEmpty)
    }
}

@Suite("Singular values")
struct SingularValueTests {
    @Test(
        "Of a known spectrum between orthogonal factors, tall and wide", arguments: [(1, 1), (7, 7), (5, 23), (31, 12)])
    func known(rows: Int, columns: Int) throws {
        var expected = (0..<min(rows, columns)).map { 100 / Double(1 + $0 * $0) }
        if expected.count > 3 { expected[expected.count - 1] = 0 }
        let middle = DoubleMatrix(shape: [rows, columns])
        for (i, value) in expected.enumerated() { middle[i, i] = i.isMultiple(of: 2) ? value : -value }
        let left = Sample.orthogonal(rows, seed: 30)
        let matrix = Sample.product(Sample.product(left, middle), Sample.orthogonal(columns, seed: 31))
        let values = try Factorization.singularValues(of: matrix)
        expectClose(values, expected, within: stable(rows + columns, norm: 100))
    }

    @Test("Do not change under rotation and transposition, and carry the Frobenius norm")
    func invariance() throws {
        let matrix = Sample.normal(19, 11, seed: 32)
        let square = matrix.buffer.reduce(0) { $0 + $1 * $1 }
        let values = try Factorization.singularValues(of: Sample.copy(matrix))
        let rotated = Sample.product(Sample.orthogonal(19, seed: 33), matrix)
        let bound = stable(30, norm: values[0])
        expectClose(try Factorization.singularValues(of: rotated), values, within: bound)
        expectClose(try Factorization.singularValues(of: Sample.transpose(matrix)), values, within: bound)
        expectClose([values.reduce(0) { $0 + $1 * $1 }], [square], within: stable(30, norm: square))
        #expect(zip(values, values.dropFirst()).allSatisfy { $0 >= $1 } && values.count == 11)
    }

    @Test("Of a product through a narrow middle: the rest is zero")
    func rankDeficient() throws {
        let matrix = Sample.product(Sample.normal(23, 3, seed: 34), Sample.normal(3, 17, seed: 35))
        let values = try Factorization.singularValues(of: matrix)
        #expect(values[2] > 1)
        expectClose(Array(values[3...]), [Double](repeating: 0, count: 14), within: stable(40, norm: values[0]))
    }

    @Test("Of zeros and of nothing")
    func zeros() throws {
        #expect(try Factorization.singularValues(of: DoubleMatrix(shape: [4, 9])) == [0, 0, 0, 0])
        #expect(try Factorization.singularValues(of: DoubleMatrix(shape: [0, 9])).isEmpty)
        #expect(try Factorization.singularValues(of: DoubleMatrix(shape: [9, 0])).isEmpty)
    }
}

@Suite("Triangular factors, products and congruences")
struct TriangularTests {
    @Test("RᵀR is MᵀM and R is upper triangular", arguments: [(1, 1), (7, 7), (29, 13), (131, 61)], [false, true])
    func triangularFactor(shape: (rows: Int, columns: Int), isDeficient: Bool) throws {
        let (rows, columns) = shape
        let matrix =
            isDeficient
            ? Sample.product(Sample.normal(rows, 1, seed: 40), Sample.normal(1, columns, seed: 41))
            : Sample.normal(rows, columns, seed: 42)
        let gram = Sample.product(Sample.transpose(matrix), matrix)
        let r = try Factorization.triangularFactor(of: matrix)
        #expect(r.shape == [columns, columns])
        for i in 0..<columns {
            for j in 0..<i { #expect(r[i, j] == 0) }
        }
        let again = Sample.product(Sample.transpose(r), r)
        let trace = (0..<columns).reduce(0) { $0 + gram[$1, $1] }
        withExtendedLifetime((again, gram)) {
            expectClose(Array(again.buffer), Array(gram.buffer), within: stable(rows, norm: trace))
        }
    }

    @Test(
        "Double-precision products with every transposition",
        arguments: [(1, 1, 1), (5, 3, 11), (37, 17, 2), (3, 4, 0)])
    func products(m: Int, n: Int, k: Int) {
        let (a, b) = (Sample.normal(m, k, seed: 43), Sample.normal(k, n, seed: 44))
        guard k > 0 else {
            #expect(
                Factorization.multiply(DoubleMatrix(shape: [0, m]), DoubleMatrix(shape: [0, n]), transposeA: true).shape
                    == [m, n])
            return
        }
        let expected = Sample.product(a, b)
        let (left, right) = (Sample.transpose(a), Sample.transpose(b))
        let found = [
            Factorization.multiply(a, b), Factorization.multiply(left, b, transposeA: true),
            Factorization.multiply(a, right, transposeB: true),
            Factorization.multiply(left, right, transposeA: true, transposeB: true),
        ]
        // Both sums of k products are wrong by at most k half units of Σ|a||b|.
        let bounds = Sample.product(Sample.magnitudes(a), Sample.magnitudes(b)).elements.map {
            Double(k) * epsilon * $0
        }
        for matrix in found {
            #expect(matrix.shape == [m, n])
            expectClose(Array(matrix.buffer), Array(expected.buffer), within: bounds)
        }
    }

    @Test(
        "The upper triangle of W·S·Wᵀ, over several blocks of rows",
        arguments: [(1, 1), (1, 7), (7, 1), (95, 13), (96, 5), (97, 31), (211, 17)])
    func congruence(m: Int, n: Int) {
        let w = Sample.normal(m, n, seed: 45)
        let s = Sample.symmetric((0..<n).map { 3 - Double($0) }, seed: 46)
        let expected = Sample.product(Sample.product(w, s), Sample.transpose(w))
        let found = Factorization.congruence(w, s)
        let places = (0..<m).flatMap { i in (i..<m).map { (i, $0) } }
        let outer = Sample.magnitudes(w)
        let sizes = Sample.product(Sample.product(outer, Sample.magnitudes(s)), Sample.transpose(outer))
        // Two products after another, on both sides of the comparison.
        expectClose(
            places.map { found[$0.0, $0.1] }, places.map { expected[$0.0, $0.1] },
            within: places.map { 2 * Double(n) * epsilon * sizes[$0.0, $0.1] })
    }
}

@Suite("Input that is not finite")
struct UndefinedInputTests {
    private func spoiled(_ value: Double) -> DoubleMatrix {
        let matrix = Sample.normal(7, 7, seed: 50)
        matrix[2, 4] = value
        return matrix
    }

    @Test("NaN is an error that names the operation and the shape")
    func undefined() {
        #expect(throws: LinearAlgebraError.self) { try Factorization.eigenvalues(ofSymmetric: spoiled(.nan)) }
        #expect(throws: LinearAlgebraError.self) { try Factorization.singularValues(of: spoiled(.nan)) }
        #expect(throws: LinearAlgebraError.self) { try Factorization.triangularFactor(of: spoiled(.nan)) }
        do throws(LinearAlgebraError) {
            _ = try Factorization.singularValues(of: spoiled(.nan))
        } catch {
            #expect(error.description.contains("singular values of a [7, 7] matrix"))
            #expect(error.description.contains("not finite"))
        }
    }
}
