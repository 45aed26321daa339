import CKernels
import Tensors

extension Decoder {
    /// Loss and gradients of one batch: Σ −log p(target) in nats over the tokens that have a target, and in `gradients` the
    /// derivatives of `scale` times that sum by every parameter.
    ///
    /// - Parameters:
    ///   - targets: the token that follows each of the batch's, or nil where none is to be predicted.
    ///   - scale: 1 / (number of targets) makes the gradients those of the mean loss.
    ///   - gradients: weights of this decoder's layout in single precision.
    ///   - accumulating: adds to what `gradients` holds; else overwrites it.
    ///
    /// In f32 all memory modes give the same bits.
    public func lossAndGradients(
        of batch: TokenBatch, targets: [UInt32?], scale: Double, in workspace: TrainingWorkspace,
        into gradients: DecoderWeights, accumulating: Bool = false
    ) -> Double {
        precondition(targets.count == batch.count, "\(targets.count) targets for \(batch.count) tokens")
        return lossAndGradients(
            of: batch, CrossEntropy(targets: targets), scale: scale, in: workspace, into: gradients,
            accumulating: accumulating)
    }

    /// The same for any objective: returns the sum of its losses. Without `gradients` those of the parameters are not
    /// computed, only what the observers are shown: what enters the linear layers in the forward pass, and the gradient of
    /// what leaves them in the backward pass.
    @discardableResult
    public func lossAndGradients(
        of batch: TokenBatch, _ objective: some TokenObjective, scale: Double, in workspace: TrainingWorkspace,
        into gradients: DecoderWeights?, accumulating: Bool = false,
        activationObserver: (any ActivationObserver)? = nil,
        gradientObserver: (any GradientObserver)? = nil
    ) -> Double {
        let (all, scratch) = (0..<batch.count, workspace.backward)
        let pass = forward(batch, in: workspace, observer: activationObserver)
        let clock = ContinuousClock()
        let start = clock.now
        let loss = workspace.head.lossAndGradients(
            of: workspace.hidden.view.rows(all), objective, scale: Float(scale), gradient: gradients,
            accumulating: accumulating, scratch: workspace.headGradient, into: scratch.hidden.view.rows(all))
        workspace.headSeconds = (clock.now - start) / .seconds(1)
        for (index, layer) in weights.layers.enumerated().reversed() {
            pass.recompute(layer, workspace.layers[index], workspace.mode)
            pass.backward(
                layer, workspace.layers[index], gradient: gradients?.layers[index], accumulating: accumulating, scratch
            ) { gradientObserver?.observeGradient(of: $0, layer: index, $1) }
        }
        guard let gradients else { return loss }
        // A tied embedding already holds the head's gradient.
        let isTied = gradients.head === gradients.embedding
        differentiateEmbedding(
            batch, scratch.hidden.view.rows(all), gradients.embedding, accumulating: accumulating || isTied)
        return loss
    }

    /// −log p(target) in nats of each token that has a target, nil for the others, without gradients.
    public func losses(of batch: TokenBatch, targets: [UInt32?], in workspace: TrainingWorkspace) -> [Double?] {
        forward(batch, in: workspace)
        return workspace.head.losses(of: workspace.hidden.view.rows(0..<batch.count), targets: targets)
    }

    /// Leaves the residual stream in `workspace.hidden` and what backward needs in `workspace.layers`.
    @discardableResult
    private func forward(
        _ batch: TokenBatch, in workspace: TrainingWorkspace, observer: (any ActivationObserver)? = nil
    ) -> LayerPass {
        precondition(
            batch.count <= workspace.maximumTokens && batch.longest <= workspace.longestSequence,
            "a batch of \(batch.count) tokens, longest \(batch.longest), in a workspace for "
                + "\(workspace.maximumTokens), longest \(workspace.longestSequence)")
        let pass = LayerPass(configuration, batch, workspace.pass, activated: workspace.backward.activated)
        embed(batch, into: workspace.layers.first?[.input] ?? workspace.hidden)
        for (index, layer) in weights.layers.enumerated() {
            let activations = workspace.layers[index]
            pass.projectQueries(layer, activations)
            pass.attend(activations, keepingStatistics: true)
            let isLast = index == weights.layers.count - 1
            pass.feedForward(
                layer, activations, into: isLast ? workspace.hidden : workspace.layers[index + 1][.input])
            for (module, buffer) in LayerBuffer.inputs {
                observer?.observe(.input(module), layer: index, activations[buffer].view.rows(0..<batch.count))
            }
        }
        return pass
    }

    /// hidden `[N, C]` ← each token's row of the embedding.
    func embed(_ batch: TokenBatch, into hidden: Matrix) {
        for (row, id) in batch.ids.enumerated() { weights.embedding.copyRow(Int(id), to: hidden.view.row(row)) }
    }

    /// Backward of `embed`: a token's row of the gradient is the sum over the places where the token stands.
    private func differentiateEmbedding(
        _ batch: TokenBatch, _ hidden: MatrixView<Float>, _ gradient: Weight, accumulating: Bool
    ) {
        guard case .single(let matrix) = gradient.storage else {
            preconditionFailure("gradients are in single precision")
        }
        if !accumulating {
            ThreadPool.forEachRange(matrix.count) { part in
                (matrix.pointer + part.lowerBound).update(repeating: 0, count: part.count)
            }
        }
        ThreadPool.forEachRange(matrix.columns, granularity: 16) { columns in
            for (row, id) in batch.ids.enumerated() {
                let sum = matrix.view.row(Int(id)) + columns.lowerBound
                ck_sum(sum, hidden.row(row) + columns.lowerBound, sum, columns.count)
            }
        }
    }

    /// FLOPs of forward and backward for one sequence of `length` tokens: two more products of the same size for each
    /// product of the forward pass, and five for attention's two, all over the pairs of tokens that see each other.
    /// Head included; recomputation by the memory mode not.
    public func trainingFLOPs(sequenceLength length: Int) -> Double {
        let linear = weights.layers.reduce(0) { sum, layer in
            sum + LinearModule.allCases.reduce(0) { $0 + layer[$1].flops }
        }
        let head = 2 * configuration.vocabularySize * configuration.hiddenSize
        let attention = Double(weights.layers.count) * Attention(configuration).flops(sequenceLength: length)
        return 3 * Double(length * (linear + head)) + 3.5 * attention
    }

    /// FLOPs that a memory mode computes again for one sequence of `length` tokens.
    public func recomputedFLOPs(sequenceLength length: Int, mode: MemoryMode) -> Double {
        let attention = Attention(configuration).flops(sequenceLength: length)
        return weights.layers.reduce(0) { sum, layer in
            let linear = LinearModule.allCases.reduce(0) { $0 + layer[$1].recomputedFLOPs(module: $1, mode: mode) }
            return sum + (mode == .plain ? 0 : Double(length * linear) + attention)
        }
    }
}

extension Projection {
    /// FLOPs of one token that `LayerPass.recompute` spends on this projection again.
    fileprivate func recomputedFLOPs(module: LinearModule, mode: MemoryMode) -> Int {
        switch (mode, module, self) {
        case (.plain, _, _), (.colaM, .output, _), (.colaM, .down, _), (.checkpoint, .down, .dense): 0
        case (.checkpoint, .down, .lowRank(let lowRank)): 2 * lowRank.a.count
        case (.colaM, _, .lowRank(let lowRank)): 2 * lowRank.b.count
        default: flops
        }
    }
}
