import LinearAlgebra
import Tensors
import TestSupport
import Transformer

@testable import LowRank

/// Matrices in double precision and plain loops over them.
enum Sample {
    static func normal(_ rows: Int, _ columns: Int, seed: UInt64) -> DoubleMatrix {
        var generator = SeededGenerator(seed: seed)
        return DoubleMatrix(shape: [rows, columns], (0..<rows * columns).map { _ in generator.normal() })
    }

    /// Rows whose features differ in size by a factor of about a hundred, and are correlated.
    static func activations(_ rows: Int, _ features: Int, seed: UInt64) -> DoubleMatrix {
        let (x, mix) = (normal(rows, features, seed: seed), normal(features, features, seed: seed + 1))
        for i in 0..<features {
            for j in 0..<features { mix[i, j] *= 1 / (1 + Double(i * i) / 4) }
        }
        let result = product(x, mix)
        for i in 0..<rows { for j in 0..<features { result[i, j] += 0.3 } }
        return result
    }

    static func product(_ a: DoubleMatrix, _ b: DoubleMatrix) -> DoubleMatrix {
        let result = DoubleMatrix(shape: [a.rows, b.columns])
        for i in 0..<a.rows {
            for j in 0..<b.columns { result[i, j] = (0..<a.columns).reduce(0) { $0 + a[i, $1] * b[$1, j] } }
        }
        return result
    }

    static func transpose(_ a: DoubleMatrix) -> DoubleMatrix {
        let result = DoubleMatrix(shape: [a.columns, a.rows])
        for i in 0..<a.rows { for j in 0..<a.columns { result[j, i] = a[i, j] } }
        return result
    }

    static func difference(_ a: DoubleMatrix, _ b: DoubleMatrix) -> DoubleMatrix {
        DoubleMatrix(shape: a.shape, zip(a.elements, b.elements).map { $0 - $1 })
    }

    /// E[x·xᵀ] of rows.
    static func secondMoment(_ x: DoubleMatrix) -> DoubleMatrix {
        let gram = product(transpose(x), x)
        return DoubleMatrix(shape: gram.shape, gram.elements.map { $0 / Double(x.rows) })
    }

    /// tr(E·C·Eᵀ·Γ): E‖Γ^½·E·x‖², Γ the identity where it is nil.
    static func weightedError(_ error: DoubleMatrix, input: DoubleMatrix, gradient: DoubleMatrix? = nil) -> Double {
        let output = product(product(error, input), transpose(error))
        let weighted = gradient.map { product($0, output) } ?? output
        return (0..<weighted.rows).reduce(0) { $0 + weighted[$1, $1] }
    }

    static func single(_ a: DoubleMatrix) -> Matrix { Matrix(shape: a.shape, a.elements.map { Float($0) }) }
    static func double(_ a: Matrix) -> DoubleMatrix { DoubleMatrix(shape: a.shape, a.elements.map { Double($0) }) }
}

/// A tiny dense decoder with random weights, and texts for it.
enum TinyDecoder {
    static let vocabulary = 41

    static func make(
        keyValueHeads: Int = 1, isTied: Bool = false, hasBias: Bool = false, layers: Int = 2
    ) throws -> Decoder {
        let configuration = try DecoderConfiguration(
            json: """
                {"hidden_size": 20, "intermediate_size": 33, "num_hidden_layers": \(layers), "num_attention_heads": 3,
                 "num_key_value_heads": \(keyValueHeads), "head_dim": 8, "vocab_size": \(vocabulary),
                 "tie_word_embeddings": \(isTied)}
                """, path: "tiny")
        let weights = DecoderWeights(configuration, precision: .f32) { _, _ in .init(hasBias: hasBias) }
        var seed: UInt64 = 500
        weights.visitParameters { name, weight in
            seed += 1
            let isNorm = name.hasSuffix("norm.weight")
            weight.fillNormal(
                deviation: isNorm ? 0.2 : name.contains("embed") ? 1 : 0.25, mean: isNorm ? 1 : 0, seed: seed)
        }
        return Decoder(configuration, weights)
    }

    static func sequences(_ lengths: [Int], seed: UInt64 = 9) -> [ArraySlice<UInt32>] {
        var generator = SeededGenerator(seed: seed)
        return lengths.map { length in
            (0..<length).map { _ in UInt32(generator.next() % UInt64(vocabulary)) }[...]
        }
    }

    /// The residual stream of a batch, row by row.
    static func hidden(_ decoder: Decoder, _ batch: TokenBatch) -> [Double] {
        let workspace = Workspace(decoder, maximumTokens: batch.count, longestSequence: batch.longest)
        return withExtendedLifetime(workspace) {
            let view = decoder.forward(batch, in: workspace)
            return (0..<view.rows).flatMap { row in (0..<view.columns).map { Double(view[row, $0]) } }
        }
    }

    /// A plan with the same rank everywhere, by hand.
    static func plan(_ decoder: Decoder, weighting: Weighting = .fisher, rank: (Int, LinearModule) -> Int?) -> RankPlan
    {
        let layers = (0..<decoder.configuration.layers).flatMap { layer in
            LinearModule.allCases.map { module in
                let (inputs, outputs) = decoder.configuration.shape(of: module)
                return LayerEnergies(
                    layer: layer, module: module, outputs: outputs, inputs: inputs, hasBias: false,
                    energies: [Double](repeating: 1, count: min(inputs, outputs)))
            }
        }
        return RankPlan(
            layers, ranks: layers.map { rank($0.layer, $0.module) }, fingerprint: decoder.weights.fingerprint,
            weighting: weighting, policy: [:], calibration: nil)
    }

    /// The configuration of the converted model.
    static func converted(_ decoder: Decoder, _ plan: RankPlan, _ activation: ConversionRecipe.Activation)
        -> DecoderConfiguration
    {
        var configuration = decoder.configuration
        configuration.placement = activation == .silu ? .both : .original
        return configuration
    }
}
