import Foundation
import TestSupport
import Testing
import Transformer

@testable import Training

@Suite("First weights")
struct InitialisationTests {
    private func description(isTied: Bool = false) throws -> ModelDescription {
        let json = """
            {"model_type": "llama", "hidden_size": 60, "intermediate_size": 97, "num_hidden_layers": 2,
             "num_attention_heads": 3, "num_key_value_heads": 1, "vocab_size": 211, "tie_word_embeddings": \(isTied)}
            """
        return try ModelDescription(json: json, path: "sample")
    }

    private func values(_ weights: ModelWeights) -> [(parameter: Parameter, values: [Double])] {
        weights.parameters.map { ($0, $0.weight.elements.map(Double.init)) }
    }

    /// Mean, variance and the part within one standard deviation of independent numbers are off by more than six standard
    /// errors once in 500 million times.
    private func expectNormal(_ values: [Double], deviation: Double, _ name: String) {
        let count = Double(values.count)
        let mean = values.reduce(0, +) / count
        let variance = values.reduce(0) { $0 + $1 * $1 } / count
        let inner = Double(values.count { abs($0) < deviation }) / count
        #expect(abs(mean) < 6 * deviation / count.squareRoot(), "\(name)")
        #expect(abs(variance / (deviation * deviation) - 1) < 6 * (2 / count).squareRoot(), "\(name)")
        #expect(abs(inner - 0.682689) < 6 * (0.682689 * 0.317311 / count).squareRoot(), "\(name)")
    }

    @Test("Every kind of parameter has the paper's distribution", arguments: [nil, 1, 15])
    func distributions(rank: Int?) throws {
        let description = try description().with { .init(rank: rank, hasBias: $0.role != .down) }
        var biases: [Double] = []
        let all = values(ModelWeights(description, seed: 21))
        for (parameter, values) in all {
            let (name, linear) = (parameter.name, parameter.role.linear)
            if name.hasSuffix("norm.weight") {
                #expect(values.allSatisfy { $0 == 1 }, "\(name)")
            } else if let linear, name.hasSuffix(".bias") {
                if rank == nil { #expect(values.allSatisfy { $0 == 0 }, "\(name)") }
                // In units of the limit.
                biases += values.map { $0 * Double(linear.outputs).squareRoot() }
            } else if let linear, let rank {
                // s = r^(−1/4) · (d_in + d_out)^(−1/4)
                let deviation = 1 / (Double(rank) * Double(linear.inputs + linear.outputs)).squareRoot().squareRoot()
                expectNormal(values, deviation: deviation, name)
            } else {
                expectNormal(values, deviation: 0.02, name)
            }
        }
        #expect(all.count == 2 + 1 + 2 * (2 + (rank == nil ? 7 : 14) + 6))
        guard rank != nil else { return }
        // Uniform in ±1: variance 1/3, whose own variance is 4/45 of a number's.
        let count = Double(biases.count)
        #expect(biases.allSatisfy { abs($0) <= 1 + 1e-6 } && biases.contains { abs($0) > 0.9 })
        #expect(abs(biases.reduce(0, +) / count) < 6 * (1 / 3 / count).squareRoot())
        let variance = biases.reduce(0) { $0 + $1 * $1 } / count
        #expect(abs(variance - 1.0 / 3) < 6 * (4.0 / 45 / count).squareRoot())
    }

    @Test("Parameters differ from each other and between seeds, and a seed gives the same bits")
    func seeds() throws {
        let description = try description().with(rank: 4)
        let runs = [5, 5, 6].map { bits(ModelWeights(description, seed: $0)) }
        expectEqual(runs[0], runs[1])
        let random = runs[0].filter { !$0.key.hasSuffix("norm.weight") }
        for (name, elements) in random { #expect(runs[2][name] != elements, "\(name)") }
        // Not even the first numbers of two parameters are the same ones.
        let starts = random.values.map { $0.prefix(4).map { Float(bitPattern: $0).sign == .minus } }
        #expect(Set(random.values).count == random.count && Set(starts).count > 8)
        let ratios = random.values.map { Float(bitPattern: $0[0]) / Float(bitPattern: $0[1]) }
        #expect(Set(ratios).count == ratios.count)
        // A number is found once in a seed's weights, and not in another's.
        let first = Set(random.values.joined())
        let shared = runs[2].filter { random[$0.key] != nil }.values.joined().count { first.contains($0) }
        #expect(Double(shared) < 0.01 * Double(random.values.joined().count))
    }

    @Test("Each linear layer is filled by its own layout where ranks differ and some are dense")
    func layouts() throws {
        func rank(_ linear: LinearLayer) -> Int? {
            [nil, 3, 7][(linear.block + LinearRole.allCases.firstIndex(of: linear.role)!) % 3]
        }
        let mixed = ModelWeights(try description().with { .init(rank: rank($0), hasBias: true) }, seed: 9)
        for (parameter, values) in values(mixed) {
            guard let linear = parameter.role.linear else { continue }
            let (name, width) = (parameter.name, linear.inputs + linear.outputs)
            let largest = values.map(abs).max() ?? 0
            switch (rank(linear), name.hasSuffix(".bias")) {
            case (nil, true): #expect(largest == 0, "\(name)")
            case (nil, false):
                #expect(values.count == linear.inputs * linear.outputs)
                expectNormal(values, deviation: 0.02, name)
            case (.some, true):
                let limit = 1 / Double(linear.outputs).squareRoot()
                #expect(largest <= limit * (1 + 1e-6) && largest > 0.7 * limit, "\(name)")
            case (.some(let rank), false):
                #expect(values.count == rank * (name.hasSuffix("cola_a") ? linear.inputs : linear.outputs))
                let deviation = 1 / (Double(rank) * Double(width)).squareRoot().squareRoot()
                expectNormal(values, deviation: deviation, name)
            }
        }
    }

    @Test("Norms of every kind begin as scale 1 and shift 0, positions as embeddings")
    func otherFamilies() throws {
        var description = try description()
        let norm = NormDescription(.layer, epsilon: 1e-5, hasBias: true)
        let gemma = NormDescription(.rms, epsilon: 1e-6, offset: 1)
        description.positionRows = 67
        description.finalNorm = norm
        description.blocks[0].norms = .init(
            attentionInput: norm, attentionOutput: gemma, feedForwardInput: norm, feedForwardOutput: gemma)
        description.blocks[0].attention.headNorm = gemma
        var counts: [String: Int] = [:]
        for (parameter, values) in values(ModelWeights(description, seed: 3)) {
            let name = parameter.name
            switch parameter.role {
            case .norm(let own): #expect(values.allSatisfy { $0 == (own == gemma ? 0 : 1) }, "\(name)")
            case .normBias: #expect(values.allSatisfy { $0 == 0 }, "\(name)")
            default: expectNormal(values, deviation: 0.02, name)
            }
            if parameter.weight.shape.count == 1 {
                counts[parameter.role == .normBias ? "bias" : "norm", default: 0] += 1
            }
        }
        // Six norms and two of them with a bias in block 0, two in block 1, one with a bias at the end.
        #expect(counts == ["norm": 9, "bias": 3])
    }

    @Test("Tied models have no head of their own, and low-rank ones no dense matrices")
    func names() throws {
        let tied = ModelWeights(try description(isTied: true), seed: 1)
        #expect(tied.head === tied.embedding)
        #expect(!tied.parameters.contains { $0.name == "lm_head.weight" || $0.name.contains("cola_") })
        let lowRank = ModelWeights(try description().with(rank: 4), seed: 1)
        #expect(lowRank.parameters.count { $0.name.contains("cola_") } == 28)
        #expect(!lowRank.parameters.contains { $0.name.hasSuffix("_proj.weight") })
    }
}
