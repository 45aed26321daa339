import LinearAlgebra
import Tensors
import Transformer

/// The energies of one linear layer's directions in a weighting, from which every rank's error follows.
public struct LayerEnergies: Sendable {
    public let linear: LinearLayer
    /// λ, descending. In the Fisher weighting half their sum is a loss in nats per token.
    public let energies: [Double]
    /// What is left out at each rank: `tails[r]` = Σ λ from r on, added from the small end.
    let tails: [Double]

    public init(_ linear: LinearLayer, energies: [Double]) {
        self.linear = linear
        self.energies = energies
        var tails = [Double](repeating: 0, count: energies.count + 1)
        for index in energies.indices.reversed() { tails[index] = tails[index + 1] + energies[index] }
        self.tails = tails
    }

    /// The largest rank that is smaller than dense; 0 if none is.
    public var largestUsefulRank: Int {
        max(0, (linear.denseParameters - linear.parameters(rank: 0) - 1) / (linear.outputs + linear.inputs))
    }

    /// Share of the energy that rank r keeps.
    public func keptEnergy(rank: Int) -> Double {
        tails[0] > 0 ? 1 - tails[min(rank, energies.count)] / tails[0] : 1
    }
}

extension LinearLayer {
    /// Parameters after a conversion to rank r: of the factors, and of the bias that comes with them where the layer has
    /// none. Those of the matrix for a layer that stays dense.
    public func parameters(rank: Int?) -> Int {
        rank.map { $0 * (outputs + inputs) + (hasBias ? 0 : outputs) } ?? denseParameters
    }
}

extension WeightedFactors.Problem {
    /// Dampings that are added to C and Γ, parts of the mean of their diagonals.
    public static let inputDamping = 1e-4
    public static let gradientDamping = 1e-2

    /// The problem of one layer's weight in a weighting. C is centred: the bias of the converted layer carries the mean.
    public init(
        _ weight: DoubleMatrix, of linear: LinearLayer, _ weighting: Weighting,
        _ statistics: (any CalibrationStatistics)?
    ) throws {
        let input = weighting == .weight ? nil : try statistics?.input(of: linear).covariance
        let gradient = weighting == .fisher ? try statistics?.gradient(of: linear) : nil
        self.init(weight, weighting, input: input, gradient: gradient)
    }

    /// The same with statistics at hand: the weighting uses those that it needs and leaves the others.
    init(_ weight: DoubleMatrix, _ weighting: Weighting, input: DoubleMatrix?, gradient: DoubleMatrix?) {
        switch weighting {
        case .weight: self.init(weight: weight, input: nil, gradient: nil)
        case .output:
            precondition(input != nil, "the output weighting without moments of inputs")
            self.init(weight: weight, input: input, gradient: nil)
        case .fisher:
            precondition(
                input != nil && gradient != nil, "the Fisher weighting without moments of inputs and gradients")
            self.init(
                weight: weight, input: input, gradient: gradient, inputDamping: Self.inputDamping,
                gradientDamping: Self.gradientDamping)
        }
    }
}

extension LayerEnergies {
    /// The energies of every linear layer of a dense model, in the order of its description; several are computed side by
    /// side. Throws `LinearAlgebraError`, which names the layer, and what reading the statistics throws.
    public static func all(
        of model: LanguageModel, _ weighting: Weighting, _ statistics: (any CalibrationStatistics)?,
        progress: (Int) -> Void = { _ in }
    ) throws -> [LayerEnergies] {
        let linears = model.description.linears
        let results = ParallelResults<Result<LayerEnergies, any Error>>(count: linears.count)
        // Costly ones first, so that threads end together.
        let order = linears.indices.sorted { linears[$0].denseParameters > linears[$1].denseParameters }
        results.fill(order: order, progress: progress) { index in
            let linear = linears[index]
            return Result {
                guard case .dense(let dense) = model.weights[linear] else {
                    preconditionFailure("\(linear.id) is not dense")
                }
                let problem = try WeightedFactors.Problem(dense.weight.doubles(), of: linear, weighting, statistics)
                do throws(LinearAlgebraError) {
                    return LayerEnergies(linear, energies: try problem.energies())
                } catch {
                    throw LinearAlgebraError(operation: "\(linear.id): \(error.operation)", reason: error.reason)
                }
            }
        }
        return try results.values.map { try $0.get() }
    }
}
