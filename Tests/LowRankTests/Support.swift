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

/// Tiny dense models with random weights, and texts for them.
enum TinyModel {
    static let vocabulary = 41

    /// Built like LLaMA.
    static func make(
        keyValueHeads: Int = 1, isTied: Bool = false, hasBias: Bool = false, layers: Int = 2
    ) throws -> LanguageModel {
        random(try description(keyValueHeads: keyValueHeads, isTied: isTied, hasBias: hasBias, layers: layers))
    }

    static func description(
        keyValueHeads: Int = 1, isTied: Bool = false, hasBias: Bool = false, layers: Int = 2
    ) throws -> ModelDescription {
        try ModelDescription(
            json: """
                {"hidden_size": 20, "intermediate_size": 33, "num_hidden_layers": \(layers), "num_attention_heads": 3,
                 "num_key_value_heads": \(keyValueHeads), "head_dim": 8, "vocab_size": \(vocabulary),
                 "tie_word_embeddings": \(isTied)}
                """, path: "tiny"
        ).with { _ in LinearLayout(hasBias: hasBias) }
    }

    /// Other ways to build a model.
    enum Kind: CaseIterable, Sendable {
        /// No gate, LayerNorm with biases, biases everywhere, learned positions: as in GPT-2.
        case ungated
        /// Norms before and behind both parts and of each head, a window, blocks of different widths: as in Gemma 3.
        case normed

        func description() throws -> ModelDescription {
            var description = try TinyModel.description(keyValueHeads: self == .ungated ? 3 : 1)
            let norm =
                self == .ungated
                ? NormDescription(.layer, epsilon: 1e-5, hasBias: true)
                : NormDescription(.rms, epsilon: 1e-6, offset: 1)
            description.finalNorm = norm
            switch self {
            case .ungated: description.positionRows = 50
            case .normed: description.embeddingScale = 4.5
            }
            for index in description.blocks.indices {
                var attention = description.blocks[index].attention
                var norms = BlockDescription.Norms(attentionInput: norm, feedForwardInput: norm)
                switch self {
                case .ungated: attention.rotary = nil
                case .normed:
                    attention.headNorm = norm
                    attention.window = index == 0 ? 7 : nil
                    norms.attentionOutput = norm
                    norms.feedForwardOutput = norm
                }
                description.blocks[index] = BlockDescription(
                    index: index, hiddenSize: 20, norms: norms, attention: attention,
                    feedForward: FeedForwardDescription(
                        width: self == .ungated ? 33 : 29 + 8 * index, isGated: self == .normed,
                        activation: .geluTanh),
                    hasBias: { _ in self == .ungated })
            }
            return description
        }
    }

    /// Each parameter from its own seed: norms near what leaves features as they are, biases not zero.
    static func random(_ description: ModelDescription) -> LanguageModel {
        let weights = ModelWeights(description, precision: .f32)
        for (index, parameter) in weights.parameters.enumerated() {
            let (deviation, mean) =
                switch parameter.role {
                case .norm(let norm): (0.2, 1 - Double(norm.offset))
                case .embedding, .positions: (1, 0)
                default: (0.25, 0)
                }
            parameter.weight.fillNormal(deviation: deviation, mean: mean, seed: 501 + UInt64(index))
        }
        return LanguageModel(weights)
    }

    static func sequences(_ lengths: [Int], seed: UInt64 = 9) -> [ArraySlice<UInt32>] {
        var generator = SeededGenerator(seed: seed)
        return lengths.map { length in
            (0..<length).map { _ in UInt32(generator.next() % UInt64(vocabulary)) }[...]
        }
    }

    /// The residual stream of a batch, row by row.
    static func hidden(_ model: LanguageModel, _ batch: TokenBatch) -> [Double] {
        let workspace = Workspace(model, maximumTokens: batch.count, longestSequence: batch.longest)
        return withExtendedLifetime(workspace) {
            let view = model.forward(batch, in: workspace)
            return (0..<view.rows).flatMap { row in (0..<view.columns).map { Double(view[row, $0]) } }
        }
    }

    /// A plan with ranks by hand.
    static func plan(
        _ model: LanguageModel, weighting: Weighting = .fisher, rank: (LinearLayer) -> Int?
    ) -> RankPlan {
        let layers = model.description.linears.map { linear in
            LayerEnergies(linear, energies: [Double](repeating: 1, count: min(linear.inputs, linear.outputs)))
        }
        return RankPlan(
            layers, ranks: layers.map { rank($0.linear) }, policy: [:],
            by: .init(fingerprint: model.weights.fingerprint, weighting: weighting, calibration: nil))
    }
}

extension LinearLayer {
    var fullRank: Int { min(inputs, outputs) }
}
