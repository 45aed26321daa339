import CKernels
import LinearAlgebra
import Spectra
import Tensors
import Transformer

/// Fits one linear layer's low-rank replacement to what flows into it and what should come out.
struct LayerFit {
    let recipe: ConversionRecipe
    /// W `[m, n]` and its bias.
    let weight: DoubleMatrix
    let bias: [Double]
    let rank: Int
    /// Γ, in the Fisher weighting.
    let gradient: DoubleMatrix?
    /// Moments of the inputs that the replacement will see; nil where nothing is known of them.
    let input: InputMoments?

    /// What the fit came to.
    struct Outcome {
        var factors: LayerFactors
        /// How σ was put in, where it was.
        var absorption: Absorption?
    }

    /// Without samples: a linear bottleneck for the weights' own targets.
    func linear() throws -> Outcome {
        let found = try problem(weight).factors(rank: rank)
        return Outcome(factors: balanced(found, weight: weight))
    }

    /// With the inputs x `[N, n]` that the replacement will see and the outputs y `[N, m]` it should have.
    ///
    /// `isDrifted`: the inputs are not the dense model's, so that W itself is not the best map to the targets either.
    func fit(_ x: Matrix, targets: Matrix, isDrifted: Bool) throws -> Outcome {
        let target = isDrifted ? try anchored(x, targets) : weight
        let found = try problem(target).factors(rank: rank)
        var linear = balanced(found, weight: target)
        switch recipe.activation {
        case .identity:
            let z = SampleMoments.map(x, by: linear.a)
            linear = try linear.refitted(h: z, targets: targets, ridge: recipe.refitRidge)
            return Outcome(factors: linear)
        case .silu:
            let z = SampleMoments.map(x, by: linear.a)
            var settings = Absorption.Settings()
            settings.scale = recipe.scale
            let absorption = Absorption(
                linear, energies: found.energies, powers: SampleMoments.powers(z), settings)
            let h = SampleMoments.map(x, by: absorption.factors.a)
            ThreadPool.forEachRange(h.count, granularity: 1 << 12) { part in
                ck_silu(h.pointer + part.lowerBound, h.pointer + part.lowerBound, part.count)
            }
            let factors = try absorption.factors.refitted(h: h, targets: targets, ridge: recipe.refitRidge)
            return Outcome(factors: factors, absorption: absorption)
        }
    }

    private func problem(_ target: DoubleMatrix) -> WeightedFactors.Problem {
        .init(target, recipe.weighting, input: input?.covariance, gradient: gradient)
    }

    /// The factors with equal scale on both sides of each latent, and the bias that makes the mean output right.
    private func balanced(_ found: WeightedFactors, weight target: DoubleMatrix) -> LayerFactors {
        var bias = bias
        if let input {
            let mean = DoubleMatrix(shape: [input.mean.count, 1], input.mean)
            let full = Factorization.multiply(target, mean)
            let cut = Factorization.multiply(found.b, Factorization.multiply(found.a, mean))
            for i in bias.indices { bias[i] += full[i, 0] - cut[i, 0] }
        }
        return LayerFactors(a: found.a, b: found.b, bias: bias)
            .scaled(by: found.energies.prefix(rank).map { $0 > 0 ? 1 / $0.squareRoot().squareRoot() : 0 })
    }

    /// The map that best takes the drifted inputs to the targets, by ridge regression towards W:
    /// M = W + E[(y − W·x)·xᵀ]·(C + μI)⁻¹, with the means removed.
    private func anchored(_ x: Matrix, _ targets: Matrix) throws -> DoubleMatrix {
        let residual = SampleMoments.residual(targets, x, by: weight)
        guard let input else { preconditionFailure("drifted inputs without moments") }
        let cross = SampleMoments.cross(x, residual)
        let mean = SampleMoments.means(residual)
        for i in 0..<cross.rows {
            for j in 0..<cross.columns { cross[i, j] -= input.mean[i] * mean[j] }
        }
        let covariance = input.covariance
        let n = covariance.rows
        let damping = recipe.anchorRidge * (0..<n).reduce(0) { $0 + covariance[$1, $1] } / Double(n)
        for i in 0..<n { covariance[i, i] += max(damping, 1e-30) }
        try Factorization.solve(positiveDefinite: covariance, cross)
        let result = weight.copy()
        for row in 0..<result.rows {
            for column in 0..<n { result[row, column] += cross[column, row] }
        }
        return result
    }
}

extension InputMoments {
    /// Of samples, in double precision.
    init(_ x: Matrix) {
        let moments = Moments(features: x.columns)
        moments.add(x.view, scratch: .init())
        let count = Double(max(1, moments.tokens))
        let gram = moments.gram()
        for i in 0..<gram.count { gram.pointer[i] /= count }
        self.init(secondMoment: gram, mean: moments.sum.map { $0 / count })
    }
}
