import Checkpoints
import LowRank
import Transformer

/// A dense model, which ranks can be chosen for.
public enum DenseModel {
    /// Throws `LowRankError.model` unless all linear layers of a checkpoint are dense, and what `StoredTensors` throws.
    public static func require(
        _ source: any TensorSource, _ configuration: DecoderConfiguration, head: HeadUse = .required
    ) throws {
        try DecoderWeights.checkNames(of: source, configuration, head: head)
        let factors = source.tensors.filter { $0.name.hasSuffix(".cola_a") }
        guard let first = factors.first else { return }
        throw LowRankError.model(
            path: source.path,
            reason: "\(factors.count) of its linear layers are low-rank already, \(first.name.dropLast(7)) the first; "
                + "expected a dense model")
    }
}

extension RankPlan {
    /// Chooses ranks as the options say; also returns the energies they were chosen by.
    public static func choose(
        _ decoder: Decoder, _ options: RankOptions, _ weighting: Weighting, _ statistics: (any CalibrationStatistics)?,
        fingerprint: String, console: Console
    ) throws -> (plan: RankPlan, layers: [LayerEnergies]) {
        let count = decoder.configuration.layers * LinearModule.allCases.count
        let progress = console.progress("energies of directions", unit: "layers", total: count)
        let layers = try LayerEnergies.all(of: decoder, weighting, statistics) { progress.update($0) }
        progress.finish()
        guard let policy = options.policy(for: decoder) else { preconditionFailure("no policy was given") }
        let plan = try RankPlan(
            layers, policy, modelParameters: decoder.weights.parameterCount, multiple: options.multiple,
            fingerprint: fingerprint, weighting: weighting, calibration: statistics?.record)
        return (plan, layers)
    }
}

/// A plan as people read it: ranks by layer and module, and what they come to.
public struct PlanTable {
    private let plan: RankPlan
    private let configuration: DecoderConfiguration

    public init(_ plan: RankPlan, _ configuration: DecoderConfiguration) {
        self.plan = plan
        self.configuration = configuration
    }

    public var text: String {
        let modules = LinearModule.allCases
        var table = TextTable([("layer", .right)] + modules.map { ($0.shortName, .left) })
        for layer in 0..<configuration.layers {
            table.append(
                ["\(layer)"]
                    + modules.indices.map { index in
                        let entry = plan.entries[layer * modules.count + index]
                        guard let rank = entry.rank else { return "dense" }
                        let (inputs, outputs) = configuration.shape(of: entry.module)
                        let digits = String(rank)
                        return String(repeating: " ", count: max(0, 4 - digits.count)) + digits + " "
                            + bar(Double(rank) / Double(min(inputs, outputs)), width: 6)
                    })
        }
        let dense = plan.entries.count { $0.rank == nil }
        var lines = [
            "Rank of each linear layer, weighted by \(plan.weighting.rawValue); the bar is its share of the full rank",
            "", table.text, "",
            "\(grouped(plan.parameters)) of \(grouped(plan.denseParameters)) parameters of the linear layers, "
                + "\(fixed(100 * plan.keptShare, 1)) %; \(dense) of \(plan.entries.count) layers stay dense.",
        ]
        if let increase = plan.lossIncrease {
            lines.append(
                "Predicted increase of the loss, to second order and layer by layer: \(fixed(increase, 3)) nats per token."
            )
        }
        if let worst = plan.entries.max(by: {
            ($0.lossIncrease ?? $0.relativeError) < ($1.lossIncrease ?? $1.relativeError)
        }
        ), worst.rank != nil {
            lines.append(
                "Most of it in layer \(worst.layer) \(worst.module.shortName): kept energy "
                    + "\(fixed(worst.keptEnergy, 3)), relative error \(fixed(worst.relativeError, 2)).")
        }
        return lines.joined(separator: "\n")
    }
}
