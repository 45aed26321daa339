import CKernels
import TestSupport
import Tensors
import Testing

/// Half a unit in the last place of 1 in single precision.
private let u = 0x1p-24

private func normals(_ count: Int, deviation: Double = 1, seed: UInt64) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in Float(generator.normal() * deviation) }
}

/// One AdamW step of one element in double precision, and what single precision may be off by.
struct NaiveAdamWStep {
    let (w, m, v): (Double, Double, Double)
    let (weightBound, firstBound, secondBound): (Double, Double, Double)

    init(w: Double, m: Double, v: Double, g: Double, _ factors: Factors) {
        let g = g * factors.scale
        let (kept, added) = (factors.beta1 * m, (1 - factors.beta1) * g)
        self.m = kept + added
        self.v = factors.beta2 * v + (1 - factors.beta2) * g * g
        let correctedFirst = self.m / (1 - factors.power(factors.beta1))
        let correctedSecond = self.v / (1 - factors.power(factors.beta2))
        let root = correctedSecond.squareRoot() + factors.epsilon
        let (change, decayed) = (factors.rate * correctedFirst / root, factors.rate * factors.decay * w)
        // As PyTorch writes it: the decay first, then the step.
        self.w = w * (1 - factors.rate * factors.decay) - change
        // Each constant is rounded, and each operation: g′ twice, then constant, product and sum.
        firstBound = 5.01 * u * (abs(kept) + abs(added))
        secondBound = 9.01 * u * self.v
        // The root: half of v's error, itself, then constant, product, ε and sum; then quotient, constant and product.
        let carried = factors.rate / (1 - factors.power(factors.beta1)) / root * firstBound
        weightBound = 1.01 * (u * abs(self.w) + 3 * u * abs(decayed) + 13 * u * abs(change) + carried)
    }

    struct Factors {
        var rate = 1e-2
        var beta1 = 0.9
        var beta2 = 0.999
        var epsilon = 1e-8
        var decay = 0.01
        var scale = 1.0
        /// t, from 1.
        var step = 1

        func power(_ beta: Double) -> Double { (0..<step).reduce(1) { product, _ in product * beta } }

        var kernel: ck_adamw_factors {
            ck_adamw_factors(
                gradient_scale: Float(scale), beta1: Float(beta1), rest1: Float(1 - beta1), beta2: Float(beta2),
                rest2: Float(1 - beta2), rate: Float(rate / (1 - power(beta1))),
                root_scale: Float(1 / (1 - power(beta2)).squareRoot()), epsilon: Float(epsilon),
                decay: Float(rate * decay))
        }
    }
}

@Suite("Loops of the optimiser", .everyInstructionSet)
struct AdamWKernelTests {
    /// Nothing, 1, around the width of vectors, around the pieces that are rounded at a time, and a long prime.
    static let sizes = [0, 1, 7, 31, 33, 2047, 2049, 1_000_003]

    @Test("One step is that of the definition, and the rounded copy that of the new weights", arguments: sizes)
    func step(size: Int) {
        let factors = NaiveAdamWStep.Factors(decay: 0.7, scale: 0.31, step: 3)
        let (before, g) = (normals(size, seed: 1), normals(size, deviation: 0.2, seed: 2))
        let firstBefore = normals(size, deviation: 0.1, seed: 3)
        let secondBefore = normals(size, deviation: 0.1, seed: 4).map { $0 * $0 }
        var (w, m, v) = (before, firstBefore, secondBefore)
        var rounded = [UInt16](repeating: 0x7FC0, count: size + 1)
        var kernel = factors.kernel
        ck_adamw(&w, &m, &v, g, &rounded, size, &kernel)
        let expected = (0..<size).map {
            NaiveAdamWStep(
                w: Double(before[$0]), m: Double(firstBefore[$0]), v: Double(secondBefore[$0]), g: Double(g[$0]),
                factors)
        }
        expectClose(m.map(Double.init), expected.map(\.m), within: expected.map(\.firstBound), "m")
        expectClose(v.map(Double.init), expected.map(\.v), within: expected.map(\.secondBound), "v")
        expectClose(w.map(Double.init), expected.map(\.w), within: expected.map(\.weightBound), "w")
        expectEqual(rounded, w.map { BFloat16($0).bitPattern } + [0x7FC0])

        // Without the copy, and cut elsewhere, it is the same to the bit.
        var (w2, m2, v2) = (before, firstBefore, secondBefore)
        let cut = size / 3
        for (start, count) in [(0, cut), (cut, size - cut)] {
            w2.withUnsafeMutableBufferPointer { w in
                m2.withUnsafeMutableBufferPointer { m in
                    v2.withUnsafeMutableBufferPointer { v in
                        g.withUnsafeBufferPointer { g in
                            guard let w = w.baseAddress, let m = m.baseAddress, let v = v.baseAddress,
                                let g = g.baseAddress
                            else { return }
                            ck_adamw(w + start, m + start, v + start, g + start, nil, count, &kernel)
                        }
                    }
                }
            }
        }
        expectEqual(w2, w, "w")
        expectEqual(m2, m, "m")
        expectEqual(v2, v, "v")
    }

    @Test("A gradient that is not a number spoils its own element and no other")
    func notANumber() {
        var kernel = NaiveAdamWStep.Factors().kernel
        for bad in [Float.nan, .infinity] {
            var g = normals(37, seed: 5)
            g[20] = bad
            var (w, m, v) = (normals(37, seed: 6), [Float](repeating: 0, count: 37), [Float](repeating: 0, count: 37))
            ck_adamw(&w, &m, &v, g, nil, 37, &kernel)
            #expect(w[20].isNaN && !m[20].isFinite && !v[20].isFinite)
            for array in [w, m, v] { #expect(array.indices.allSatisfy { $0 == 20 || array[$0].isFinite }) }
        }
    }

    @Test("Moments without gradients fade to zero and are never subnormal")
    func fading() {
        var kernel = NaiveAdamWStep.Factors(decay: 0).kernel
        var (w, m) = ([Float](repeating: 1, count: 19), [Float](repeating: -0x1p-120, count: 19))
        var v = [Float](repeating: 0x1p-125, count: 19)
        let g = [Float](repeating: 0, count: 19)
        for _ in 0..<800 {
            ck_adamw(&w, &m, &v, g, nil, 19, &kernel)
            #expect((m + v).allSatisfy { !$0.isSubnormal })
        }
        #expect(m.allSatisfy { $0 == 0 } && v.allSatisfy { $0 == 0 } && w.allSatisfy { $0 == 1 })
    }

    @Test("Sum of squares", arguments: sizes)
    func sumOfSquares(size: Int) {
        let x = normals(size, deviation: 1e3, seed: 7)
        let expected = x.reduce(0) { $0 + Double($1) * Double($1) }
        // Squares are exact; both sums add size numbers, one after the other at worst.
        expectClose([ck_sum_of_squares(x, size)], [expected], within: 2 * Double(size) * 0x1p-53 * expected)
    }

    @Test("A sum of squares does not overflow, and shows the one element that is not finite", arguments: [1, 33, 70])
    func sumOfSquaresAtExtremes(size: Int) {
        let largest = Float.greatestFiniteMagnitude
        let huge = [Float](repeating: -largest, count: size)
        let total = Double(size) * Double(largest) * Double(largest)
        // As many additions as elements, each rounded by half a unit in the last place of at most the total.
        expectClose([ck_sum_of_squares(huge, size)], [total], within: Double(size) * 0x1p-53 * total)
        for place in 0..<size {
            var x = normals(size, seed: 8)
            x[place] = .nan
            #expect(ck_sum_of_squares(x, size).isNaN)
            x[place] = -.infinity
            #expect(ck_sum_of_squares(x, size) == .infinity)
        }
    }
}
