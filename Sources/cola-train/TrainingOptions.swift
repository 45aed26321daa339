import ArgumentParser
import CommandSupport
import LinearAlgebra
import Training
import Transformer

extension MemoryMode: ExpressibleByArgument {}
extension ModelPreset: ExpressibleByArgument {}
extension ActivationPlacement: ExpressibleByArgument {}
extension Packing: ExpressibleByArgument {}
extension LearningRateSchedule.Shape: ExpressibleByArgument {}

/// Dense projections or CoLA's.
enum ModelKind: String, ExpressibleByArgument, CaseIterable {
    case dense, cola
}

/// A precision, or the choice of the faster one.
enum PrecisionChoice: String, ExpressibleByArgument, CaseIterable {
    case f32, bf16, auto

    var precision: Precision {
        switch self {
        case .f32: .f32
        case .bf16: .bf16
        case .auto: Machine.fasterPrecision
        }
    }
}

/// How a pass over a batch is computed.
struct PassOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What the forward pass keeps: plain (all), checkpoint (layer inputs), cola-m (residual streams and bottlenecks).",
            valueName: "mode"))
    var memory = MemoryMode.plain

    @Option(help: "What matrix products compute with: f32, bf16 with sums in f32, or auto, the faster one here.")
    var precision = PrecisionChoice.auto
}
