import LinearAlgebra
import TestSupport
import Testing

@testable import Spectra
@testable import Tensors

@Suite("Sums over tokens")
struct MomentsTests {
    /// One feature, just below, at and above the width of a panel, several panels.
    static let features = [1, 5, 23, 24, 25, 49, 73]
    /// One token, one slab of 512 and one more than two.
    static let tokens = [1, 3, 130, 512, 1027]

    private func gram(_ moments: Moments) -> [Double] {
        let gram = moments.gram()
        return withExtendedLifetime(gram) { Array(gram.buffer) }
    }

    @Test("Second moments and sums are those of plain loops, also of a part of wider rows", arguments: features, tokens)
    func naive(features: Int, tokens: Int) {
        let matrix = Sample.normal(tokens, features + 3, seed: 1)
        let moments = Moments(features: features)
        withExtendedLifetime(matrix) { moments.add(matrix.view.columns(2..<features + 2), scratch: Moments.Scratch()) }
        let rows = Sample.rows(matrix).map { Array($0[2..<features + 2]) }
        var expected = [Double](repeating: 0, count: features * features)
        var magnitudes = expected
        for row in rows {
            for i in 0..<features {
                for j in 0..<features {
                    expected[i * features + j] += row[i] * row[j]
                    magnitudes[i * features + j] += abs(row[i] * row[j])
                }
            }
        }
        // The products are exact; both sums round once for each token.
        let error = 2 * Double(tokens) * 0x1p-53
        expectClose(gram(moments), expected, within: magnitudes.map { error * $0 })
        let columns = Sample.transpose(rows)
        expectClose(
            moments.sum, columns.map { $0.reduce(0, +) }, within: columns.map { error * $0.reduce(0) { $0 + abs($1) } })
        #expect(moments.tokens == tokens)
    }

    @Test("Every two panels meet in one task", arguments: [1, 2, 7, 8, 9, 24, 64, 67], [1, 2, 64])
    func tasks(panels: Int, threads: Int) {
        var meetings = [Int](repeating: 0, count: panels * panels)
        for task in Moments.tasks(panels: panels, threads: threads) {
            for right in task.rights {
                for left in task.lefts where left <= right { meetings[left * panels + right] += 1 }
            }
        }
        let wrong = meetings.indices.first { meetings[$0] != ($0 / panels <= $0 % panels ? 1 : 0) }
        #expect(wrong == nil, "\(wrong! / panels) and \(wrong! % panels): \(meetings[wrong!]) times")
    }

    @Test("More panels than a group of them holds", arguments: [211, 500])
    func groups(features: Int) {
        let tokens = 5
        let matrix = Sample.normal(tokens, features, seed: 5)
        let moments = Moments(features: features)
        withExtendedLifetime(matrix) { moments.add(matrix.view, scratch: Moments.Scratch()) }
        // Products are exact, so a sum in the same order has the same bits.
        let expected = (0..<features * features).map { index in
            (0..<tokens).reduce(0.0) {
                $0 + Double(matrix[$1, index / features]) * Double(matrix[$1, index % features])
            }
        }
        let found = gram(moments)
        let wrong = found.indices.first { found[$0] != expected[$0] }
        #expect(wrong == nil, "[\(wrong!)]: found \(found[wrong!]), expected \(expected[wrong!])")
    }

    @Test("It does not matter how tokens are cut into batches, and repeating gives the same bits")
    func partition() {
        let matrix = Sample.normal(700, 31, seed: 2)
        func sums(_ cuts: [Int]) -> Moments {
            let (moments, scratch) = (Moments(features: 31), Moments.Scratch())
            for (start, end) in zip([0] + cuts, cuts + [700]) {
                withExtendedLifetime(matrix) { moments.add(matrix.view.rows(start..<end), scratch: scratch) }
            }
            return moments
        }
        let whole = sums([])
        expectEqual(gram(sums([])), gram(whole))
        for cuts in [[1], [350], [128, 256, 640], [3, 3, 699]] {
            let parts = sums(cuts)
            // Twice the error of a sum of 700 squares with mean 1.
            expectClose(gram(parts), gram(whole), within: 4 * 700 * 700 * 0x1p-53)
            expectClose(parts.sum, whole.sum, within: 4 * 700 * 30 * 0x1p-53)
            #expect(parts.tokens == 700)
        }
    }

    /// Activations like those of trained models: one token 10⁴ times larger than the others.
    private static func withOutlier() -> Matrix {
        let matrix = Sample.normal(301, 37, seed: 3)
        for column in 0..<37 { matrix[150, column] *= 1e4 }
        return matrix
    }

    @Test("A token 10⁴ times larger than the others spoils no singular value")
    func outlier() throws {
        let matrix = Self.withOutlier()
        let expected = try Sample.singularValues(Sample.rows(matrix))
        let (moments, triangle) = (Moments(features: 37), TriangularAccumulator(features: 37))
        try withExtendedLifetime(matrix) {
            moments.add(matrix.view, scratch: Moments.Scratch())
            try triangle.add(matrix.view)
        }
        let found = try SpectrumAnalysis.singularValues(of: moments, [], isCentered: false)
        expectClose(found, expected, within: 1e-6 * expected[0])
        let reference = try SpectrumAnalysis.singularValues(of: triangle, [], isCentered: false)
        expectClose(reference, expected, within: 1e-12 * expected[0])
    }

    @Test("Sums in single precision would fail that test")
    func singlePrecisionFails() throws {
        let matrix = Self.withOutlier()
        let rows = Sample.rows(matrix)
        let expected = try Sample.singularValues(rows)
        let gram = DoubleMatrix(shape: [37, 37])
        for i in 0..<37 {
            for j in 0..<37 {
                gram[i, j] = Double(rows.reduce(Float(0)) { $0 + Float($1[i]) * Float($1[j]) })
            }
        }
        let found = try Factorization.eigenvalues(ofSymmetric: gram).map { max(0, $0).squareRoot() }
        let worst = try #require(worstDeviation(found, expected, within: expected.map { _ in 1e-6 * expected[0] }))
        #expect(worst.ratio > 10)
    }
}

@Suite("Sums of products in single precision")
struct TiledMomentsTests {
    /// Below, at and above the edge of a tile; one slab of 1024 rows and more than one.
    @Test(
        "Columns of a wider matrix give the bits of a matrix of their own", arguments: [1, 191, 193, 400], [37, 1030])
    func stridedColumns(features: Int, rows: Int) {
        let wide = Sample.normal(rows, features + 11, seed: 8)
        let own = Matrix(uninitialized: [rows, features])
        for row in 0..<rows { for column in 0..<features { own[row, column] = wide[row, 5 + column] } }
        let (found, expected) = (TiledMoments(features: features), TiledMoments(features: features))
        withExtendedLifetime((wide, own)) {
            found.add(wide.view.columns(5..<features + 5), scratch: .init())
            expected.add(own.view, scratch: .init())
        }
        #expect(found.rows == rows)
        expectEqual(found.gram().elements, expected.gram().elements)
    }
}

@Suite("Triangular factor of all tokens")
struct TriangularAccumulatorTests {
    /// Tokens and features: more features than tokens, one feature, beyond one slab of 256 and beyond several.
    @Test(
        "Singular values as by a direct decomposition and as by moments",
        arguments: [(1, 1), (400, 1), (7, 29), (29, 29), (257, 25), (1030, 49), (300, 263)])
    func direct(tokens: Int, features: Int) throws {
        let matrix = Sample.normal(tokens, features, seed: 4)
        let expected = try Sample.singularValues(Sample.rows(matrix))
        let (triangle, moments) = (TriangularAccumulator(features: features), Moments(features: features))
        try withExtendedLifetime(matrix) {
            for (start, end) in [(0, tokens / 3), (tokens / 3, tokens)] {
                try triangle.add(matrix.view.rows(start..<end))
                moments.add(matrix.view.rows(start..<end), scratch: Moments.Scratch())
            }
        }
        #expect(triangle.tokens == tokens && moments.tokens == tokens)
        let rest = [Double](repeating: 0, count: features - expected.count)
        let found = try SpectrumAnalysis.singularValues(of: triangle, [], isCentered: false)
        expectClose(found, expected + rest, within: 1e-12 * expected[0])
        let squares = try SpectrumAnalysis.singularValues(of: moments, [], isCentered: false).map { $0 * $0 }
        expectClose(squares, (expected + rest).map { $0 * $0 }, within: 1e-12 * expected[0] * expected[0])
    }

    @Test("Columns of a wider matrix give the bits of a matrix of their own")
    func stridedColumns() throws {
        let wide = Sample.normal(300, 20, seed: 7)
        let own = Matrix(uninitialized: [300, 9])
        for row in 0..<300 { for column in 0..<9 { own[row, column] = wide[row, 4 + column] } }
        let (found, expected) = (TriangularAccumulator(features: 9), TriangularAccumulator(features: 9))
        try withExtendedLifetime((wide, own)) {
            try found.add(wide.view.columns(4..<13))
            try expected.add(own.view)
        }
        try expectEqual(found.factor().elements, expected.factor().elements)
    }

    @Test("RᵀR holds second moments, sums and the number of tokens, also when asked in between")
    func factor() throws {
        let matrix = Sample.normal(300, 5, seed: 5)
        let triangle = TriangularAccumulator(features: 5)
        try withExtendedLifetime(matrix) {
            try triangle.add(matrix.view.rows(0..<11))
            _ = try triangle.factor()
            try triangle.add(matrix.view.rows(11..<300))
        }
        let factor = try triangle.factor()
        let r = (0..<6).map { row in (0..<6).map { factor[row, $0] } }
        let found = Sample.product(Sample.transpose(r), r).flatMap { $0 }
        let bordered = Sample.rows(matrix).map { $0 + [1] }
        let expected = Sample.product(Sample.transpose(bordered), bordered).flatMap { $0 }
        expectClose(found, expected, within: 1e-12 * expected.max()!)
    }

    @Test("A mean far larger than the deviations is removed without a trace")
    func centered() throws {
        let matrix = Sample.normal(120, 9, seed: 6)
        for row in 0..<120 {
            for column in 0..<9 { matrix[row, column] += Float(100 + column) }
        }
        let expected = try Sample.singularValues(Sample.centered(Sample.rows(matrix)))
        let (moments, triangle) = (Moments(features: 9), TriangularAccumulator(features: 9))
        try withExtendedLifetime(matrix) {
            moments.add(matrix.view, scratch: Moments.Scratch())
            try triangle.add(matrix.view)
        }
        // Relative to what the sums hold, the uncentred matrix, whose norm is about 100·√(120·9).
        let norm = 100 * 1080.0.squareRoot()
        let found = try SpectrumAnalysis.singularValues(of: triangle, [], isCentered: true)
        expectClose(Array(found.prefix(9)), expected, within: 1e-12 * norm)
        let squares = try SpectrumAnalysis.singularValues(of: moments, [], isCentered: true).map { $0 * $0 }
        expectClose(Array(squares.prefix(9)), expected.map { $0 * $0 }, within: 1e-12 * norm * norm)
    }
}
