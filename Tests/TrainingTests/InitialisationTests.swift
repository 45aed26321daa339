import Foundation
import TestSupport
import Testing
import Transformer

@testable import Training

@Suite("First weights")
struct InitialisationTests {
    private func configuration(isTied: Bool = false) throws -> DecoderConfiguration {
        let json = """
            {"model_type": "llama", "hidden_size": 60, "intermediate_size": 97, "num_hidden_layers": 2,
             "num_attention_heads": 3, "num_key_value_heads": 1, "vocab_size": 211, "tie_word_embeddings": \(isTied)}
            """
        return try DecoderConfiguration(json: json, path: "sample")
    }

    private func values(_ weights: DecoderWeights) -> [(name: String, values: [Double])] {
        var all: [(String, [Double])] = []
        weights.visitParameters { name, weight in
            guard case .single(let matrix) = weight.storage else { return }
            all.append((name, matrix.buffer.map(Double.init)))
        }
        return all
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
        let configuration = try configuration()
        let weights = DecoderWeights(configuration, rank: rank, hasBias: { $0 != .down }, seed: 21)
        var biases: [Double] = []
        let all = values(weights)
        for (name, values) in all {
            let module = LinearModule.allCases.first { name.contains($0.rawValue + ".") }
            if name.hasSuffix("norm.weight") {
                #expect(values.allSatisfy { $0 == 1 }, "\(name)")
            } else if let module, name.hasSuffix(".bias") {
                let (_, outputs) = configuration.shape(of: module)
                if rank == nil { #expect(values.allSatisfy { $0 == 0 }, "\(name)") }
                // In units of the limit.
                biases += values.map { $0 * Double(outputs).squareRoot() }
            } else if let module, let rank {
                // s = r^(−1/4) · (d_in + d_out)^(−1/4)
                let (inputs, outputs) = configuration.shape(of: module)
                let deviation = 1 / (Double(rank) * Double(inputs + outputs)).squareRoot().squareRoot()
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
        let configuration = try configuration()
        let runs = [5, 5, 6].map { bits(DecoderWeights(configuration, rank: 4, seed: $0)) }
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

    @Test("Each projection is filled by its own layout where ranks differ and some are dense")
    func layouts() throws {
        let configuration = try configuration()
        func rank(_ layer: Int, _ module: LinearModule) -> Int? {
            [nil, 3, 7][(layer + LinearModule.allCases.firstIndex(of: module)!) % 3]
        }
        let mixed = DecoderWeights(configuration, seed: 9) { .init(rank: rank($0, $1), hasBias: true) }
        for (name, values) in values(mixed) {
            let layer = name.contains("layers.1.") ? 1 : 0
            guard let module = LinearModule.allCases.first(where: { name.contains($0.rawValue + ".") }) else {
                continue
            }
            let (inputs, outputs) = configuration.shape(of: module)
            let largest = values.map(abs).max() ?? 0
            switch (rank(layer, module), name.hasSuffix(".bias")) {
            case (nil, true): #expect(largest == 0, "\(name)")
            case (nil, false):
                #expect(values.count == inputs * outputs)
                expectNormal(values, deviation: 0.02, name)
            case (.some, true):
                let limit = 1 / Double(outputs).squareRoot()
                #expect(largest <= limit * (1 + 1e-6) && largest > 0.7 * limit, "\(name)")
            case (.some(let rank), false):
                #expect(values.count == rank * (name.hasSuffix("cola_a") ? inputs : outputs))
                let deviation = 1 / (Double(rank) * Double(inputs + outputs)).squareRoot().squareRoot()
                expectNormal(values, deviation: deviation, name)
            }
        }
    }

    @Test("Tied models have no head of their own, and low-rank ones no dense projections")
    func names() throws {
        let tied = DecoderWeights(try configuration(isTied: true), rank: nil, seed: 1)
        #expect(tied.head === tied.embedding)
        #expect(!values(tied).contains { $0.name == "lm_head.weight" || $0.name.contains("cola_") })
        let lowRank = DecoderWeights(try configuration(), rank: 4, seed: 1)
        #expect(values(lowRank).count { $0.name.contains("cola_") } == 28)
        #expect(!values(lowRank).contains { $0.name.hasSuffix("_proj.weight") })
    }
}
