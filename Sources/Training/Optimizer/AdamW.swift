import CKernels
import Glibc
import Tensors
import Transformer

/// AdamW: Adam with weight decay that is not part of the gradient (Loshchilov & Hutter, "Decoupled Weight Decay
/// Regularization", algorithm 2), as PyTorch computes it.
///
/// Masters w, gradients g and both moments m, v are in single precision. Step t with learning rate η:
///
///     m ← β₁·m + (1 − β₁)·g,  v ← β₂·v + (1 − β₂)·g²
///     w ← w − η·λ·w − η · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)
///
/// In a unit u (`ParameterGroup.unit`) the same is done to w/u, whose gradient is u·g.
///
/// Every element is computed by itself: results do not depend on the number of threads.
public final class AdamW {
    public let settings: Settings
    /// m of every parameter.
    public let firstMoments: DecoderWeights
    /// v of every parameter.
    public let secondMoments: DecoderWeights
    /// t: how many steps have been taken.
    public private(set) var step: Int

    private let layout: ParameterBlocks
    /// One for each parameter.
    private let rules: [Settings.Rule]

    /// An optimiser that has taken no step yet. Throws `TrainingError.setting`.
    public convenience init(_ settings: Settings, for masters: DecoderWeights) throws(TrainingError) {
        try self.init(
            settings, firstMoments: DecoderWeights(like: masters, precision: .f32),
            secondMoments: DecoderWeights(like: masters, precision: .f32), step: 0)
    }

    /// An optimiser that goes on after `step` steps, which left these moments. Throws `TrainingError.setting`.
    public init(
        _ settings: Settings, firstMoments: DecoderWeights, secondMoments: DecoderWeights, step: Int
    ) throws(TrainingError) {
        precondition(step >= 0, "\(step) steps")
        try settings.validate()
        layout = ParameterBlocks(firstMoments)
        rules = try settings.rules(for: layout.names)
        self.settings = settings
        self.firstMoments = firstMoments
        self.secondMoments = secondMoments
        self.step = step
    }

    /// One step, in one pass over all arrays.
    ///
    /// Masters, gradients and moments have one layout and are in single precision. `workingCopy`, which has the same
    /// layout in any precision, receives the new masters, rounded to nearest. Without a `learningRate` the settings' one
    /// is used. `gradientScale` multiplies every gradient: clipping, and the mean over accumulated batches.
    public func apply(
        to masters: DecoderWeights, workingCopy: DecoderWeights? = nil, gradients: DecoderWeights,
        learningRate: Double? = nil, gradientScale: Double = 1
    ) {
        step += 1
        let factors = rules.map {
            self.factors(
                rate: (learningRate ?? settings.learningRate) * $0.learningRateFactor, $0, scale: gradientScale)
        }
        let (w, g) = (layout.pointers(masters), layout.pointers(gradients))
        let (m, v) = (layout.pointers(firstMoments), layout.pointers(secondMoments))
        let copies = workingCopy.map(layout.storages)
        ThreadPool.forEach(layout.blocks.count) { index in
            let block = layout.blocks[index]
            let (parameter, start, count) = (block.parameter, block.elements.lowerBound, block.elements.count)
            let (w, g) = (w[parameter] + start, g[parameter] + start)
            let (m, v) = (m[parameter] + start, v[parameter] + start)
            func update(rounded: UnsafeMutablePointer<UInt16>?) {
                withUnsafePointer(to: factors[parameter]) { ck_adamw(w, m, v, g, rounded, count, $0) }
            }
            switch copies?[parameter] {
            case nil: update(rounded: nil)
            case .single(let copy):
                update(rounded: nil)
                (copy.pointer + start).update(from: w, count: count)
            case .bfloat16(let copy):
                (copy.pointer + start).withMemoryRebound(to: UInt16.self, capacity: count) { update(rounded: $0) }
            case .some(.none): preconditionFailure("a working copy without elements")
            }
        }
    }

    /// √Σ(u·g)² over all gradients, each in its parameter's unit: what clipping looks at.
    public func gradientNorm(_ gradients: DecoderWeights) -> Double {
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
