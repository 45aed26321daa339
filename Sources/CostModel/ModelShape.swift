import Transformer

/// One linear layer as the formulas see it.
public struct LinearShape: Sendable, Equatable {
    public let module: LinearModule
    public let inputs: Int
    public let outputs: Int
    /// r, the width of the bottleneck; nil for a layer that stays dense.
    public let rank: Int?
    public let hasBias: Bool
    /// Whether σ stands in the bottleneck.
    public let isActivated: Bool

    /// Parameters of the dense matrix, d_in · d_out.
    public var denseParameters: Int { inputs * outputs }
    /// Parameters of both factors, r · (d_in + d_out); 0 for a layer that stays dense.
    public var factorParameters: Int { (rank ?? 0) * (inputs + outputs) }
    /// Parameters of the matrices that a CoLA model has here.
    public var colaParameters: Int { rank == nil ? denseParameters : factorParameters }
    public var biasParameters: Int { hasBias ? outputs : 0 }
}

/// A decoder's shapes and the rank of each of its linear layers: all of a model that the formulas need.
public struct ModelShape: Sendable, Equatable {
    public let configuration: DecoderConfiguration
    /// The linear layers of each decoder layer, in the order of `LinearModule.allCases`.
    public let layers: [[LinearShape]]

    /// - Parameter layout: rank and bias of each linear layer; a layer without a rank stays dense.
    /// - Throws: `CostModelError.setting` for a rank that is not from 1 to min(d_in, d_out).
    public init(
        _ configuration: DecoderConfiguration, layout: (Int, LinearModule) -> DecoderWeights.ProjectionLayout
    ) throws(CostModelError) {
        self.configuration = configuration
        var layers: [[LinearShape]] = []
        for layer in 0..<configuration.layers {
            var linears: [LinearShape] = []
            for module in LinearModule.allCases {
                let ((inputs, outputs), layout) = (configuration.shape(of: module), layout(layer, module))
                if let rank = layout.rank, !(1...min(inputs, outputs)).contains(rank) {
                    throw .setting(
                        name: "rank of layer \(layer) \(module.rawValue)", found: "\(rank)",
                        expected: "1 to \(min(inputs, outputs)), the width of a layer of \(inputs) → \(outputs)")
                }
                linears.append(
                    LinearShape(
                        module: module, inputs: inputs, outputs: outputs, rank: layout.rank, hasBias: layout.hasBias,
                        isActivated: layout.rank != nil && configuration.placement.hasInnerActivation(module)))
            }
            layers.append(linears)
        }
        self.layers = layers
    }

    /// The same rank in all linear layers, or none, without biases.
    public init(_ configuration: DecoderConfiguration, rank: Int?) throws(CostModelError) {
        try self.init(configuration) { _, _ in .init(rank: rank) }
    }

    private init(_ configuration: DecoderConfiguration, _ layers: [[LinearShape]]) {
        self.configuration = configuration
        self.layers = layers
    }

    /// The dense model of the same shapes: the SwiGLU has its silu, low-rank layers lose their biases, which come with
    /// CoLA's factors.
    public var dense: ModelShape {
        var configuration = configuration
        configuration.placement = .both
        return ModelShape(
            configuration,
            layers.map { linears in
                linears.map {
                    LinearShape(
                        module: $0.module, inputs: $0.inputs, outputs: $0.outputs, rank: nil,
                        hasBias: $0.rank == nil && $0.hasBias, isActivated: false)
                }
            })
    }

    /// The model's first decoder layers.
    public func prefix(layers count: Int) -> ModelShape {
        var configuration = configuration
        configuration.layers = min(count, configuration.layers)
        return ModelShape(configuration, Array(layers.prefix(count)))
    }

    /// The layout that an engine's weights have.
    public func layout(layer: Int, module: LinearModule) -> DecoderWeights.ProjectionLayout {
        let linear = layers[layer][LinearModule.allCases.firstIndex(of: module)!]
        return .init(rank: linear.rank, hasBias: linear.hasBias)
    }

    public var isLowRank: Bool { linears.contains { $0.rank != nil } }

    /// All linear layers.
    var linears: [LinearShape] { layers.flatMap { $0 } }

    /// Sum of a count over all linear layers.
    func sum(_ count: (LinearShape) -> Int) -> Int { linears.reduce(0) { $0 + count($1) } }

    /// Parameters of the embedding, and of the head where it is not the embedding's transpose.
    var vocabularyParameters: Int {
        (configuration.tiesEmbedding ? 1 : 2) * configuration.vocabularySize * configuration.hiddenSize
    }

    /// Parameters of the norms: two in each layer, one at the end.
    var normParameters: Int { (2 * configuration.layers + 1) * configuration.hiddenSize }

    /// Parameters of the model with these factors in its low-rank layers; tied ones count once.
    public var parameters: Int {
        vocabularyParameters + normParameters + sum { $0.colaParameters + $0.biasParameters }
    }
}
