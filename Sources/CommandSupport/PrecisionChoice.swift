import ArgumentParser
import LinearAlgebra
import Transformer
import Workflows

extension Precision: ExpressibleByArgument {}

extension PrecisionChoice: ExpressibleByArgument {
    public static let help: ArgumentHelp =
        "What matrix products compute with: f32, bf16 with sums in f32, or auto, the faster one here."
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
