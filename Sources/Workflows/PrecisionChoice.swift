import LinearAlgebra
import Transformer

/// A precision, or the choice of the faster one.
public enum PrecisionChoice: String, CaseIterable, Sendable {
    case f32, bf16, auto

    /// The precision to compute with. `auto` multiplies some matrices in both to see, unless the processor has no
    /// products in bfloat16: then it is f32.
    public var precision: Precision {
        switch self {
        case .f32: .f32
        case .bf16: .bf16
        case .auto: Processor.multipliesBFloat16 ? Machine.fasterPrecision : .f32
        }
    }
}
