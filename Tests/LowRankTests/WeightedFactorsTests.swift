import Foundation
import LinearAlgebra
import Tensors
import TestSupport
import Testing

@testable import LowRank

@Suite struct WeightedFactorsTests {
    /// Wide, tall and square layers.
    static let shapes = [(7, 12), (13, 6), (9, 9), (1, 5), (5, 1)]

    static func problem(_ m: Int, _ n: Int, tokens: Int = 60) -> (w: DoubleMatrix, c: DoubleMatrix, g: DoubleMatrix) {
        (
            Sample.normal(m, n, seed: 1), Sample.secondMoment(Sample.activations(tokens, n, seed: 2)),
            Sample.secondMoment(Sample.activations(tokens, m, seed: 4))
        )
    }

    @Test("the error of every rank is the sum of the energies left out, in every weighting", arguments: shapes)
    func errorIsTail(m: Int, n: Int) throws {
        let (w, c, g) = Self.problem(m, n)
        for (input, gradient) in [(c, nil), (c, g), (nil, nil)] as [(DoubleMatrix?, DoubleMatrix?)] {
            let problem = WeightedFactors.Problem(weight: w, input: input, gradient: gradient)
            let energies = try problem.energies()
            #expect(energies.count == min(m, n))
            for rank in 1...energies.count {
                let found = try problem.factors(rank: rank)
                expectClose(found.energies, energies, within: 1e-10 * energies[0], "energies, rank \(rank)")
                let cut = Sample.product(found.b, found.a)
                let identity = DoubleMatrix(shape: [n, n])
                for i in 0..<n { identity[i, i] = 1 }
                let error = Sample.weightedError(
                    Sample.difference(w, cut), input: input ?? identity, gradient: gradient)
                let tail = energies.dropFirst(rank).reduce(0, +)
                expectClose([error], [tail], within: 1e-9 * energies[0], "rank \(rank)")
            }
        }
    }

    @Test("no other factors of the same rank have a smaller weighted error", arguments: shapes)
    func isOptimal(m: Int, n: Int) throws {
        let (w, c, g) = Self.problem(m, n)
        let rank = max(1, min(m, n) / 2)
        let found = try WeightedFactors.Problem(weight: w, input: c, gradient: g).factors(rank: rank)
        let best = Sample.weightedError(
            Sample.difference(w, Sample.product(found.b, found.a)), input: c, gradient: g)
        for seed in 10..<30 as Range<UInt64> {
            let size = seed < 20 ? 1e-3 : 0.3
            func shaken(_ matrix: DoubleMatrix, _ seed: UInt64) -> DoubleMatrix {
                let noise = Sample.normal(matrix.rows, matrix.columns, seed: seed)
                return DoubleMatrix(
                    shape: matrix.shape, zip(matrix.elements, noise.elements).map { $0 + size * $1 })
            }
            let other = Sample.product(shaken(found.b, seed), shaken(found.a, seed + 100))
            let error = Sample.weightedError(Sample.difference(w, other), input: c, gradient: g)
            #expect(error >= best * (1 - 1e-9), "seed \(seed)")
        }
    }

    @Test("without gradients it is SVD-LLM's whitening, where that has an inverse", arguments: shapes)
    func equalsWhitening(m: Int, n: Int) throws {
        let (w, c, _) = Self.problem(m, n)
        let rank = max(1, min(m, n) - 2)
        let found = try WeightedFactors.Problem(weight: w, input: c, gradient: nil).factors(rank: rank)
        // W·L = U Σ Vᵀ with C = L·Lᵀ, cut to U_r Σ_r V_rᵀ L⁻¹ = U_r U_rᵀ W.
        let l = try Factorization.root(of: c)
        let s = Sample.product(w, l)
        let (_, vectors) = try Factorization.eigenvectors(ofSymmetric: Sample.product(s, Sample.transpose(s)))
        let u = DoubleMatrix(shape: [rank, m], vectors.elements.prefix(rank * m))
        let expected = Sample.product(Sample.product(Sample.transpose(u), u), w)
        let cut = Sample.product(found.b, found.a)
        expectClose(cut.elements, expected.elements, within: 1e-10 * 10)
    }

    @Test("fewer tokens than features: the error still is the tail", arguments: [(7, 12), (20, 12), (12, 12)])
    func attainsFloorWithFewTokens(m: Int, n: Int) throws {
        let (w, c, g) = Self.problem(m, n, tokens: 5)
        for gradient in [nil, g] {
            // Γ has to be definite; C does not.
            let problem = WeightedFactors.Problem(
                weight: w, input: c, gradient: gradient, gradientDamping: gradient == nil ? 0 : 0.01)
            let energies = try problem.energies()
            #expect(energies[5] < 1e-12 * energies[0])
            for rank in [2, 5, min(m, n)] {
                let found = try problem.factors(rank: rank)
                let error = Sample.weightedError(
                    Sample.difference(w, Sample.product(found.b, found.a)), input: c, gradient: problem.gradient)
                expectClose(
                    [error], [energies.dropFirst(rank).reduce(0, +)], within: 1e-11 * energies[0], "rank \(rank)")
            }
        }
    }

    @Test("the latents' second moments are the energies, and they are uncorrelated", arguments: shapes)
    func latents(m: Int, n: Int) throws {
        let (w, c, g) = Self.problem(m, n)
        let found = try WeightedFactors.Problem(weight: w, input: c, gradient: g).factors(rank: min(m, n))
        let moments = Sample.product(Sample.product(found.a, c), Sample.transpose(found.a))
        for i in 0..<moments.rows {
            for j in 0..<moments.rows {
                let expected = i == j ? found.energies[i] : 0
                #expect(abs(moments[i, j] - expected) <= 1e-9 * found.energies[0], "\(i), \(j)")
            }
        }
    }

    @Test("no bottleneck beats the tail, whatever stands inside")
    func floorHolds() throws {
        let (m, n, tokens) = (8, 11, 200)
        let x = Sample.activations(tokens, n, seed: 7)
        let w = Sample.normal(m, n, seed: 8)
        let y = Sample.product(x, Sample.transpose(w))
        let energies = try WeightedFactors.Problem(weight: w, input: Sample.secondMoment(x), gradient: nil).energies()
        for rank in 1..<m {
            let floor = energies.dropFirst(rank).reduce(0, +)
            for seed in 0..<6 as Range<UInt64> {
                let a = Sample.normal(rank, n, seed: 50 + seed)
                let h = Sample.product(x, Sample.transpose(a))
                for i in 0..<h.count {
                    h.pointer[i] = seed % 2 == 0 ? Foundation.tanh(h.pointer[i]) : abs(h.pointer[i])
                }
                // The best B for these features.
                let hh = Sample.product(Sample.transpose(h), h)
                for i in 0..<rank { hh[i, i] += 1e-9 * hh[i, i] }
                let hy = Sample.product(Sample.transpose(h), y)
                try Factorization.solve(positiveDefinite: hh, hy)
                let fitted = Sample.product(h, hy)
                let error = Sample.difference(y, fitted).elements.reduce(0) { $0 + $1 * $1 } / Double(tokens)
                #expect(error >= floor * (1 - 1e-9), "rank \(rank), seed \(seed)")
            }
        }
    }

    @Test("a layer that nothing enters")
    func zeros() throws {
        let zero = DoubleMatrix(shape: [5, 5])
        let w = Sample.normal(4, 5, seed: 3)
        let problem = WeightedFactors.Problem(
            weight: w, input: zero, gradient: DoubleMatrix(shape: [4, 4]), inputDamping: 1e-4, gradientDamping: 1e-2)
        let found = try problem.factors(rank: 2)
        #expect(found.a.elements.allSatisfy(\.isFinite) && found.b.elements.allSatisfy(\.isFinite))
    }
}
