import CKernels
import Glibc
import Tensors
import Transformer

/// AdamW: Adam with weight decay that is not part of the gradient (Loshchilov & Hutter, "Decoupled Weight Decay
/// Regularization", algorithm 2), as PyTorch computes it.
///
/// Masters w, gradients g and the optimizer state m, v are in single precision. Step t with learning rate η:
///
///     m ← β₁·m + (1 − β₁)·g,  v ← β₂·v + (1 − β₂)·g²
///     w ← w − η·λ·w − η · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)
///
/// In a unit u (`ParameterGroup.unit`) the same is done to w/u, whose gradient is u·g.
///
/// Every element is computed by itself: results do not depend on the number of threads.
public final class AdamW {
    public let settings: Settings
    public private(set) var state: OptimizerState

    private let layout: ParameterBlocks
    /// One for each parameter.
    private let rules: [Settings.Rule]

    /// An optimiser that has taken no step yet. Throws `TrainingError.setting`.
    public convenience init(_ settings: Settings, for masters: ModelWeights) throws(TrainingError) {
        try self.init(settings, from: OptimizerState(like: masters))
    }

    /// An optimiser that goes on from what an earlier one has come to. Throws `TrainingError.setting`.
    public init(_ settings: Settings, from state: OptimizerState) throws(TrainingError) {
        try settings.validate()
        layout = ParameterBlocks(state.firstMoment)
        rules = try settings.rules(for: layout.names)
        self.settings = settings
        self.state = state
    }

    /// t: how many steps have been taken.
    public var step: Int { state.step }

    /// One step, in one pass over all arrays.
    ///
    /// Masters, gradients and the optimizer state have one layout and are in single precision. `workingCopy`, which has the same
    /// layout in any precision, receives the new masters, rounded to nearest. Without a `learningRate` the settings' one
    /// is used. `gradientScale` multiplies every gradient: clipping, and the mean over accumulated batches.
    public func apply(
        to masters: ModelWeights, workingCopy: ModelWeights? = nil, gradients: ModelWeights,
        learningRate: Double? = nil, gradientScale: Double = 1
    ) {
        state.step += 1
        let factors = rules.map {
            self.factors(
                rate: (learningRate ?? settings.learningRate) * $0.learningRateFactor, $0, scale: gradientScale)
        }
        let (w, g) = (layout.weights(masters), layout.weights(gradients))
        let (m, v) = (layout.weights(state.firstMoment), layout.weights(state.secondMoment))
        let copies = workingCopy.map(layout.weights)
        ThreadPool.forEach(layout.blocks.count) { index in
            let (parameter, elements) = (layout.blocks[index].parameter, layout.blocks[index].elements)
            // Where the weights lie apart, so do all of their layout.
            let (copy, runs) = (copies?[parameter], w[parameter].runs(elements))
            let (w, g) = (w[parameter].view.pointer, g[parameter].view.pointer)
            let (m, v) = (m[parameter].view.pointer, v[parameter].view.pointer)
            let rounded = copy?.precision == .bf16 ? copy?.roundedView.pointer : nil
            for run in runs {
                func update(_ rounded: UnsafeMutablePointer<UInt16>?) {
                    withUnsafePointer(to: factors[parameter]) {
                        ck_adamw(
                            w + run.offset, m + run.offset, v + run.offset, g + run.offset, rounded, run.count, $0)
                    }
                }
                if let rounded {
                    (rounded + run.offset).withMemoryRebound(to: UInt16.self, capacity: run.count) { update($0) }
                } else {
                    update(nil)
                    copy.map { ($0.view.pointer + run.offset).update(from: w + run.offset, count: run.count) }
                }
            }
        }
    }

    /// √Σ(u·g)² over all gradients, each in its parameter's unit: what clipping looks at.
    public func gradientNorm(_ gradients: ModelWeights) -> Double {
        Self.gradientNorm(gradients, units: rules.map(\.unit))
    }

    /// What a step multiplies with. Computed in double precision: 1 − βᵗ is a difference of near numbers.
    private func factors(rate: Double, _ rule: Settings.Rule, scale: Double) -> ck_adamw_factors {
        let (beta1, beta2) = (settings.beta1, settings.beta2)
        return ck_adamw_factors(
            gradient_scale: Float(scale * rule.unit), beta1: Float(beta1), rest1: Float(1 - beta1), beta2: Float(beta2),
            rest2: Float(1 - beta2), rate: Float(rate * rule.unit / (1 - pow(beta1, Double(step)))),
            root_scale: Float(1 / (1 - pow(beta2, Double(step))).squareRoot()), epsilon: Float(settings.epsilon),
            decay: Float(rate * rule.weightDecay))
    }
}
