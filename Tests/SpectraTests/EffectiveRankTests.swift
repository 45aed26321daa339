import Foundation
import TestSupport
import Testing

@testable import Spectra

@Suite("Effective ranks")
struct EffectiveRankTests {
    /// A few roundings of numbers near the expected one.
    private func expectEqual(
        _ found: Double, _ expected: Double, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        expectClose([found], [expected], within: 1e-14 * expected, sourceLocation: sourceLocation)
    }

    @Test("A uniform spectrum has every rank n, and r(α) = ⌈α·n⌉", arguments: [1, 2, 7, 10, 20, 100])
    func uniform(n: Int) {
        let alphas = [0.5, 0.55, 0.7, 0.9, 0.95, 0.99, 1]
        let ranks = EffectiveRanks(singularValues: Array(repeating: 3, count: n), alphas: alphas, quarter: n / 2)
        // In hundredths, so that the expected values do not round.
        #expect(ranks.energyRanks == [50, 55, 70, 90, 95, 99, 100].map { ($0 * n + 99) / 100 })
        for rank in [ranks.entropyRank, ranks.entropyRankOfSigma, ranks.participationRatio, ranks.stableRank] {
            expectClose([rank], [Double(n)], within: 1e-13 * Double(n))
        }
        expectClose([ranks.energyAtQuarter], [Double(n / 2) / Double(n)], within: 1e-15)
    }

    @Test("One direction has every rank 1")
    func oneDirection() {
        let ranks = EffectiveRanks(singularValues: [5, 0, 0, 0], alphas: [0.1, 0.95, 1], quarter: 1)
        #expect(ranks.energyRanks == [1, 1, 1])
        #expect(ranks.entropyRank == 1 && ranks.entropyRankOfSigma == 1)
        #expect(ranks.participationRatio == 1 && ranks.stableRank == 1)
        #expect(ranks.energyAtQuarter == 1 && ranks.relativeErrorAtQuarter == 0)
    }

    @Test("A zero matrix, and none at all, have every rank 0", arguments: [0, 1, 4])
    func zero(n: Int) {
        let ranks = EffectiveRanks(singularValues: Array(repeating: 0, count: n), alphas: [0.5, 1], quarter: 2)
        #expect(ranks.energyRanks == [0, 0])
        #expect(ranks.entropyRank == 0 && ranks.entropyRankOfSigma == 0)
        #expect(ranks.participationRatio == 0 && ranks.stableRank == 0)
        #expect(ranks.energyAtQuarter == 0 && ranks.relativeErrorAtQuarter == 0)
    }

    @Test("σ = 3, 2, 1, 0, by hand")
    func mixture() {
        // λ = 9, 4, 1, 0 of 14: shares 0.643, 0.929, 1.
        let ranks = EffectiveRanks(
            singularValues: [3, 2, 1, 0], alphas: [0.01, 0.64, 0.65, 0.92, 0.93, 0.999, 1], quarter: 1)
        #expect(ranks.energyRanks == [1, 1, 2, 2, 3, 3, 3])
        // exp(−Σ p log p) = Π p^−p.
        expectEqual(ranks.entropyRank, 14 * pow(9, -9.0 / 14) * pow(4, -4.0 / 14))
        expectEqual(ranks.entropyRankOfSigma, pow(2, 1.0 / 2) * pow(3, 1.0 / 3) * pow(6, 1.0 / 6))
        expectEqual(ranks.participationRatio, 2)
        expectEqual(ranks.stableRank, 14.0 / 9)
        expectEqual(ranks.energyAtQuarter, 9.0 / 14)
        expectEqual(ranks.relativeErrorAtQuarter, (5.0 / 14).squareRoot())
    }

    @Test("A quarter of nothing keeps nothing, one beyond all keeps all")
    func quarters() {
        let none = EffectiveRanks(singularValues: [2, 1], alphas: [], quarter: 0)
        #expect(none.energyAtQuarter == 0 && none.relativeErrorAtQuarter == 1)
        let all = EffectiveRanks(singularValues: [2, 1], alphas: [], quarter: 9)
        #expect(all.energyAtQuarter == 1 && all.relativeErrorAtQuarter == 0)
    }

    @Test("A small tail is seen beside a large head, and α = 1 counts all that is not zero")
    func tail() {
        let values = [1e4, 1e-2, 1e-4, 1e-5, 0]
        let ranks = EffectiveRanks(singularValues: values, alphas: [0.5, 1 - 1e-13, 1], quarter: 1)
        #expect(ranks.energyRanks == [1, 2, 4])
        expectClose([ranks.relativeErrorAtQuarter], [1e-6], within: 1e-10)
    }

    @Test("Ranks do not depend on the scale")
    func scale() {
        let values = (1...31).map { 1 / Double($0) }
        let alphas = [0.5, 0.9, 0.95, 0.999, 1]
        let one = EffectiveRanks(singularValues: values, alphas: alphas, quarter: 8)
        let other = EffectiveRanks(singularValues: values.map { $0 * 0x1p40 }, alphas: alphas, quarter: 8)
        #expect(one == other)
        #expect(zip(one.energyRanks, one.energyRanks.dropFirst()).allSatisfy { $0 <= $1 })
    }
}
