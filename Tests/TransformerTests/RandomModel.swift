import Tensors
import Testing

@testable import Transformer

/// A tiny model with random weights, described by what sets it apart from the others.
struct RandomModel: CustomTestStringConvertible, Sendable {
    var name: String
    var modelType = "llama"
    var hidden = 24
    var intermediate = 37
    var blocks = 2
    var heads = 4
    var keyValueHeads = 2
    /// C / H if nil.
    var headSize: Int?
    var vocabulary = 29
    var isTied = false
    /// More keys of the configuration.
    var keys = ""
    var placement: ActivationPlacement = .both
    /// The rank of a linear layer in a block; dense where nil.
    var rank: @Sendable (Int, LinearRole) -> Int? = { _, _ in nil }
    /// Linear layers that have a bias besides those of the family.
    var biases: Set<LinearRole> = []
    /// In place of a configuration.
    var dense: (@Sendable () -> ModelDescription)?

    var testDescription: String { name }

    var json: String {
        let sizes =
            modelType == "gpt2"
            ? """
            "n_embd": \(hidden), "n_inner": \(intermediate), "n_layer": \(blocks), "n_head": \(heads),
             "layer_norm_epsilon": 1e-5
            """
            : """
            "hidden_size": \(hidden), "intermediate_size": \(intermediate), "num_hidden_layers": \(blocks),
             "num_attention_heads": \(heads), "num_key_value_heads": \(keyValueHeads), "rms_norm_eps": 1e-5
            """
        let more = [headSize.map { "\"head_dim\": \($0)" }, keys.isEmpty ? nil : keys].compactMap { $0 }
        return """
            {"model_type": "\(modelType)", \(sizes), "vocab_size": \(vocabulary), "tie_word_embeddings": \(isTied),
             "cola_activation": "\(placement.rawValue)"\(more.map { ", " + $0 }.joined())}
            """
    }

    func description() throws -> ModelDescription {
        let dense = try dense?() ?? ModelDescription(json: json, path: name)
        return dense.with { linear in
            LinearLayout(
                rank: rank(linear.block, linear.role), hasBias: linear.hasBias || biases.contains(linear.role))
        }
    }

    /// Weights of a size that keeps activations near 1, norms near 1, each tensor from its own seed.
    func make(precision: Precision = .f32) throws -> LanguageModel {
        let weights = ModelWeights(try description(), precision: precision)
        for (index, parameter) in weights.parameters.enumerated() {
            let (deviation, mean) = Self.distribution(of: parameter)
            parameter.weight.fillNormal(deviation: deviation, mean: mean, seed: 101 + UInt64(index))
        }
        return LanguageModel(weights, precision: precision)
    }

    private static func distribution(of parameter: Parameter) -> (deviation: Double, mean: Double) {
        switch parameter.role {
        case .norm(let norm): (0.2, 1 - Double(norm.offset))
        case .bias, .normBias: (0.3, 0)
        case .embedding, .positions: (1, 0)
        case .factorA, .factorB: (1.2 / Double(parameter.weight.rows).squareRoot(), 0)
        case .weight, .head: (1.2 / Double(parameter.weight.columns).squareRoot(), 0)
        }
    }

    /// How many rounded additions, one after the other, lie between an id and the residual stream: the products of a
    /// block add over C, the past, H·D, C and F, low-rank ones over R besides.
    func depth(longest: Int) -> Double {
        let width = heads * (headSize ?? hidden / heads)
        return Double(blocks * (2 * hidden + longest + width + intermediate + 5 * 16))
    }

    static func named(_ name: String) -> RandomModel { all.first { $0.name == name }! }

    /// Random ids.
    func ids(_ count: Int, seed: UInt64 = 7) -> [UInt32] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { _ in UInt32(generator.next() % UInt64(vocabulary)) }
    }
}

/// Half a unit in the last place of 1 in single precision, and in bfloat16.
let singleError = 0x1p-24
let bfloat16Error = 0x1p-9

extension LanguageModel {
    /// The residual stream of a batch, copied out of a workspace of its own.
    func hiddenStates(_ batch: TokenBatch, blocks: Int? = nil, observer: (any ActivationObserver)? = nil) -> [Double] {
        let workspace = Workspace(self, maximumTokens: batch.count, longestSequence: batch.longest)
        return withExtendedLifetime(workspace) {
            copied(forward(batch, in: workspace, blocks: blocks, observer: observer))
        }
    }
}

extension ModelWeights {
    /// The elements of all parameters in single precision, row by row, in their order.
    var elements: [(name: String, values: [Double])] { parameters.map { ($0.name, copied($0.weight.view)) } }
}

/// The elements of a view, row by row.
func copied(_ view: MatrixView<Float>) -> [Double] {
    (0..<view.rows).flatMap { row in (0..<view.columns).map { Double(view[row, $0]) } }
}

/// Collects everything a model shows.
final class Collector: ActivationObserver {
    struct Place: Hashable {
        let block: Int
        let site: ActivationSite
    }

    var activations: [Place: [Double]] = [:]
    var order: [Place] = []

    func observe(_ site: ActivationSite, block: Int, _ matrix: MatrixView<Float>) {
        let place = Place(block: block, site: site)
        if activations[place] == nil { order.append(place) }
        activations[place, default: []] += copied(matrix)
    }
}
