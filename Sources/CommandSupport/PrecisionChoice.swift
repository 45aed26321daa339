import ArgumentParser
import LinearAlgebra
import Transformer

extension Precision: ExpressibleByArgument {}

/// A precision, or the choice of the faster one.
public enum PrecisionChoice: String, ExpressibleByArgument, CaseIterable, Sendable {
    case f32, bf16, auto

    public static let help: ArgumentHelp =
        "What matrix products compute with: f32, bf16 with sums in f32, or auto, the faster one here."

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

extension Precision {
    /// One line where this processor makes the products in another way than the name says.
    public func announce(_ console: Console) {
        guard self == .bf16, !Processor.multipliesBFloat16 else { return }
        console.note(
            "bf16: oneDNN has no bfloat16 products on this processor; they are made of float32 products of the rounded "
                + "numbers, which is no faster than f32")
    }
}
