import Checkpoints
import Tensors

/// A LLaMA-type decoder: configuration and weights, and the forward pass over a workspace.
public final class Decoder: Sendable {
    public let configuration: DecoderConfiguration
    public let weights: DecoderWeights
    public let precision: Precision

    public init(_ configuration: DecoderConfiguration, _ weights: DecoderWeights, precision: Precision = .f32) {
        self.configuration = configuration
        self.weights = weights
        self.precision = precision
    }

    /// Loads configuration and weights; without `includingHead` only what the hidden states need.
    public convenience init(
        from source: any TensorSource, precision: Precision = .f32, includingHead: Bool = true
    ) throws {
        let configuration = try DecoderConfiguration(of: source)
        let weights = try DecoderWeights(
            from: source, configuration, precision: precision, includingHead: includingHead)
        self.init(configuration, weights, precision: precision)
    }

    /// Throws `TransformerError.token` at the first id that the embedding has no row for.
    public func validate(_ ids: [UInt32]) throws(TransformerError) {
        let vocabulary = UInt32(clamping: configuration.vocabularySize)
        if let position = ids.firstIndex(where: { $0 >= vocabulary }) {
            throw .token(id: ids[position], position: position, vocabulary: configuration.vocabularySize)
        }
    }

    /// Runs the first `layers` decoder layers (all by default) and returns the residual stream `[N, C]`, before the last
    /// RMSNorm. The view is the workspace's and holds until the next pass.
    @discardableResult
    public func forward(
        _ batch: TokenBatch, in workspace: Workspace, layers: Int? = nil, observer: (any ActivationObserver)? = nil
    ) -> MatrixView<Float> {
        let n = batch.count
        precondition(
            n <= workspace.maximumTokens && batch.longest <= workspace.longestSequence,
            "a batch of \(n) tokens, longest \(batch.longest), in a workspace for \(workspace.maximumTokens), "
                + "longest \(workspace.longestSequence)")
        let all = 0..<n
        let hidden = workspace.hidden.view.rows(all)
        let activations = workspace.activations
        embed(batch, into: workspace.hidden)
        let pass = LayerPass(configuration, batch, workspace.scratch)
        for (index, layer) in weights.layers.prefix(layers ?? weights.layers.count).enumerated() {
            func observe(_ site: ActivationSite, _ matrix: Matrix) {
                observer?.observe(site, layer: index, matrix.view.rows(all))
            }
            observe(.residualInput, workspace.hidden)
            pass.projectQueries(layer, activations)
            observe(.input(.query), activations[.attentionInput])
            pass.attend(activations)
            observe(.input(.output), activations[.attended])
            pass.feedForward(layer, activations, into: workspace.hidden)
            observe(.input(.gate), activations[.mlpInput])
            observe(.input(.down), activations[.product])
            observe(.mlpOutput, workspace.scratch.projected)
            observe(.residualOutput, workspace.hidden)
            for module in LinearModule.allCases {
                guard case .lowRank(let lowRank) = layer[module], lowRank.isActivated,
                    let h = activations.bottleneck(module, layer[module], rows: all)
                else { continue }
                observer?.observe(.bottleneck(module), layer: index, h)
            }
        }
        return hidden
    }

    /// Columns of the activations at a site of a layer; 0 for the bottleneck of a dense projection, which has none.
    public func features(at site: ActivationSite, layer: Int) -> Int {
        switch site {
        case .input(let module): configuration.shape(of: module).inputs
        case .mlpOutput, .residualInput, .residualOutput: configuration.hiddenSize
        case .bottleneck(let module): weights.layers[layer][module].rank ?? 0
        }
    }

    /// FLOPs of one token's products with weights: linear layers and head, two per parameter.
    public var weightFLOPs: Int {
        weights.layers.reduce(2 * configuration.vocabularySize * configuration.hiddenSize) { sum, layer in
            LinearModule.allCases.reduce(sum) { $0 + layer[$1].flops }
        }
    }

    /// FLOPs of the linear layers and the causal attention for one sequence of `length` tokens, head excluded.
    public func flops(sequenceLength length: Int, layers: Int? = nil) -> Double {
        let attention = Attention(configuration).flops(sequenceLength: length)
        return weights.layers.prefix(layers ?? weights.layers.count).reduce(0) { sum, layer in
            let linear = LinearModule.allCases.reduce(0) { $0 + layer[$1].flops }
            return sum + Double(length * linear) + attention
        }
    }
}

extension DecoderConfiguration {
    /// The configuration that a checkpoint carries.
    public init(of source: any TensorSource) throws(TransformerError) {
        guard let text = source.configuration else {
            throw .configuration(
                path: source.path, key: "config", found: "none in the file and no config.json beside it",
                expected: "the text of a Hugging Face config.json; give one with --config")
        }
        try self.init(json: text, path: source.path)
    }
}
