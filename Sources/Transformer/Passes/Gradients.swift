import CKernels
import Tensors

/// Where the gradients of a model's parameters go.
public struct ModelGradients {
    /// Weights of the model's description in single precision.
    public let weights: ModelWeights
    /// Whether gradients are added to what is there, or overwrite it.
    public let accumulating: Bool

    public init(into weights: ModelWeights, accumulating: Bool = false) {
        self.weights = weights
        self.accumulating = accumulating
    }
}

/// Who watches a forward and backward pass.
public struct PassObservers {
    public var activations: (any ActivationObserver)?
    public var gradients: (any GradientObserver)?

    public init(activations: (any ActivationObserver)? = nil, gradients: (any GradientObserver)? = nil) {
        self.activations = activations
        self.gradients = gradients
    }
}

extension LanguageModel {
    /// Loss and gradients of one batch: returns Σ −log p(target) in nats over the tokens that have a target, and computes the
    /// derivatives of `scale` times that sum by every parameter.
    ///
    /// - Parameters:
    ///   - targets: the token that follows each of the batch's, or nil where none is to be predicted.
    ///   - scale: 1 / (number of targets) makes the gradients those of the mean loss.
    ///
    /// In f32 all memory modes give the same bits.
    public func lossAndGradients(
        of batch: TokenBatch, targets: [UInt32?], scale: Double, in workspace: TrainingWorkspace,
        _ gradients: ModelGradients
    ) -> Double {
        precondition(targets.count == batch.count, "\(targets.count) targets for \(batch.count) tokens")
        return lossAndGradients(
            of: batch, CrossEntropy(targets: targets), scale: scale, in: workspace, gradients)
    }

    /// The same for any objective: returns the sum of its losses. Without `gradients` those of the parameters are not
    /// computed, only what the observers are shown: what enters the linear layers in the forward pass, and the gradient of
    /// what leaves them in the backward pass.
    @discardableResult
    public func lossAndGradients(
        of batch: TokenBatch, _ objective: some TokenObjective, scale: Double, in workspace: TrainingWorkspace,
        _ gradients: ModelGradients?, observers: PassObservers = PassObservers()
    ) -> Double {
        let (all, scratch) = (0..<batch.count, workspace.backward)
        let context = forward(batch, in: workspace, observer: observers.activations)
        let clock = ContinuousClock()
        let start = clock.now
        let dHidden = scratch.hidden.view.rows(all)
        let loss = workspace.head.lossAndGradients(
            of: workspace.hidden.view.rows(all), objective, scale: Float(scale), gradients, workspace.headGradient,
            into: dHidden)
        workspace.headSeconds = (clock.now - start) / .seconds(1)
        for index in description.blocks.indices.reversed() {
            let trace = workspace.traces[index].prefix(rows: batch.count)
            let block = DecoderBlock(self, index, context)
            block.recompute(trace, workspace.mode)
            let own = BlockGradients(
                weights: gradients?.weights.blocks[index], accumulating: gradients?.accumulating ?? false
            ) { observers.gradients?.observeGradient(of: $0, $1) }
            BlockBackward(block, trace, own, scratch).run()
        }
        if let gradients {
            differentiateEmbedding(batch, dHidden, gradients, isTied: description.tiesEmbedding)
        }
        return loss
    }

    /// −log p(target) in nats of each token that has a target, nil for the others, without gradients.
    public func losses(of batch: TokenBatch, targets: [UInt32?], in workspace: TrainingWorkspace) -> [Double?] {
        forward(batch, in: workspace)
        return workspace.head.losses(of: workspace.hidden.view.rows(0..<batch.count), targets: targets)
    }

    /// Leaves the residual stream in `workspace.hidden` and what backward needs in the traces.
    @discardableResult
    private func forward(
        _ batch: TokenBatch, in workspace: TrainingWorkspace, observer: (any ActivationObserver)? = nil
    ) -> PassContext {
        batch.check(fits: workspace.maximumTokens, longest: workspace.longestSequence)
        let context = PassContext(
            batch, workspace.pass, activated: workspace.backward.activated, keepsStatistics: true)
        let traces = workspace.traces.map { $0.prefix(rows: batch.count) }
        let last = workspace.hidden.view.rows(0..<batch.count)
        embed(batch, into: traces.first?[.input] ?? last)
        for (index, trace) in traces.enumerated() {
            let block = DecoderBlock(self, index, context)
            block.forward(trace, into: index + 1 < traces.count ? traces[index + 1][.input] : last)
            guard let observer else { continue }
            for stream in Stream.allCases {
                observer.observe(.input(stream), block: index, block.input(of: stream, trace))
            }
        }
        return context
    }
}

extension ModelDescription {
    /// FLOPs that a memory mode computes again for one sequence of `length` tokens.
    public func recomputedFLOPs(sequenceLength length: Int, mode: MemoryMode) -> Double {
        guard mode != .plain else { return 0 }
        return blocks.reduce(0) { sum, block in
            let linear = block.linears.reduce(0) { $0 + block.recomputedFLOPs(of: $1, mode: mode) }
            return sum + Double(length * linear) + block.attention.flops(sequenceLength: length)
        }
    }
}

extension BlockDescription {
    /// FLOPs of one token that `DecoderBlock.recompute` spends on a linear layer again.
    fileprivate func recomputedFLOPs(of linear: LinearLayer, mode: MemoryMode) -> Int {
        let (first, second) = (2 * linear.inputs * (linear.rank ?? 0), 2 * linear.outputs * (linear.rank ?? 0))
        let isNormalised =
            linear.role == .down
            ? norms.feedForwardOutput != nil : linear.role == .output && norms.attentionOutput != nil
        switch (mode, linear.role) {
        case (.plain, _): return 0
        case (.checkpoint, .down) where !isNormalised: return first
        case (.checkpoint, _): return linear.flops
        case (.colaM, .output) where !isNormalised: return 0
        case (.colaM, .down) where !isNormalised: return 0
        case (.colaM, _): return linear.isLowRank ? second : linear.flops
        }
    }
}
