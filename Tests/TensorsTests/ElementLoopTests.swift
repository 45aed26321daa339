import CKernels
import Foundation
import TestSupport
import Testing

@testable import Tensors

/// What the kernels' exponential may be wrong by, relatively: 1.5 units in the last place and the rounding of its use.
private let exponentialError = 4 * u
/// e^x is 0 below −87.3, and infinite above 88.37: what is lost is at most this.
private let flushed = 1.3e-38

@Suite("Loops over elements", .everyInstructionSet)
struct ElementLoopTests {
    /// 1, just below, at and just above the widths of vectors and of the lanes of sums, and a long prime.
    static let sizes = [1, 2, 7, 15, 16, 17, 31, 32, 33, 67, 1009]

    @Test("silu", arguments: sizes, [0.1, 3, 40])
    func silu(size: Int, deviation: Double) {
        var x = normals(size, deviation: deviation, seed: 1)
        let expected = doubles(x).map { $0 / (1 + exp(-$0)) }
        inPlace(&x) { ck_silu($0, $0, size) }
        expectClose(doubles(x), expected, within: expected.map { (exponentialError + 2 * u) * abs($0) + 90 * flushed })
    }

    @Test("silu at zero, at the ends of the exponential's range and beyond")
    func siluAtExtremes() {
        var x: [Float] = [0, -0.0, 87.2, 87.4, 88.3, 88.5, 89, 1e30, -87.2, -87.4, -88.3, -88.5, -89, -1e30]
        let expected = doubles(x).map { $0 < -745 ? 0 : $0 / (1 + exp(-$0)) }
        inPlace(&x) { [count = x.count] in ck_silu($0, $0, count) }
        expectClose(
            doubles(x), expected, within: expected.map { (exponentialError + 2 * u) * abs($0) + 90 * 5 * flushed })
        #expect(x[0] == 0 && x[7] == 1e30 && x[13] == 0)
    }

    @Test("silu(gate) · up", arguments: sizes)
    func siluMultiply(size: Int) {
        var gate = normals(size, deviation: 5, seed: 2)
        let up = normals(size, deviation: 3, seed: 3)
        let expected = zip(doubles(gate), doubles(up)).map { $0 / (1 + exp(-$0)) * $1 }
        inPlace(&gate) { ck_silu_multiply($0, up, $0, size) }
        expectClose(doubles(gate), expected, within: expected.map { (exponentialError + 3 * u) * abs($0) })
    }

    @Test("product, sum and multiple are rounded once", arguments: sizes)
    func arithmetic(size: Int) {
        let x = normals(size, seed: 4)
        let y = normals(size, deviation: 1e3, seed: 5)
        var product = x
        inPlace(&product) { ck_multiply($0, y, $0, size) }
        expectEqual(product, zip(x, y).map { $0 * $1 })
        var sum = x
        inPlace(&sum) { ck_sum($0, y, $0, size) }
        expectEqual(sum, zip(x, y).map { $0 + $1 })
        var multiple = x
        ck_scale(&multiple, -1.7, size)
        expectEqual(multiple, x.map { $0 * -1.7 })
    }

    @Test("RMSNorm, also in place, with and without an offset", arguments: sizes, [1e-4, 1, 1e4])
    func rmsNorm(size: Int, deviation: Double) {
        let x = normals(size, deviation: deviation, seed: 6)
        let weight = normals(size, seed: 7)
        let epsilon: Float = 1e-5
        let mean = doubles(x).reduce(0) { $0 + $1 * $1 } / Double(size)
        for offset: Float in [0, 1] {
            let expected = zip(x, weight).map {
                Double($0) / (mean + Double(epsilon)).squareRoot() * Double(offset + $1)
            }
            // Each of 32 lanes adds size / 32 rounded squares; the root halves that error; then three roundings.
            let error = (Double(size / 32 + 2) / 2 + 4) * u
            let bounds = expected.map { error * abs($0) }
            var out = [Float](repeating: .nan, count: size)
            ck_rms_norm(x, weight, offset, &out, size, epsilon)
            expectClose(doubles(out), expected, within: bounds)
            var copy = x
            inPlace(&copy) { ck_rms_norm($0, weight, offset, $0, size, epsilon) }
            expectEqual(copy, out)
        }
    }

    @Test("RMSNorm of zeros is zeros, not NaN")
    func rmsNormOfZeros() {
        let zeros = [Float](repeating: 0, count: 35)
        var out = [Float](repeating: .nan, count: 35)
        ck_rms_norm(zeros, normals(35, seed: 8), 0, &out, 35, 1e-6)
        #expect(out.allSatisfy { $0 == 0 })
    }

    @Test("Rotation of heads", arguments: [(1, 2), (3, 4), (5, 14), (2, 34), (7, 64)])
    func rotation(heads: Int, size: Int) {
        let row = normals(heads * size, seed: 9)
        var generator = SeededGenerator(seed: 10)
        let angles = (0..<size / 2).map { _ in generator.uniform() * 100 }
        let (cosine, sine) = (angles.map { Float(cos($0)) }, angles.map { Float(sin($0)) })
        var (expected, bounds) = ([Double](repeating: 0, count: row.count), [Double](repeating: 0, count: row.count))
        for head in 0..<heads {
            for pair in 0..<size / 2 {
                let (a, b) = (head * size + pair, head * size + pair + size / 2)
                let (x, y) = (Double(row[a]), Double(row[b]))
                let (c, s) = (Double(cosine[pair]), Double(sine[pair]))
                (expected[a], expected[b]) = (x * c - y * s, y * c + x * s)
                // Two products and their sum, each rounded.
                bounds[a] = 2.01 * u * (abs(x * c) + abs(y * s))
                bounds[b] = 2.01 * u * (abs(y * c) + abs(x * s))
            }
        }
        var rotated = row
        ck_rotate_halves(&rotated, heads, size, cosine, sine, 1)
        expectClose(doubles(rotated), expected, within: bounds)
    }
}

@Suite("Softmax and its logarithm", .everyInstructionSet)
struct SoftmaxTests {
    static let sizes = ElementLoopTests.sizes

    @Test("Numerators and their sum", arguments: sizes, [Float(0.125), 1, 30])
    func numerators(size: Int, scale: Float) {
        var row = normals(size, deviation: 4, seed: 11)
        let scaled = doubles(row).map { $0 * Double(scale) }
        let most = scaled.max()!
        let expected = scaled.map { exp($0 - most) }
        // The argument's two roundings become a relative error of the result.
        let bounds = zip(scaled, expected).map { value, e in
            (2 * u * (most - value) + exponentialError) * 1.01 * e + flushed
        }
        var largest: Float = 0
        let sum = ck_softmax_numerators(&row, size, scale, &largest)
        expectClose(doubles(row), expected, within: bounds)
        #expect(Double(largest) * Double(scale) == most)
        let total = expected.reduce(0, +)
        let additions = Double(size / 32 + size % 32 + 32)
        expectClose([Double(sum)], [total], within: bounds.reduce(0, +) + additions * u * total)
    }

    @Test("Numerators of equal, far apart and masked entries")
    func numeratorsAtExtremes() {
        var largest: Float = 0
        var equal = [Float](repeating: -3e4, count: 37)
        #expect(ck_softmax_numerators(&equal, 37, 0.7, &largest) == 37)
        #expect(equal.allSatisfy { $0 == 1 })
        var masked = [Float](repeating: -.infinity, count: 35)
        masked[34] = 2
        #expect(ck_softmax_numerators(&masked, 35, 1, &largest) == 1)
        #expect(masked == [Float](repeating: 0, count: 34) + [1])
        var far: [Float] = [1e30, -1e30, 0]
        #expect(ck_softmax_numerators(&far, 3, 0.7, &largest) == 1)
        #expect(far == [1, 0, 0])
    }

    @Test("log Σ eˣ and the largest entry", arguments: sizes, [(0.1, 0), (3, 0), (3, -1e4), (300, 1e4)])
    func logSumExp(size: Int, distribution: (deviation: Double, mean: Double)) {
        let (deviation, mean) = distribution
        let row = normals(size, deviation: deviation, seed: 12).map { $0 + Float(mean) }
        let values = doubles(row)
        let most = values.max()!
        let sum = values.reduce(0) { $0 + exp($1 - most) }
        let expected = most + log(sum)
        // What rounding x − most does, weighted as in the sum; the exponential; the additions; the result's rounding.
        let spread = values.reduce(0) { $0 + exp($1 - most) * (most - $1) } / sum
        let bound = u * spread * 1.01 + exponentialError + Double(size / 32 + 2) * u + u * abs(expected)
        var argmax = -1
        let found = ck_log_sum_exp(row, size, &argmax)
        expectClose([Double(found)], [expected], within: bound)
        #expect(argmax == row.firstIndex(of: row.max()!))
    }

    @Test("log Σ eˣ of one, of equal, of huge and of masked entries")
    func logSumExpAtExtremes() {
        var argmax = -1
        #expect(ck_log_sum_exp([-7.25], 1, &argmax) == -7.25 && argmax == 0)
        let equal = [Float](repeating: 3, count: 66)
        #expect(abs(Double(ck_log_sum_exp(equal, 66, &argmax)) - (3 + log(66.0))) <= 8 * u && argmax == 0)
        let huge: [Float] = [-3e38, 3e38, 3e38, 1]
        #expect(abs(ck_log_sum_exp(huge, 4, &argmax) - 3e38) <= 3e38 * Float(u) && argmax == 1)
        var masked = [Float](repeating: -.infinity, count: 67)
        masked[50] = -4
        #expect(ck_log_sum_exp(masked, 67, &argmax) == -4 && argmax == 50)
    }
}
