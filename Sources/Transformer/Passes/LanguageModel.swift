import Checkpoints
import Tensors

/// A model to compute with: what it is, its weights, and the precision of its products.
public final class LanguageModel: Sendable {
    public let description: ModelDescription
    public let weights: ModelWeights
    public let precision: Precision

    public init(_ weights: ModelWeights, precision: Precision = .f32) {
        description = weights.description
        self.weights = weights
        self.precision = precision
    }

    /// Loads a checkpoint; without `includingHead` only what the hidden states need.
    ///
    /// Throws `TransformerError` for a configuration that cannot be used, and `CheckpointError` for tensors.
    public convenience init(
        from source: any TensorSource, precision: Precision = .f32, includingHead: Bool = true
    ) throws {
        let weights = try ModelWeights(
            from: source, ModelDescription(of: source), precision: precision, includingHead: includingHead)
        self.init(weights, precision: precision)
    }

    /// Throws `TransformerError.token` at the first id that the embedding has no row for, and `.position` for more tokens
    /// than there are learned positions.
    public func validate(_ ids: [UInt32]) throws(TransformerError) {
        let vocabulary = UInt32(clamping: description.vocabularySize)
        if let position = ids.firstIndex(where: { $0 >= vocabulary }) {
            throw .token(id: ids[position], position: position, vocabulary: description.vocabularySize)
        }
        try description.validate(length: ids.count)
    }

    /// Runs the first `blocks` blocks (all by default) and returns the residual stream `[N, C]`, before the last norm. The
    /// view is the workspace's and holds until the next pass.
    @discardableResult
    public func forward(
        _ batch: TokenBatch, in workspace: Workspace, blocks: Int? = nil, observer: (any ActivationObserver)? = nil
    ) -> MatrixView<Float> {
        batch.check(fits: workspace.maximumTokens, longest: workspace.longestSequence)
        let hidden = workspace.hidden.view.rows(0..<batch.count)
        embed(batch, into: hidden)
        let context = PassContext(batch, workspace.scratch)
        for index in 0..<min(blocks ?? .max, description.blocks.count) {
            let trace = workspace.traces[index].prefix(rows: batch.count)
            let block = DecoderBlock(self, index, context)
            observer?.observe(.residualInput, block: index, hidden)
            if block.weights.attentionInput == nil {
                // The stream itself, which the block overwrites.
                observer?.observe(.input(.attentionInput), block: index, hidden)
            }
            block.forward(trace, into: hidden)
            if let observer { show(block, trace, index, to: observer) }
        }
        return hidden
    }

    /// Shows an observer what a block has made.
    private func show(_ block: DecoderBlock, _ trace: BlockTrace, _ index: Int, to observer: any ActivationObserver) {
        for stream in Stream.allCases where stream != .attentionInput || block.weights.attentionInput != nil {
            observer.observe(.input(stream), block: index, block.input(of: stream, trace))
        }
        observer.observe(.feedForwardOutput, block: index, block.output(of: .product, trace))
        observer.observe(.residualOutput, block: index, trace[.input])
        for stream in Stream.allCases {
            let group = block.weights[stream]
            for (member, layer) in zip(group.members.indices, group.layers) where layer.bottleneck?.isActivated == true
            {
                observer.observe(
                    .bottleneck(module: layer.module), block: index,
                    trace[.bottleneck(stream)].columns(group.bottlenecks[member]))
            }
        }
    }

    /// Columns of the activations at a site of a block; 0 for the bottleneck of a dense linear layer, which has none.
    public func features(at site: ActivationSite, block: Int) -> Int {
        switch site {
        case .input(let stream): description.blocks[block].width(of: stream)
        case .feedForwardOutput, .residualInput, .residualOutput: description.hiddenSize
        case .bottleneck(let module): description.linear(.init(block: block, module: module))?.rank ?? 0
        }
    }
}

extension ModelDescription {
    /// Throws `TransformerError.positions` for a sequence that is longer than the table of learned positions.
    public func validate(length: Int) throws(TransformerError) {
        if let rows = positionRows, length > rows { throw .positions(length: length, rows: rows) }
    }
}

extension TokenBatch {
    func check(fits tokens: Int, longest length: Int) {
        precondition(
            count <= tokens && longest <= length,
            "a batch of \(count) tokens, longest \(longest), in a workspace for \(tokens), longest \(length)")
    }
}
