import Checkpoints
import LowRank
import Transformer

/// A dense model, which ranks can be chosen for.
public enum DenseModel {
    /// Throws `LowRankError.model` unless all linear layers of a checkpoint are dense, and what `StoredTensors` throws.
    public static func require(
        _ source: any TensorSource, _ description: ModelDescription, head: HeadUse = .required
    ) throws {
        try ModelWeights.checkNames(of: source, description, head: head)
        let factors = source.tensors.filter { $0.name.hasSuffix(".cola_a") }
        guard let first = factors.first else { return }
        throw LowRankError.model(
            path: source.path,
            reason: "\(factors.count) of its linear layers are low-rank already, \(first.name.dropLast(7)) the first; "
                + "expected a dense model")
    }
}

/// How ranks are chosen.
public struct RankChoice: Sendable {
    public var policy: RankPolicy
    /// Ranks are multiples of this.
    public var multiple: Int
    /// What the directions of a layer are weighed by.
    public var weighting: Weighting

    public init(policy: RankPolicy, multiple: Int, weighting: Weighting) {
        self.policy = policy
        self.multiple = multiple
        self.weighting = weighting
    }
}

extension RankPlan {
    /// Weighs the directions of all linear layers and chooses ranks by that.
    ///
    /// - Parameters:
    ///   - statistics: of the model, where the weighting needs them.
    ///   - fingerprint: of the model's weights, by which the plan knows it.
    public static func choose(
        _ model: LanguageModel, _ choice: RankChoice, _ statistics: (any CalibrationStatistics)?, fingerprint: String,
        observer: any WorkflowObserver
    ) throws -> RankPlan {
        let count = model.description.linears.count
        let layers = try observer.phase("energies of directions", unit: "layers", total: count) { done in
            try LayerEnergies.all(of: model, choice.weighting, statistics, progress: done)
        }
        return try RankPlan(
            layers, choice.policy, modelParameters: model.weights.parameterCount, multiple: choice.multiple,
            by: .init(fingerprint: fingerprint, weighting: choice.weighting, calibration: statistics?.record))
    }
}
