import CKernels
import Tensors
import Transformer

extension AdamW {
    /// √Σg² over all gradients, which are in single precision; not finite exactly where a gradient is not.
    ///
    /// Added in double precision in an order that depends on the layout alone, not on the number of threads. `units` has a
    /// factor for each parameter's gradient.
    public static func gradientNorm(_ gradients: ModelWeights, units: [Double]? = nil) -> Double {
        let layout = ParameterBlocks(gradients)
        let weights = layout.weights(gradients)
        var sums = [Double](repeating: 0, count: layout.blocks.count)
        sums.withUnsafeMutableBufferPointer { sums in
            guard let sums = sums.baseAddress else { return }
            ThreadPool.forEach(layout.blocks.count) { index in
                let block = layout.blocks[index]
                let unit = units?[block.parameter] ?? 1
                sums[index] =
                    unit * unit
                    * weights[block.parameter].withElements(block.elements) {
                        ck_sum_of_squares($0, block.elements.count)
                    }
            }
        }
        return sums.reduce(0, +).squareRoot()
    }

    /// What gradients of this norm are multiplied by, so that their norm is at most about `limit`, as PyTorch's
    /// `clip_grad_norm_` does it: min(1, limit / (norm + 10⁻⁶)). NaN for a norm that is.
    ///
    /// Where the gradients have a scale already, `norm` is that of the scaled ones, and the scale of the step is the
    /// product of both.
    public static func clippingScale(norm: Double, limit: Double) -> Double {
        let scale = limit / (norm + 1e-6)
        return scale > 1 ? 1 : scale
    }

    /// The first parameter that has a gradient which is infinite or not a number; nil if all are finite.
    public static func firstNotFinite(_ gradients: ModelWeights) -> String? {
        let layout = ParameterBlocks(gradients)
        let weights = layout.weights(gradients)
        let block = layout.blocks.first { block in
            weights[block.parameter].withElements(block.elements) {
                ck_first_not_finite($0, block.elements.count) < block.elements.count
            }
        }
        return block.map { layout.names[$0.parameter] }
    }
}
