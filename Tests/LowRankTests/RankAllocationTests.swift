import Foundation
import Tensors
import Testing
import Transformer

@testable import LowRank

@Suite struct RankAllocationTests {
    /// Energies that fall at different speeds.
    static func layer(_ outputs: Int, _ inputs: Int, decay: Double, scale: Double = 1, index: Int = 0) -> LayerEnergies
    {
        var generator = SeededGenerator(seed: UInt64(outputs * 100 + inputs + index))
        let energies = (0..<min(outputs, inputs)).map { i -> Double in
            let noise = 0.7 + 0.6 * generator.uniform()
            return scale * decay * noise / Double((i + 1) * (i + 1))
        }.sorted(by: >)
        return LayerEnergies(LinearLayer(block: index, .query, inputs: inputs, outputs: outputs), energies: energies)
    }

    static let layers = [
        layer(9, 14, decay: 1), layer(16, 6, decay: 0.5, scale: 3, index: 1), layer(12, 12, decay: 2, index: 2),
    ]

    /// Every combination of ranks and staying dense.
    static func everyChoice(multiple: Int) -> [(cost: Int, tail: Double)] {
        func choices(_ layer: LayerEnergies) -> [(Int, Double)] {
            stride(from: multiple, through: layer.largestUsefulRank, by: multiple).map {
                (layer.linear.parameters(rank: $0), layer.energies.dropFirst($0).reduce(0, +))
            } + [(layer.linear.denseParameters, 0)]
        }
        var sums: [(cost: Int, tail: Double)] = [(0, 0)]
        for layer in layers {
            sums = sums.flatMap { sum in choices(layer).map { (sum.cost + $0.0, sum.tail + $0.1) } }
        }
        return sums
    }

    static func result(_ ranks: RankAllocation.Ranks) -> (cost: Int, tail: Double) {
        zip(layers, ranks).reduce((0, 0)) { sum, item in
            (
                sum.0 + item.0.linear.parameters(rank: item.1),
                sum.1 + (item.1.map { item.0.energies.dropFirst($0).reduce(0, +) } ?? 0)
            )
        }
    }

    @Test("among all choices that cost as much, none leaves less out by a whole step", arguments: [1, 2])
    func equalsBruteForce(multiple: Int) {
        let all = Self.everyChoice(multiple: multiple)
        var seen: Set<Int> = []
        for budget in 100...Self.layers.reduce(0, { $0 + $1.linear.denseParameters }) {
            guard let ranks = RankAllocation.budget(Self.layers, parameters: budget, multiple: multiple) else {
                continue
            }
            let (cost, tail) = Self.result(ranks)
            #expect(cost <= budget)
            guard seen.insert(cost).inserted else { continue }
            let best = all.filter { $0.cost <= cost }.map(\.tail).min() ?? 0
            #expect(tail - best <= Self.largestStep, "budget \(budget): \(tail) instead of \(best)")
        }
        #expect(seen.count > (multiple == 1 ? 10 : 3))
    }

    /// The convex relaxation is off by less than what one more direction of one layer is worth.
    static let largestStep = layers.map { $0.energies[1] }.max() ?? 0

    @Test("where only whole steps of the hull are taken, brute force finds nothing better")
    func hullIsOptimal() {
        let all = Self.everyChoice(multiple: 1)
        var hits = 0
        // Budgets at which the greedy walk stands exactly: those where adding one parameter changes nothing before the next.
        for theta in stride(from: -9.0, to: 1, by: 0.05) {
            let reward = Foundation.exp(theta)
            // The relaxation's own optimum: least Σ tail + θ · cost.
            let best = all.min { $0.tail + reward * Double($0.cost) < $1.tail + reward * Double($1.cost) }!
            guard let ranks = RankAllocation.budget(Self.layers, parameters: best.cost) else { continue }
            let found = Self.result(ranks)
            #expect(found.cost <= best.cost)
            #expect(found.tail <= best.tail * (1 + 1e-12), "\(best.cost)")
            hits += 1
        }
        #expect(hits > 100)
    }

    @Test func tooSmallABudget() {
        #expect(RankAllocation.budget(Self.layers, parameters: 10) == nil)
        let least = Self.layers.reduce(0) { $0 + $1.linear.parameters(rank: 1) }
        #expect(RankAllocation.budget(Self.layers, parameters: least) == [1, 1, 1])
        #expect(RankAllocation.budget(Self.layers, parameters: least - 1) == nil)
    }

    @Test func allOfTheBudgetIsDense() {
        let dense = Self.layers.reduce(0) { $0 + $1.linear.denseParameters }
        #expect(RankAllocation.budget(Self.layers, parameters: dense) == [nil, nil, nil])
    }

    @Test func uniformRanksLeaveDenseWhatWouldGrow() {
        // 9·14 = 126 parameters; rank 5 takes 5·23 + 9 = 124, rank 6 more than dense.
        #expect(RankAllocation.uniform(Self.layers, rank: 5) == [5, nil, 5])
        #expect(Self.layers[0].largestUsefulRank == 5)
    }

    @Test("the least rank that keeps the share of the energy")
    func energyPolicy() {
        for alpha in [0.5, 0.8, 0.95] {
            for (layer, rank) in zip(Self.layers, RankAllocation.energy(Self.layers, alpha: alpha)) {
                guard let rank else {
                    #expect(layer.keptEnergy(rank: layer.largestUsefulRank) < alpha)
                    continue
                }
                #expect(layer.keptEnergy(rank: rank) >= alpha)
                #expect(rank == 1 || layer.keptEnergy(rank: rank - 1) < alpha)
            }
        }
        for rank in RankAllocation.energy(Self.layers, alpha: 0.6, multiple: 2) { #expect((rank ?? 0) % 2 == 0) }
    }

    @Test func ranksAreMultiples() {
        for budget in stride(from: 200, to: 370, by: 10) {
            let ranks = RankAllocation.budget(Self.layers, parameters: budget, multiple: 3) ?? []
            #expect(ranks.allSatisfy { ($0 ?? 3) % 3 == 0 })
        }
    }
}
