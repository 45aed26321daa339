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

extension MemoryMode {
    /// Throws for a model that has no bottlenecks to keep.
    func validate(for weights: DecoderWeights) throws(TrainingError) {
        let isLowRank = weights.layers.contains { layer in LinearModule.allCases.contains { layer[$0].rank != nil } }
        guard self == .colaM, !isLowRank else { return }
        throw .setting(
            name: "memory", found: "cola-m for a dense model",
            expected: "plain or checkpoint; cola-m keeps the bottlenecks of a CoLA model")
    }
}

extension DecoderWeights {
    /// A copy to compute with: the weights themselves in f32, rounded ones in bf16.
    func workingCopy(_ precision: Precision) -> DecoderWeights {
        guard precision == .bf16 else { return self }
        let copy = DecoderWeights(like: self, precision: .bf16)
        copy.assign(self)
        return copy
    }
}
