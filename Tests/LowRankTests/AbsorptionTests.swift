import CKernels
import Foundation
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import LowRank

@Suite struct AbsorptionTests {
    static func silu(_ x: Double) -> Double { x / (1 + exp(-x)) }

    /// B·σ(A·x) + b for each row, in double precision.
    static func outputs(_ factors: LayerFactors, _ x: DoubleMatrix, isActivated: Bool) -> DoubleMatrix {
        let z = Sample.product(x, Sample.transpose(factors.a))
        if isActivated { for i in 0..<z.count { z.pointer[i] = silu(z.pointer[i]) } }
        let y = Sample.product(z, Sample.transpose(factors.b))
        for row in 0..<y.rows { for column in 0..<y.columns { y[row, column] += factors.bias[column] } }
        return y
    }

    /// A linear bottleneck of some latents with the given energies, behind uncorrelated unit inputs.
    static func bottleneck(_ energies: [Double], outputs: Int) -> LayerFactors {
        let r = energies.count
        let a = DoubleMatrix(shape: [r, r])
        for i in 0..<r { a[i, i] = energies[i].squareRoot() }
        return LayerFactors(a: a, b: Sample.normal(outputs, r, seed: 40), bias: [Double](repeating: 0, count: outputs))
    }

    @Test(
        "a scaled Gaussian latent loses what the formula says",
        arguments: [
            (0.05, 0.0019, 0.0013), (0.1, 0.0074, 0.005), (0.3, 0.063, 0.043), (1.0, 0.42, 0.25),
        ])
    func scaledForm(s: Double, loss: Double, lossWithBias: Double) {
        // E over z ~ N(0, 1) of ((2/s)·silu(s·z) − z)², by a fine sum.
        var (sum, mean) = (0.0, 0.0)
        let step = 1e-3
        for i in -8000...8000 {
            let z = Double(i) * step
            let weight = exp(-z * z / 2) / (2 * .pi).squareRoot() * step
            let error = 2 / s * Self.silu(s * z) - z
            sum += weight * error * error
            mean += weight * error
        }
        #expect(abs(sum - loss) < 0.02 * loss + 5e-5, "\(sum)")
        #expect(abs(sum - mean * mean - lossWithBias) < 0.06 * lossWithBias, "\(sum - mean * mean)")
    }

    @Test("a pair is exact at any size, to the rounding of single precision")
    func pairForm() {
        let sizes: [Float] = [1e-6, 0.01, 0.3, 1, 5, 17, 100, 1e4, -1e4]
        var latents = sizes + sizes.map { -$0 }
        latents.withUnsafeMutableBufferPointer { ck_silu($0.baseAddress!, $0.baseAddress!, $0.count) }
        for (index, z) in sizes.enumerated() {
            let pair = latents[index] - latents[sizes.count + index]
            #expect(abs(pair - z) <= 4 * 0x1p-24 * abs(z), "\(z): \(pair)")
            // One latent alone is not, unless it is small.
            if abs(z) > 0.1 { #expect(abs(2 * latents[index] - z) > 0.02 * abs(z), "\(z)") }
        }
    }

    @Test("scaled latents change the outputs by what was predicted", arguments: [0.02, 0.05, 0.1])
    func predictedError(s: Double) throws {
        let energies = [9.0, 4, 2, 1, 0.5]
        let (n, r) = (4000, energies.count)
        let linear = Self.bottleneck(energies, outputs: 3)
        // B with orthonormal columns makes the energies those of the outputs.
        let b = DoubleMatrix(shape: [r, r])
        for i in 0..<r { b[i, i] = 1 }
        let factors = LayerFactors(a: linear.a, b: b, bias: [Double](repeating: 0, count: r))
        let x = Sample.normal(n, r, seed: 41)
        let powers = SampleMoments.powers(SampleMoments.map(Sample.single(x), by: factors.a))
        var settings = Absorption.Settings()
        settings.scale = s
        let absorbed = Absorption(factors, energies: energies + [1e-3], powers: powers, settings)
        #expect(absorbed.pairs == 0 && absorbed.scale == s)
        let error = Sample.difference(
            Self.outputs(factors, x, isActivated: false), Self.outputs(absorbed.factors, x, isActivated: true))
        var variance = 0.0
        for column in 0..<r {
            let values = (0..<n).map { error[$0, column] }
            let mean = values.reduce(0, +) / Double(n)
            variance += values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(n)
        }
        let share = variance / energies.reduce(0, +)
        #expect(abs(share - absorbed.predictedError) < 0.1 * share, "\(share), predicted \(absorbed.predictedError)")
    }

    @Test("a direction with huge values becomes a pair where the scale is given, paid for by the weakest one")
    func outliersBecomePairs() throws {
        let energies = [50.0, 1, 0.8, 0.6, 0.4, 0.3, 1e-5, 1e-6]
        let linear = Self.bottleneck(energies, outputs: 6)
        let x = Sample.normal(2000, energies.count, seed: 42)
        // The first latent is near zero but for a few tokens.
        for row in 0..<x.rows { x[row, 0] = row % 400 == 0 ? 20 : 0.01 * x[row, 0] }
        let powers = SampleMoments.powers(SampleMoments.map(Sample.single(x), by: linear.a))
        var settings = Absorption.Settings()
        settings.scale = 0.1
        let absorbed = Absorption(linear, energies: energies, powers: powers, settings)
        #expect(absorbed.pairs >= 1)
        #expect(absorbed.factors.rank == linear.rank)
        let without = LayerFactors(a: linear.a, b: linear.b, bias: linear.bias)
        let error = Sample.difference(
            Self.outputs(without, x, isActivated: false), Self.outputs(absorbed.factors, x, isActivated: true))
        // The tokens with the huge value are those that one scaled latent would miss by far.
        for row in stride(from: 0, to: x.rows, by: 400) {
            for column in 0..<6 { #expect(abs(error[row, column]) < 0.5) }
        }
        // Where it is not, the scale makes way for them.
        let chosen = Absorption(linear, energies: energies, powers: powers, .init())
        #expect(chosen.pairs == 0 && chosen.scale < 0.1)
        let smaller = Sample.difference(
            Self.outputs(without, x, isActivated: false), Self.outputs(chosen.factors, x, isActivated: true))
        for value in smaller.elements { #expect(abs(value) < 0.1) }
    }

    @Test("σ leaves the proportions of the factors alone: one scale for all latents of a layer")
    func proportions() {
        let energies = [4.0, 2, 1, 0.5, 0.01]
        let linear = Self.bottleneck(Array(energies.prefix(4)), outputs: 3)
        let powers = energies.prefix(4).map { (first: 0.0, second: $0, fourth: 3 * $0 * $0) }
        let absorbed = Absorption(linear, energies: energies, powers: powers, .init())
        #expect(absorbed.pairs == 0)
        let d = absorbed.scale / (3.0 * 16).squareRoot().squareRoot()
        for (found, expected) in zip(absorbed.factors.a.elements, linear.a.elements) {
            #expect(abs(found - d * expected) <= 1e-15)
        }
        for (found, expected) in zip(absorbed.factors.b.elements, linear.b.elements) {
            #expect(abs(found - 2 / d * expected) <= 1e-12)
        }
    }

    @Test("fitting B again never raises the error over the same rows", arguments: [0, 1e-3, 0.1, 10])
    func refitting(ridge: Double) throws {
        let (n, inputs, outputs) = (300, 7, 5)
        let x = Sample.activations(n, inputs, seed: 43)
        let y = Sample.product(x, Sample.normal(inputs, outputs, seed: 44))
        let start = LayerFactors(
            a: Sample.normal(3, inputs, seed: 45), b: Sample.normal(outputs, 3, seed: 46),
            bias: [Double](repeating: 0.1, count: outputs))
        let h = SampleMoments.map(Sample.single(x), by: start.a)
        for i in 0..<h.count { h.pointer[i] = Float(Self.silu(Double(h.pointer[i]))) }
        let fitted = try start.refitted(h: h, targets: Sample.single(y), ridge: ridge)
        func error(_ factors: LayerFactors) -> Double {
            Sample.difference(y, Self.outputs(factors, x, isActivated: true)).elements.reduce(0) { $0 + $1 * $1 }
        }
        #expect(error(fitted) <= error(start) * (1 + 1e-6))
        guard ridge == 0 else { return }
        // Nothing near it is better.
        for seed in 60..<66 as Range<UInt64> {
            var other = fitted
            let noise = Sample.normal(outputs, 3, seed: seed)
            other.b = DoubleMatrix(
                shape: fitted.b.shape, zip(fitted.b.elements, noise.elements).map { $0 + 1e-2 * $1 })
            #expect(error(other) >= error(fitted))
        }
    }

    @Test("a latent that is the same for all rows does no harm, however its variance is rounded", arguments: 1..<9)
    func constantLatent(seed: Int) throws {
        let (n, outputs) = (300, 5)
        let h = Sample.single(Sample.normal(n, 3, seed: UInt64(seed)))
        for row in 0..<n { h[row, 1] = 0.1 * Float(seed) }
        let b = Sample.normal(outputs, 3, seed: 47)
        let y = Sample.product(Sample.double(h), Sample.transpose(b))
        let start = LayerFactors(
            a: Sample.normal(3, 3, seed: 45), b: Sample.normal(outputs, 3, seed: 46),
            bias: [Double](repeating: 0, count: outputs))
        let fitted = try start.refitted(h: h, targets: Sample.single(y), ridge: 1e-9)
        for row in 0..<outputs {
            // What B does not say about the constant, the bias does.
            let constant = { (factors: DoubleMatrix, bias: Double) in bias + factors[row, 1] * 0.1 * Double(seed) }
            expectClose(
                [fitted.b[row, 0], fitted.b[row, 2], constant(fitted.b, fitted.bias[row])],
                [b[row, 0], b[row, 2], constant(b, 0)], within: 1e-4)
        }
    }

    @Test("s follows the tail: the more the rank leaves out, the larger it may be")
    func automaticScale() {
        let energies = [4.0, 2, 1]
        let linear = Self.bottleneck(energies, outputs: 3)
        let powers = [(first: 0.0, second: 4.0, fourth: 48.0), (0, 2, 12), (0, 1, 3)]
        let scales = [1e-6, 1e-2, 1, 1000].map {
            Absorption(linear, energies: energies + [$0], powers: powers, .init()).scale
        }
        #expect(scales == scales.sorted())
        #expect(scales[0] > 0 && scales[0] < scales[1] && scales.last == Absorption.Settings().largestScale)
    }
}
