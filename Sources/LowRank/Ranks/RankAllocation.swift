/// Ranks for the layers of a model, from their energies.
public enum RankAllocation {
    /// nil stands for a layer that stays dense.
    public typealias Ranks = [Int?]

    /// The same rank everywhere; layers that it would not make smaller stay dense.
    public static func uniform(_ layers: [LayerEnergies], rank: Int) -> Ranks {
        layers.map { rank <= $0.largestUsefulRank ? rank : nil }
    }

    /// In each layer the least rank that keeps the share α of its energy, rounded up to a multiple.
    public static func energy(_ layers: [LayerEnergies], alpha: Double, multiple: Int = 1) -> Ranks {
        layers.map { layer in
            let least =
                layer.energies.indices.first { layer.keptEnergy(rank: $0 + 1) >= alpha }.map { $0 + 1 }
                ?? layer.energies.count
            let rank = max(1, (least + multiple - 1) / multiple) * multiple
            return rank <= layer.largestUsefulRank ? rank : nil
        }
    }

    /// The ranks with the least sum of tails whose parameters are at most `parameters`: min Σ_l Σ_{i>r_l} λ_{l,i}.
    ///
    /// Of each layer the possible ranks – multiples, and staying dense, which leaves nothing out – have a cost and a
    /// remaining tail; the lower convex hull of these points is a sequence of ever less rewarding steps. Taking steps in
    /// the order of their reward per parameter, whatever the layer, is optimal for every budget that it hits exactly.
    /// What a last, too large step leaves over goes to the next smaller ones that fit.
    ///
    /// - Returns: nil if even rank `multiple` in all layers is too much.
    public static func budget(_ layers: [LayerEnergies], parameters: Int, multiple: Int = 1) -> Ranks? {
        let hulls = layers.map { hull($0, multiple: multiple) }
        var position = [Int](repeating: 0, count: layers.count)
        var left = parameters - hulls.reduce(0) { $0 + $1[0].cost }
        guard left >= 0 else { return nil }
        // All steps by reward; ties by layer, so that the same input gives the same plan.
        let steps = hulls.enumerated().flatMap { layer, points in
            (1..<max(1, points.count)).map { index in
                (
                    layer: layer, index: index,
                    reward: (points[index - 1].tail - points[index].tail)
                        / Double(points[index].cost - points[index - 1].cost)
                )
            }
        }.sorted { ($1.reward, $0.layer, $0.index) < ($0.reward, $1.layer, $1.index) }
        for step in steps where position[step.layer] == step.index - 1 {
            let points = hulls[step.layer]
            let cost = points[step.index].cost - points[step.index - 1].cost
            guard cost <= left else { continue }
            left -= cost
            position[step.layer] = step.index
        }
        return zip(hulls, position).map { $0[$1].rank }
    }

    private struct Point {
        let cost: Int
        let tail: Double
        /// nil for dense.
        let rank: Int?
    }

    /// The lower convex hull of a layer's choices, from the cheapest on.
    private static func hull(_ layer: LayerEnergies, multiple: Int) -> [Point] {
        var points = stride(from: multiple, through: layer.largestUsefulRank, by: multiple).map { rank in
            Point(
                cost: layer.linear.parameters(rank: rank), tail: layer.tails[min(rank, layer.energies.count)],
                rank: rank)
        }
        points.append(Point(cost: layer.linear.denseParameters, tail: 0, rank: nil))
        var hull: [Point] = []
        for point in points {
            while hull.count >= 2 {
                let (a, b) = (hull[hull.count - 2], hull[hull.count - 1])
                let before = (a.tail - b.tail) * Double(point.cost - b.cost)
                let after = (b.tail - point.tail) * Double(b.cost - a.cost)
                if before > after { break }
                hull.removeLast()
            }
            hull.append(point)
        }
        return hull
    }
}
