/// A decoder-only language model as a value: its sizes, and block by block what is computed. A family makes it of a
/// configuration, and everything else follows from it: parameters, buffers, products, costs.
public struct ModelDescription: Sendable, Equatable {
    /// The name of the family that described it.
    public var family: String
    /// `model_type` of the configuration.
    public var modelType: String
    /// C.
    public var hiddenSize: Int
    /// V.
    public var vocabularySize: Int
    /// Whether the head is the embedding's transpose.
    public var tiesEmbedding: Bool
    /// Largest number of positions the model was trained for, if the configuration says.
    public var maximumPositions: Int?
    /// What the embedding of a token is multiplied by.
    public var embeddingScale: Float = 1
    /// Rows of the table of learned position embeddings; nil without one.
    public var positionRows: Int?
    public var finalNorm: NormDescription
    public var placement: ActivationPlacement
    public var blocks: [BlockDescription]

    /// All linear layers, in the order of blocks, and of parameters inside.
    public var linears: [LinearLayer] { blocks.flatMap(\.linears) }

    public func linear(_ id: LinearLayer.ID) -> LinearLayer? {
        blocks.indices.contains(id.block) ? blocks[id.block].linears.first { $0.id == id } : nil
    }

    public var isLowRank: Bool { blocks.contains { $0.linears.contains(where: \.isLowRank) } }

    /// The paths of all linear layers inside a block, each once, in the order of blocks.
    public var modules: [String] {
        var seen: Set<String> = []
        return linears.map(\.module).filter { seen.insert($0).inserted }
    }

    // MARK: - CoLA

    /// The same model with other bottlenecks and biases. A layer with a rank has σ where the placement puts it.
    public func with(_ layout: (LinearLayer) -> LinearLayout) -> ModelDescription {
        var result = self
        for block in blocks.indices {
            for index in blocks[block].linears.indices {
                let linear = blocks[block].linears[index]
                let layout = layout(linear)
                result.blocks[block].linears[index].hasBias = layout.hasBias
                result.blocks[block].linears[index].bottleneck = layout.rank.map {
                    .init(
                        rank: $0,
                        isActivated: placement.hasInnerActivation(
                            linear.role, isGated: blocks[block].feedForward.isGated))
                }
            }
        }
        return result
    }

    /// The same model with one rank for all linear layers, or with dense ones; biases stay.
    public func with(rank: Int?) -> ModelDescription { with { .init(rank: rank, hasBias: $0.hasBias) } }

    /// The same model with σ elsewhere. `outer` is the activation of the feed-forward networks where the placement keeps it.
    public func with(_ placement: ActivationPlacement, outer: Activation) -> ModelDescription {
        var result = self
        result.placement = placement
        for block in result.blocks.indices {
            result.blocks[block].feedForward.activation = placement.hasOuterActivation ? outer : .identity
        }
        return result.with { .init(rank: $0.rank, hasBias: $0.hasBias) }
    }

    /// The model's first blocks.
    public func prefix(blocks count: Int) -> ModelDescription {
        var result = self
        result.blocks = Array(blocks.prefix(count))
        return result
    }

    // MARK: - FLOPs

    /// FLOPs of one token's products with weights, head included: two for each parameter.
    public var weightFLOPs: Int { linears.reduce(2 * vocabularySize * hiddenSize) { $0 + $1.flops } }

    /// FLOPs of the linear layers and the attention of the first `blocks` (all by default) for one sequence of `length`
    /// tokens, head excluded.
    public func flops(sequenceLength length: Int, blocks count: Int? = nil) -> Double {
        blocks.prefix(count ?? blocks.count).reduce(0) { sum, block in
            sum + Double(length * block.linears.reduce(0) { $0 + $1.flops })
                + block.attention.flops(sequenceLength: length)
        }
    }

    /// FLOPs of forward and backward for one sequence of `length` tokens: three times the products of linear layers and head;
    /// attention has two products forward and five backward. Recomputation by the memory mode not included.
    public func trainingFLOPs(sequenceLength length: Int) -> Double {
        let attention = blocks.reduce(0) { $0 + $1.attention.flops(sequenceLength: length) }
        return 3 * Double(length * weightFLOPs) + 3.5 * attention
    }
}

/// How a linear layer is stored: how wide its bottleneck is, and whether it has a bias.
public struct LinearLayout: Sendable, Equatable {
    public var rank: Int?
    public var hasBias: Bool

    public init(rank: Int? = nil, hasBias: Bool = false) {
        self.rank = rank
        self.hasBias = hasBias
    }
}

/// One block of a model: attention and feed-forward network, each with the norms around it and a residual sum.
///
///     middle = input  + normOut(attention(norm(input)))
///     output = middle + normOut(feedForward(norm(middle)))
public struct BlockDescription: Sendable, Equatable {
    /// The norms around the two parts; nil for one that is not there.
    public struct Norms: Sendable, Equatable {
        public var attentionInput: NormDescription?
        public var attentionOutput: NormDescription?
        public var feedForwardInput: NormDescription?
        public var feedForwardOutput: NormDescription?

        public init(
            attentionInput: NormDescription?, attentionOutput: NormDescription? = nil,
            feedForwardInput: NormDescription?, feedForwardOutput: NormDescription? = nil
        ) {
            self.attentionInput = attentionInput
            self.attentionOutput = attentionOutput
            self.feedForwardInput = feedForwardInput
            self.feedForwardOutput = feedForwardOutput
        }
    }

    public var norms: Norms
    public var attention: AttentionDescription
    public var feedForward: FeedForwardDescription
    public var linears: [LinearLayer]

    /// The linear layers are those of attention and feed-forward network; `hasBias` says which have one.
    public init(
        index: Int, hiddenSize: Int, norms: Norms, attention: AttentionDescription,
        feedForward: FeedForwardDescription, hasBias: (LinearRole) -> Bool
    ) {
        self.norms = norms
        self.attention = attention
        self.feedForward = feedForward
        linears = LinearRole.allCases.filter { $0 != .gate || feedForward.isGated }.map { role in
            let (inputs, outputs) =
                switch role {
                case .query: (hiddenSize, attention.queryWidth)
                case .key, .value: (hiddenSize, attention.keyValueWidth)
                case .output: (attention.queryWidth, hiddenSize)
                case .gate, .up: (hiddenSize, feedForward.width)
                case .down: (feedForward.width, hiddenSize)
                }
            return LinearLayer(block: index, role, inputs: inputs, outputs: outputs, hasBias: hasBias(role))
        }
    }

    /// The linear layers that read a stream.
    public func linears(reading stream: Stream) -> [LinearLayer] { linears.filter { $0.role.stream == stream } }

    /// The linear layer that stands for all that read the same stream: q for q, k and v.
    public func inputOwner(of linear: LinearLayer) -> LinearLayer.ID {
        linears.first { $0.role.stream == linear.role.stream }?.id ?? linear.id
    }

    /// Columns of a stream.
    public func width(of stream: Stream) -> Int { linears(reading: stream).first?.inputs ?? 0 }
}
