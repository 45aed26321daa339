import JSON
import Transformer

/// How ranks are chosen.
public enum RankPolicy: Sendable, Equatable {
    /// The same rank everywhere.
    case uniform(rank: Int)
    /// In each layer the least rank that keeps this share of its energy.
    case energy(alpha: Double)
    /// The ranks that lose the least energy in all, with at most this share of the linear layers' parameters.
    case keep(share: Double)
    /// The same for at most so many parameters of the whole model.
    case parameters(Int)

    public var json: JSONObject {
        switch self {
        case .uniform(let rank): JSONObject([("name", "uniform"), ("rank", .integer(rank))])
        case .energy(let alpha): JSONObject([("name", "energy"), ("alpha", .number(alpha))])
        case .keep(let share): JSONObject([("name", "budget"), ("keep", .number(share))])
        case .parameters(let count): JSONObject([("name", "budget"), ("parameters", .integer(count))])
        }
    }
}

extension RankPlan {
    /// Chooses ranks by a policy.
    ///
    /// - Parameters:
    ///   - layers: the energies of all linear layers.
    ///   - modelParameters: of the whole dense model.
    ///   - multiple: ranks are multiples of it, except those of the uniform policy.
    /// - Throws: `LowRankError.setting` for a rank that makes no layer smaller, and for a budget that no ranks meet.
    public init(
        _ layers: [LayerEnergies], _ policy: RankPolicy, modelParameters: Int, multiple: Int, by basis: Basis
    ) throws(LowRankError) {
        let dense = layers.reduce(0) { $0 + $1.linear.denseParameters }
        func budget(_ parameters: Int, _ name: String, _ found: String) throws(LowRankError) -> RankAllocation.Ranks {
            guard let ranks = RankAllocation.budget(layers, parameters: parameters, multiple: multiple) else {
                let least = layers.reduce(0) { sum, layer in
                    sum + min(layer.linear.parameters(rank: multiple), layer.linear.denseParameters)
                }
                throw .setting(
                    name: name, found: found,
                    expected: "room for rank \(multiple) in all linear layers, which takes \(least) of their \(dense) "
                        + "parameters")
            }
            return ranks
        }
        let ranks: RankAllocation.Ranks
        switch policy {
        case .uniform(let rank):
            ranks = RankAllocation.uniform(layers, rank: rank)
            let largest = layers.map(\.largestUsefulRank).max() ?? 0
            guard (1...max(1, largest)).contains(rank), largest > 0 else {
                throw .setting(
                    name: "rank", found: "\(rank)",
                    expected: "1 to \(largest): above that no linear layer would become smaller")
            }
        case .energy(let alpha): ranks = RankAllocation.energy(layers, alpha: alpha, multiple: multiple)
        case .keep(let share): ranks = try budget(Int(share * Double(dense)), "keep", "\(share)")
        case .parameters(let count):
            ranks = try budget(count - (modelParameters - dense), "parameters", "\(count) of \(modelParameters)")
        }
        var record = policy.json
        record["multiple"] = .integer(multiple)
        self.init(layers, ranks: ranks, policy: record, by: basis)
    }
}
