import CKernels
import LinearAlgebra
import Tensors

/// Puts σ = silu inside a linear bottleneck with as little change as possible.
///
/// silu(z) = z/2 + (z/2)·tanh(z/2): the odd part is exactly linear, the rest even and at most min(z²/4, |z|/2). A latent
/// that is made smaller by d before σ, and larger by 2/d behind, errs by about d²·Var(z²)/4. Two latents a and −a with
/// columns b and −b give b·(silu(z) − silu(−z)) = b·z exactly, at any size.
///
/// One d serves all latents of a layer, so the factors keep their proportions: AdamW, whose steps are in proportion to a
/// factor's size, then starts from the problem that it would have without σ.
struct Absorption {
    /// What the choice is made by.
    struct Settings: Sendable, Equatable {
        /// Size of the largest scaled latent; nil chooses it by the layer's tail.
        var scale: Double?
        /// Part of the energy that the rank leaves out anyway, which σ may add to it.
        var share = 0.002
        /// The largest size that is chosen.
        var largestScale = 1.0
    }

    /// s, the fourth root of E[z⁴] of the largest latent that is no pair.
    let scale: Double
    /// How many of the directions are pairs.
    let pairs: Int
    /// The share of the kept energy that σ is predicted to add to the error, bias fitted.
    let predictedError: Double
    let factors: LayerFactors

    /// - Parameters:
    ///   - linear: the bottleneck; its first directions weigh most.
    ///   - energies: λ of its directions and of those left out, descending.
    ///   - powers: E[z], E[z²] and E[z⁴] of its latents z = A·x.
    init(
        _ linear: LayerFactors, energies: [Double],
        powers: [(first: Double, second: Double, fourth: Double)], _ settings: Settings
    ) {
        let rank = linear.rank
        let tail = energies.dropFirst(rank).reduce(0, +)
        // λ·Var(z²)/E[z²]: with d²/4 the energy that σ adds, if its mean goes into the bias.
        let weights = (0..<rank).map { i -> Double in
            let (second, fourth) = (powers[i].second, powers[i].fourth)
            return second > 0 ? energies[i] * max(0, fourth / second - second) : 0
        }
        let order = (0..<rank).sorted { weights[$0] > weights[$1] }
        func scale(pairs: Int) -> (s: Double, d: Double) {
            let rest = order.dropFirst(pairs)
            let largest = rest.reduce(0) { max($0, powers[$1].fourth) }.squareRoot().squareRoot()
            guard largest > 0 else { return (settings.largestScale, 1) }
            if let scale = settings.scale { return (scale, scale / largest) }
            let allowed = 4 * settings.share * max(tail, 1e-6 * energies.reduce(0, +))
            let wanted = largest * (allowed / max(rest.reduce(0) { $0 + weights[$1] }, 1e-300)).squareRoot()
            let s = min(wanted, settings.largestScale)
            return (s, s / largest)
        }
        // Pairs for the largest of them where latents may not be made smaller, each paid for by the weakest direction that
        // is left. Not elsewhere: a pair is exact, but bent. What it gives for a small value is another multiple of it than
        // for a huge one as soon as its columns are no longer opposite, and a model that is trained on may then come to
        // treat ordinary tokens like the few with huge values.
        var pairs = 0
        while settings.scale != nil, pairs < rank / 4 {
            let (candidate, weakest) = (order[pairs], rank - 1 - pairs)
            let d = scale(pairs: pairs).d
            guard candidate < weakest, d * d / 4 * weights[candidate] > energies[weakest] else { break }
            pairs += 1
        }
        let (s, d) = scale(pairs: pairs)
        self.scale = s
        let paired = Set(order.prefix(pairs).filter { $0 < rank - pairs })
        self.pairs = paired.count
        let kept = Array(0..<rank - pairs)
        let total = energies.prefix(rank).reduce(0, +)
        predictedError =
            total > 0 ? kept.reduce(0) { $0 + (paired.contains($1) ? 0 : d * d / 4 * weights[$1]) } / total : 0

        let (n, m) = (linear.a.columns, linear.b.rows)
        let a = DoubleMatrix(shape: [rank, n])
        let b = DoubleMatrix(shape: [m, rank])
        var next = rank - pairs
        for i in kept {
            let isPaired = paired.contains(i)
            for column in 0..<n { a[i, column] = d * linear.a[i, column] }
            for row in 0..<m { b[row, i] = (isPaired ? 1 : 2) / d * linear.b[row, i] }
            guard isPaired else { continue }
            for column in 0..<n { a[next, column] = -a[i, column] }
            for row in 0..<m { b[row, next] = -b[row, i] }
            next += 1
        }
        factors = LayerFactors(a: a, b: b, bias: linear.bias)
    }
}

extension LayerFactors {
    /// What is taken for a latent's variance at least, in parts of its second moment: products of thousands of rows in single
    /// precision err by about √2048 · 2⁻²⁴ of that.
    private static let leastVariance = 1e-6

    /// B and bias by ridge least squares on h = σ(A·x) for the targets y, shrunk towards what they are:
    /// min E‖y − B·h − b‖² + ρ‖(B − B₀)·D‖² with D² the diagonal of h's covariance.
    ///
    /// Whatever the metric of the outputs, B is the same. With ρ = 0 the error over these rows is the least there is.
    func refitted(
        h: Matrix, targets: Matrix, ridge: Double
    ) throws(LinearAlgebraError) -> LayerFactors {
        let r = rank
        let residual = SampleMoments.residual(targets, h, by: b)
        let (meanH, meanResidual) = (SampleMoments.means(h), SampleMoments.means(residual))
        let covariance = SampleMoments.cross(h, h)
        let cross = SampleMoments.cross(h, residual)
        for i in 0..<r {
            // Of a latent that is the same for all rows – LayerNorm makes one direction of its output that – the rest is the
            // rounding of products in single precision.
            let least = Self.leastVariance * covariance[i, i]
            for j in 0..<r { covariance[i, j] -= meanH[i] * meanH[j] }
            for j in 0..<cross.columns { cross[i, j] -= meanH[i] * meanResidual[j] }
            covariance[i, i] = max(covariance[i, i], least)
        }
        // In units of each feature's own deviation.
        let deviations = (0..<r).map { max(covariance[$0, $0], 1e-30).squareRoot() }
        for i in 0..<r {
            for j in 0..<r { covariance[i, j] /= deviations[i] * deviations[j] }
            covariance[i, i] += ridge
            for j in 0..<cross.columns { cross[i, j] /= deviations[i] }
        }
        try Factorization.solve(positiveDefinite: covariance, cross)
        var result = LayerFactors(a: a, b: b.copy(), bias: meanResidual)
        for row in 0..<b.rows {
            for i in 0..<r {
                let change = cross[i, row] / deviations[i]
                result.b[row, i] += change
                result.bias[row] -= change * meanH[i]
            }
        }
        return result
    }
}
