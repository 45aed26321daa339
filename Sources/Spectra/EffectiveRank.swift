import Glibc

/// What a spectrum says about the rank of a matrix. All are functions of the singular values σ₁ ≥ σ₂ ≥ …, with
/// λᵢ = σᵢ² and pᵢ = λᵢ / Σλ; of a zero matrix all are 0.
public struct EffectiveRanks: Sendable, Equatable {
    /// r(α) for each α: the least k whose k largest λ reach α·Σλ (arXiv 2502.10940, effective rank).
    public let energyRanks: [Int]
    /// exp(−Σ pᵢ log pᵢ).
    public let entropyRank: Double
    /// The same with pᵢ = σᵢ / Σσ (Roy and Vetterli, 2007).
    public let entropyRankOfSigma: Double
    /// (Σλ)² / Σλ².
    public let participationRatio: Double
    /// Σλ / λ₁.
    public let stableRank: Double
    /// Share of Σλ in the `quarter` largest.
    public let energyAtQuarter: Double
    /// Relative Frobenius error of the best approximation of rank `quarter`: √(1 − `energyAtQuarter`).
    public let relativeErrorAtQuarter: Double

    /// `singularValues` descending; `quarter` is the rank of the paper's rule of thumb, d / 4.
    public init(singularValues: [Double], alphas: [Double], quarter: Int) {
        let energies = singularValues.map { $0 * $0 }
        // Added from the small end, so that the tail is not lost in the large sums.
        var tails = [Double](repeating: 0, count: energies.count + 1)
        for index in energies.indices.reversed() { tails[index] = tails[index + 1] + energies[index] }
        let total = tails[0]
        guard total > 0 else {
            energyRanks = alphas.map { _ in 0 }
            (entropyRank, entropyRankOfSigma, participationRatio, stableRank) = (0, 0, 0, 0)
            (energyAtQuarter, relativeErrorAtQuarter) = (0, 0)
            return
        }
        energyRanks = alphas.map { alpha in
            // As a quotient, because α is the nearest number to one: ⌈α·n⌉ of n equal energies. All of Σλ is reached
            // where nothing is left, which a quotient that rounds to 1 does not say.
            energies.indices.first {
                alpha < 1 ? (total - tails[$0 + 1]) / total >= alpha : tails[$0 + 1] <= 0
            }.map { $0 + 1 } ?? energies.count
        }
        func exponentialEntropy(_ values: [Double], sum: Double) -> Double {
            exp(
                values.reduce(0) { entropy, value in
                    // A share that is too small to be told from nothing has no logarithm.
                    let share = value / sum
                    return share > 0 ? entropy - share * log(share) : entropy
                })
        }
        entropyRank = exponentialEntropy(energies, sum: total)
        entropyRankOfSigma = exponentialEntropy(singularValues, sum: singularValues.reduce(0, +))
        participationRatio = 1 / energies.reduce(0) { $0 + ($1 / total) * ($1 / total) }
        stableRank = total / energies[0]
        let tail = tails[min(max(quarter, 0), energies.count)] / total
        energyAtQuarter = 1 - tail
        relativeErrorAtQuarter = tail.squareRoot()
    }
}
