import LinearAlgebra
import Tensors
import Transformer

/// The energies of one linear layer's directions in a weighting, from which every rank's error follows.
public struct LayerEnergies: Sendable {
    public let layer: Int
    public let module: LinearModule
    /// Features that leave and enter, m and n.
    public let outputs: Int
    public let inputs: Int
    /// Whether the dense layer has a bias already.
    public let hasBias: Bool
    /// λ, descending. In the Fisher weighting half their sum is a loss in nats per token.
    public let energies: [Double]
    /// What is left out at each rank: `tails[r]` = Σ λ from r on, added from the small end.
    let tails: [Double]

    public init(layer: Int, module: LinearModule, outputs: Int, inputs: Int, hasBias: Bool, energies: [Double]) {
        self.layer = layer
        self.module = module
        self.outputs = outputs
        self.inputs = inputs
        self.hasBias = hasBias
        self.energies = energies
        var tails = [Double](repeating: 0, count: energies.count + 1)
        for index in energies.indices.reversed() { tails[index] = tails[index + 1] + energies[index] }
        self.tails = tails
    }

    /// Parameters of the dense matrix.
    public var denseParameters: Int { outputs * inputs }

    /// Parameters of the factors of rank r, and of the bias that comes with them where the layer has none.
    public func parameters(rank: Int) -> Int { rank * (outputs + inputs) + addedBias }

    private var addedBias: Int { hasBias ? 0 : outputs }

    /// The largest rank that is smaller than dense; 0 if none is.
    public var largestUsefulRank: Int { max(0, (denseParameters - addedBias - 1) / (outputs + inputs)) }

    /// Share of the energy that rank r keeps.
    public func keptEnergy(rank: Int) -> Double {
        tails[0] > 0 ? 1 - tails[min(rank, energies.count)] / tails[0] : 1
    }
}

extension WeightedFactors.Problem {
    /// Dampings that are added to C and Γ, parts of the mean of their diagonals.
    public static let inputDamping = 1e-4
    public static let gradientDamping = 1e-2

    /// The problem of one layer's weight in a weighting. C is centred: the bias of the converted layer carries the mean.
    public init(
        _ weight: DoubleMatrix, _ module: LinearModule, layer: Int, _ weighting: Weighting,
        _ statistics: (any CalibrationStatistics)?
    ) throws {
        let input = weighting == .weight ? nil : try statistics?.input(of: module, layer: layer).covariance
        let gradient = weighting == .fisher ? try statistics?.gradient(of: module, layer: layer) : nil
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
    /// The energies of every linear layer of a dense decoder, in the order of layers and modules; several are computed side
    /// by side. Throws `LinearAlgebraError`, which names the layer, and what reading the statistics throws.
    public static func all(
        of decoder: Decoder, _ weighting: Weighting, _ statistics: (any CalibrationStatistics)?,
        progress: (Int) -> Void = { _ in }
    ) throws -> [LayerEnergies] {
        let places = (0..<decoder.configuration.layers).flatMap { layer in
            LinearModule.allCases.map { (layer: layer, module: $0) }
        }
        let results = ParallelResults<Result<LayerEnergies, any Error>>(count: places.count)
        // Costly ones first, so that threads end together.
        let order = places.indices.sorted {
            let (a, b) = (places[$0].module.rawValue, places[$1].module.rawValue)
            return a.hasPrefix("mlp") && !b.hasPrefix("mlp")
        }
        results.fill(order: order, progress: progress) { index in
            let (layer, module) = places[index]
            return Result {
                guard case .dense(let dense) = decoder.weights.layers[layer][module] else {
                    preconditionFailure("layer \(layer) \(module.rawValue) is not dense")
                }
                let problem = try WeightedFactors.Problem(
                    dense.weight.doubles(), module, layer: layer, weighting, statistics)
                do throws(LinearAlgebraError) {
                    return LayerEnergies(
                        layer: layer, module: module, outputs: dense.weight.rows, inputs: dense.weight.columns,
                        hasBias: dense.bias != nil, energies: try problem.energies())
                } catch {
                    throw LinearAlgebraError(
                        operation: "layer \(layer) \(module.rawValue): \(error.operation)", reason: error.reason)
                }
            }
        }
        return try results.values.map { try $0.get() }
    }
}
