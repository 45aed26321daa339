import CKernels
import Foundation
import TestSupport
import Testing

@testable import Tensors

private func silu(_ x: Double) -> Double { x / (1 + exp(-x)) }

/// Each loop against central differences of its forward formula in double precision. A result may be wrong by a few
/// roundings of the terms it is the sum of.
@Suite("Backward loops over elements", .everyInstructionSet)
struct BackwardLoopTests {
    static let sizes = [1, 2, 7, 15, 16, 17, 31, 32, 33, 67, 1009]

    @Test("silu", arguments: sizes, [0.1, 3, 30])
    func siluBackward(size: Int, deviation: Double) {
        let x = normals(size, deviation: deviation, seed: 1)
        let dy = normals(size, seed: 2)
        var gradient = dy
        ck_silu_backward(x, &gradient, size)
        let expected = zip(doubles(x), doubles(dy)).map { x, dy in dy * derivative(at: x, silu) }
        let bounds = zip(doubles(x), doubles(dy)).map { x, dy in 16 * u * abs(dy) * (1 + abs(x)) + 1e-9 }
        expectClose(doubles(gradient), expected, within: bounds)
    }

    @Test("silu(gate) · up, and gate · up", arguments: sizes)
    func productBackward(size: Int) {
        let (gate, up, dy) = (normals(size, deviation: 3, seed: 3), normals(size, seed: 4), normals(size, seed: 5))
        for isActivated in [true, false] {
            let forward = isActivated ? silu : { $0 }
            var (dGate, dUp) = (dy, [Float](repeating: .nan, count: size))
            if isActivated {
                ck_silu_multiply_backward(gate, up, &dGate, &dUp, size)
            } else {
                ck_multiply_backward(gate, up, &dGate, &dUp, size)
            }
            for i in 0..<size {
                let (g, w, d) = (Double(gate[i]), Double(up[i]), Double(dy[i]))
                let bound = 16 * u * abs(d) * (1 + abs(g)) * (1 + abs(w)) + 1e-9
                expectClose(
                    [Double(dGate[i]), Double(dUp[i])],
                    [derivative(at: g) { d * forward($0) * w }, d * forward(g)], within: bound)
            }
        }
    }

    @Test("RMSNorm adds to what is there, with and without an offset", arguments: [1, 2, 17, 33, 67], [0.01, 1, 100])
    func rmsNorm(size: Int, deviation: Double) {
        let x = normals(size, deviation: deviation, seed: 6)
        let (dy, before) = (normals(size, seed: 8), normals(size, seed: 9))
        let epsilon: Float = 1e-5
        let values = doubles(x)
        let mean = values.reduce(0) { $0 + $1 * $1 } / Double(size) + Double(epsilon)
        // Weights that are about 1 with their offset.
        for (offset, level) in [(Float(0), Float(1)), (1, 0)] {
            let weight = normals(size, seed: 7).map { $0 + level }
            var dx = before
            let scale = ck_rms_norm_backward(x, weight, offset, dy, &dx, size, epsilon)
            expectClose([Double(scale)], [1 / mean.squareRoot()], within: 4 * u / mean.squareRoot())
            for i in 0..<size {
                // In units of the input's size, so that the step suits it.
                let expected =
                    derivative(at: 0) { step in
                        var moved = values
                        moved[i] += step * deviation
                        let mean = moved.reduce(0) { $0 + $1 * $1 } / Double(size) + Double(epsilon)
                        return moved.indices.reduce(0) { sum, j in
                            sum + Double(dy[j]) * Double(offset + weight[j]) * moved[j] / mean.squareRoot()
                        }
                    } / deviation
                let bound = (Double(size) + 8) * 8 * u * (1 / mean.squareRoot() + abs(Double(before[i])))
                expectClose([Double(dx[i])], [Double(before[i]) + expected], within: 4 * bound, "offset \(offset)")
            }
        }
    }

    @Test("Sums over rows, with gaps between the rows", arguments: [1, 5, 16, 17, 48], [1, 2, 37])
    func columnSums(columns: Int, rows: Int) {
        let stride = columns + 3
        let (x, y) = (normals(rows * stride, seed: 10), normals(rows * stride, seed: 11))
        let (scales, means) = (normals(rows, seed: 12), normals(rows, deviation: 3, seed: 21))
        let start = normals(columns, seed: 13)
        for isAccumulating in [false, true] {
            var (sums, weighted, centered) = (start, start, start)
            ck_column_sums(x, stride, rows, columns, isAccumulating, &sums)
            ck_weighted_column_sums(x, stride, y, stride, scales, rows, columns, isAccumulating, &weighted)
            ck_centered_weighted_column_sums(
                x, stride, y, stride, scales, means, rows, columns, isAccumulating, &centered)
            for column in 0..<columns {
                let base = isAccumulating ? Double(start[column]) : 0
                func expectSum(_ found: [Float], _ what: String, _ term: (_ row: Int, _ place: Int) -> Double) {
                    let terms = (0..<rows).map { term($0, $0 * stride + column) }
                    // Each term is rounded three times, and so is the sum once.
                    let bound = 4 * u * terms.reduce(abs(base)) { $0 + abs($1) }
                    expectClose([Double(found[column])], [terms.reduce(base, +)], within: bound, what)
                }
                expectSum(sums, "plain") { Double(x[$1]) }
                expectSum(weighted, "weighted") { Double(x[$1]) * Double(y[$1]) * Double(scales[$0]) }
                expectSum(centered, "centered") {
                    Double(x[$1]) * (Double(y[$1]) - Double(means[$0])) * Double(scales[$0])
                }
            }
        }
    }

    @Test("A row of softmax and its backward", arguments: sizes, [Float(0.125), 1])
    func softmax(size: Int, scale: Float) {
        let scores = normals(size, deviation: 3, seed: 14)
        var numerators = scores
        var largest: Float = 0
        let sum = ck_softmax_numerators(&numerators, size, scale, &largest)
        var probabilities = scores
        ck_softmax_row(&probabilities, size, scale, largest, 1 / sum)
        let exponentials = doubles(scores).map { exp(Double(scale) * ($0 - Double(largest))) }
        let total = exponentials.reduce(0, +)
        let expected = exponentials.map { $0 / total }
        expectClose(doubles(probabilities), expected, within: expected.map { 64 * u * $0 + 1e-37 })

        let dp = normals(size, seed: 15)
        let mean = zip(expected, doubles(dp)).reduce(0) { $0 + $1.0 * $1.1 }
        var gradient = dp
        ck_softmax_backward(probabilities, &gradient, size, Float(mean), scale)
        let wanted = zip(expected, doubles(dp)).map { $0 * ($1 - mean) * Double(scale) }
        expectClose(
            doubles(gradient), wanted,
            within: zip(expected, doubles(dp)).map { 80 * u * $0 * (abs($1) + abs(mean)) + 1e-37 })
    }

    @Test("Inner product", arguments: sizes)
    func dot(size: Int) {
        let (x, y) = (normals(size, seed: 16), normals(size, seed: 17))
        let products = zip(doubles(x), doubles(y)).map { $0 * $1 }
        let bound = Double(size / 32 + 40) * u * products.reduce(0) { $0 + abs($1) }
        expectClose([Double(ck_dot(x, y, size))], [products.reduce(0, +)], within: bound)
    }

    @Test("Cross-entropy and its gradient", arguments: [2, 17, 33, 1009], [0.1, 5])
    func crossEntropy(size: Int, deviation: Double) {
        let logits = normals(size, deviation: deviation, seed: 18)
        let target = size / 3
        var gradient = logits
        let found = ck_cross_entropy(&gradient, size, target, 0.25)
        func loss(_ values: [Double]) -> Double {
            let most = values.max()!
            return most + log(values.reduce(0) { $0 + exp($1 - most) }) - values[target]
        }
        let values = doubles(logits)
        expectClose([found], [loss(values)], within: 64 * u * (1 + loss(values)))
        for i in stride(from: 0, to: size, by: max(1, size / 16)) {
            let expected = derivative(at: values[i]) { moved in
                var values = values
                values[i] = moved
                return 0.25 * loss(values)
            }
            expectClose([Double(gradient[i])], [expected], within: 64 * u * 0.25 + 1e-10)
        }
        #expect(abs(doubles(gradient).reduce(0, +)) <= Double(size) * u)
    }

    /// Terms so small that beside a sum near 1 each of them would vanish, and so many that together they count.
    @Test("A vocabulary of many improbable tokens beside a probable one counts whole")
    func largeVocabulary() {
        let (size, place) = (262_147, 200_000)
        var logits = [Float](repeating: 0, count: size)
        logits[place] = 18
        let expected = log(exp(18) + Double(size - 1))
        // 128 additions in single precision, then in double; the exponential; the result's rounding.
        let bound = (128 + 4 + 18) * u
        var argmax = -1
        expectClose([Double(ck_log_sum_exp(logits, size, &argmax))], [expected], within: bound)
        #expect(argmax == place)
        var (row, teacher) = (logits, logits)
        expectClose([ck_cross_entropy(&row, size, place, 1)], [expected - 18], within: bound)
        row = logits
        let found = ck_distillation(&row, &teacher, size, place, 0.5, 1)
        // A student like its teacher: half the cross-entropy, and no divergence.
        expectClose([found], [0.5 * (expected - 18)], within: bound)
    }

    @Test("Rotation back undoes rotation")
    func rotation() {
        let (heads, size) = (3, 10)
        let row = normals(heads * size, seed: 19)
        let angles = normals(size / 2, deviation: 2, seed: 20)
        let (cosine, sine) = (angles.map { cos($0) }, angles.map { sin($0) })
        var turned = row
        ck_rotate_halves(&turned, heads, size, cosine, sine, 1)
        #expect(!isClose(doubles(turned), doubles(row), within: row.map { _ in 0.01 }))
        ck_rotate_halves(&turned, heads, size, cosine, sine, -1)
        expectClose(doubles(turned), doubles(row), within: row.map { 8 * u * (1 + 4 * Double(abs($0))) + 8 * u })
    }
}
