import Foundation
import Testing

@testable import Tensors

@Suite("Seeded generator")
struct SeededGeneratorTests {
    @Test("Is SplitMix64, whose published sequence it repeats")
    func sequence() {
        var generator = SeededGenerator(seed: 1_234_567)
        let published: [UInt64] = [
            6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
            4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
        ]
        #expect(published.map { _ in generator.next() } == published)
        var zero = SeededGenerator(seed: 0)
        #expect(zero.next() == 0xE220_A839_7B1D_CDAF)
    }

    @Test("Goes on where a copy of its state goes on")
    func state() {
        var generator = SeededGenerator(seed: 5)
        _ = generator.normal()
        var copy = SeededGenerator(seed: generator.state)
        #expect(generator.normal() == copy.normal())
        #expect(generator.next() != SeededGenerator(seed: 5).state)
    }

    @Test("Uniform numbers are in [0, 1) with the moments of the uniform distribution")
    func uniform() {
        let n = 100_003
        var generator = SeededGenerator(seed: 40)
        let values = (0..<n).map { _ in generator.uniform() }
        #expect(values.allSatisfy { $0 >= 0 && $0 < 1 })
        // Four standard deviations of each mean.
        let deviation = 4 / Double(n).squareRoot()
        #expect(abs(values.reduce(0, +) / Double(n) - 0.5) < deviation * (1.0 / 12).squareRoot())
        #expect(abs(values.reduce(0) { $0 + $1 * $1 } / Double(n) - 1.0 / 3) < deviation * (4.0 / 45).squareRoot())
    }

    @Test("Normal numbers have the first four moments of the normal distribution")
    func normal() {
        let n = 100_003
        var generator = SeededGenerator(seed: 41)
        let values = (0..<n).map { _ in generator.normal() }
        let deviation = 4 / Double(n).squareRoot()
        let variances = [1.0, 2, 15, 96]
        for (power, expected) in [(1, 0.0), (2, 1), (3, 0), (4, 3)] {
            let moment = values.reduce(0) { $0 + pow($1, Double(power)) } / Double(n)
            #expect(abs(moment - expected) < deviation * variances[power - 1].squareRoot(), "moment \(power)")
        }
        // One after the other they have nothing to do with each other.
        let product = zip(values, values.dropFirst()).reduce(0) { $0 + $1.0 * $1.1 } / Double(n)
        #expect(abs(product) < deviation)
    }

    @Test("A normal matrix repeats the generator's numbers")
    func matrix() {
        var (one, other) = (SeededGenerator(seed: 42), SeededGenerator(seed: 42))
        let matrix = Matrix.normal(shape: [3, 5], deviation: 2.5, using: &one)
        #expect(Array(matrix.buffer) == (0..<15).map { _ in Float(other.normal() * 2.5) })
    }
}

@Suite("Tensors and views")
struct TensorTests {
    @Test(
        "Extents, rows and columns",
        arguments: [
            ([], 1, 1, 1), ([7], 7, 1, 7), ([3, 5], 15, 3, 5), ([2, 3, 5], 30, 6, 5), ([0, 5], 0, 0, 5),
            ([5, 0], 0, 0, 0), ([1, 1], 1, 1, 1),
        ] as [([Int], Int, Int, Int)])
    func shapes(shape: [Int], count: Int, rows: Int, columns: Int) {
        let tensor = Tensor<Double>(shape: shape)
        #expect(tensor.count == count && tensor.rows == rows && tensor.columns == columns && tensor.bytes == count * 8)
        #expect(tensor.view.rows == rows && tensor.view.columns == columns && tensor.view.stride == columns)
        #expect(tensor.buffer.count == count && tensor.buffer.allSatisfy { $0 == 0 })
        #expect(UInt(bitPattern: tensor.pointer) % 64 == 0)
    }

    @Test("Elements stand row by row")
    func order() {
        let tensor = Tensor<Int>(shape: [3, 5], Array(0..<15))
        #expect((0..<3).allSatisfy { row in (0..<5).allSatisfy { tensor[row, $0] == row * 5 + $0 } })
        tensor[2, 1] = -1
        #expect(Array(tensor.buffer) == Array(0..<11) + [-1, 12, 13, 14])
    }

    @Test("A view of rows and columns sees and changes its rectangle only")
    func views() {
        let tensor = Tensor<Int>(shape: [5, 7], Array(0..<35))
        let view = tensor.view.rows(1..<4).columns(2..<5)
        #expect(view.rows == 3 && view.columns == 3 && view.stride == 7)
        #expect((0..<3).flatMap { row in (0..<3).map { view[row, $0] } } == [9, 10, 11, 16, 17, 18, 23, 24, 25])
        #expect(view.rows(2..<3).columns(1..<3)[0, 1] == 25)
        #expect(view.row(1)[2] == 18)
        view[2, 0] = -1
        #expect(tensor[3, 2] == -1)
        #expect(view.rows(3..<3).rows == 0 && view.columns(0..<0).columns == 0)
        let changed = withExtendedLifetime(tensor) { tensor.buffer.filter { $0 < 0 } }
        #expect(changed.count == 1)
    }

    @Test("Refuses rectangles that do not fit")
    func outOfBounds() async {
        await #expect(processExitsWith: .failure) { _ = Matrix(shape: [3, 5]).view.rows(1..<4) }
        await #expect(processExitsWith: .failure) { _ = Matrix(shape: [3, 5]).view.columns(3..<6) }
        await #expect(processExitsWith: .failure) { _ = Matrix(shape: [2, 2], [1, 2, 3]) }
        await #expect(processExitsWith: .failure) { _ = Matrix(shape: [2, -2]) }
    }
}
