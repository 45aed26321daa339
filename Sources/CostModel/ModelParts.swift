import Transformer

extension ModelDescription {
    /// Throws `CostModelError.setting` for a rank that is not from 1 to min(d_in, d_out), which no formula is for.
    public func validateRanks() throws(CostModelError) {
        for linear in linears {
            let width = min(linear.inputs, linear.outputs)
            guard let rank = linear.rank, !(1...width).contains(rank) else { continue }
            throw .setting(
                name: "rank of \(linear.id)", found: "\(rank)",
                expected: "1 to \(width), the width of a layer of \(linear.inputs) → \(linear.outputs)")
        }
    }

    /// The dense model of the same shapes: feed-forward networks have their activation, silu where a CoLA model's
    /// configuration no longer says which; low-rank layers lose their biases, which come with CoLA's factors.
    public var dense: ModelDescription {
        let isBare = !placement.hasOuterActivation
        var result = self
        result.placement = .both
        for index in blocks.indices where isBare { result.blocks[index].feedForward.activation = .silu }
        return result.with { LinearLayout(rank: nil, hasBias: $0.hasBias && !$0.isLowRank) }
    }

    /// Sum of a count over all linear layers.
    func sum(_ count: (LinearLayer) -> Int) -> Int { linears.reduce(0) { $0 + count($1) } }

    /// Sum of a count over all blocks.
    func sumOfBlocks(_ count: (BlockDescription) -> Int) -> Int { blocks.reduce(0) { $0 + count($1) } }

    /// Parameters of the embeddings of tokens and positions, and of the head where it is not the embedding's transpose.
    var vocabularyParameters: Int {
        ((tiesEmbedding ? 1 : 2) * vocabularySize + (positionRows ?? 0)) * hiddenSize
    }

    /// Parameters of the norms: those that a block has, one at the end.
    var normParameters: Int {
        sumOfBlocks { block in
            block.norms.all.reduce(2 * (block.attention.headNorm?.parameters(block.attention.headSize) ?? 0)) {
                $0 + $1.parameters(hiddenSize)
            }
        } + finalNorm.parameters(hiddenSize)
    }

    /// Parameters of the model with these factors in its low-rank layers; tied ones count once.
    var parameters: Int { vocabularyParameters + normParameters + sum { $0.matrixParameters + $0.biasParameters } }
}

extension BlockDescription.Norms {
    /// Those that are there.
    var all: [NormDescription] {
        [attentionInput, attentionOutput, feedForwardInput, feedForwardOutput].compactMap { $0 }
    }
}

extension NormDescription {
    /// A weight, and maybe a bias, for each feature.
    fileprivate func parameters(_ features: Int) -> Int { (hasBias ? 2 : 1) * features }
}
