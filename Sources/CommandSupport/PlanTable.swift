import LowRank
import Transformer

/// A plan as people read it: ranks by layer and module, and what they come to.
public struct PlanTable {
    private let plan: RankPlan
    private let description: ModelDescription

    public init(_ plan: RankPlan, _ description: ModelDescription) {
        self.plan = plan
        self.description = description
    }

    public var text: String {
        let modules = description.modules
        var table = TextTable([("layer", .right)] + modules.map { (LinearLayer.shortName(of: $0), .left) })
        let ranks = Dictionary(uniqueKeysWithValues: plan.entries.map { ($0.id, $0.rank) })
        for block in description.blocks.indices {
            let cells = modules.map { module -> String in
                guard let linear = description.linear(.init(block: block, module: module)) else { return "" }
                guard let rank = ranks[linear.id] ?? nil else { return "dense" }
                let digits = String(rank)
                return String(repeating: " ", count: max(0, 4 - digits.count)) + digits + " "
                    + bar(Double(rank) / Double(min(linear.inputs, linear.outputs)), width: 6)
            }
            table.append(["\(block)"] + cells)
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
                "Most of it in layer \(worst.block) \(worst.id.shortName): kept energy "
                    + "\(fixed(worst.keptEnergy, 3)), relative error \(fixed(worst.relativeError, 2)).")
        }
        return lines.joined(separator: "\n")
    }
}
