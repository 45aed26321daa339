import CommandSupport
import CostModel
import Tensors
import Transformer
import Workflows

/// Steps of this toolkit's engine beside what `EngineCost` says of them.
struct CostMeasurement {
    /// The model in the form that is trained, and what its forward pass keeps.
    struct Variant {
        let name: String
        let mode: MemoryMode
        let model: ModelDescription
    }

    /// A figure that was measured and the one that was predicted.
    struct Figure {
        let name: String
        let unit: Unit
        let measured: Double
        let predicted: Double

        enum Unit { case seconds, flopsPerSecond, tokensPerSecond, bytes }

        /// Of the measured one from the predicted one.
        var deviation: Double { predicted > 0 ? measured / predicted - 1 : 0 }
    }

    struct Result {
        let variant: Variant
        let figures: [Figure]
        /// Seconds of the step's head and loss, and of AdamW.
        let headSeconds: Double
        let updateSeconds: Double
    }

    private let step: TrainingStep
    private let steps: Int
    /// Layers that the model has; fewer may be measured.
    let depth: Int
    let layers: Int
    private let variants: [Variant]
    private let full: [Variant]

    /// Throws `CostModelError.setting` for more layers than there are, and for a model that there is no memory for.
    init(_ model: ModelDescription, _ step: TrainingStep, layers: Int?, steps: Int) throws(CostModelError) {
        self.step = step
        self.steps = steps
        depth = model.blocks.count
        self.layers = layers ?? depth
        guard self.layers <= depth else {
            throw .setting(name: "layers", found: "\(self.layers)", expected: "1 to \(depth), those of the model")
        }
        full = Self.variants(model)
        variants = Self.variants(model.prefix(blocks: self.layers))
        let largest = variants.map { cost($0).totalBytes }.max() ?? 0
        if let available = availableMemory(), largest > available {
            throw .setting(
                name: "layers", found: "\(self.layers), which take \(byteCount(largest))",
                expected: "few enough for the \(byteCount(available)) of memory that are free; try --layers 1, or a "
                    + "smaller --batch")
        }
    }

    /// Without low-rank layers among those that are measured there is no CoLA model to measure.
    private static func variants(_ model: ModelDescription) -> [Variant] {
        let dense = [MemoryMode.plain, .checkpoint].map { Variant(name: "dense", mode: $0, model: model.dense) }
        guard model.isLowRank else { return dense }
        return dense + [MemoryMode.plain, .colaM].map { Variant(name: "CoLA", mode: $0, model: model) }
    }

    private func cost(_ variant: Variant) -> EngineCost {
        EngineCost(variant.model, variant.mode, step, threads: ThreadPool.threads)
    }

    func run(_ console: Console) throws -> [Result] {
        try zip(variants, full).map { variant, full in
            console.note("\(variant.name), \(variant.mode.rawValue): \(layers) of \(depth) layers")
            return try measure(variant, full: full, console)
        }
    }

    private func measure(_ variant: Variant, full: Variant, _ console: Console) throws -> Result {
        let before = residentMemory()
        let measurement = try TrainingMeasurement(
            variant.model, precision: step.precision, memory: variant.mode, batch: step.batch,
            sequenceLength: step.sequenceLength)
        let times = try measurement.run(steps: steps, console)
        let after = residentMemory()
        // A shared machine's speed drifts: figures are of one step and the product beside it, the pair in the middle.
        let typical = times.sorted { $0.seconds * $0.productSpeed < $1.seconds * $1.productSpeed }[times.count / 2]
        let (cost, tokens, speed) = (cost(variant), Double(step.tokens), typical.productSpeed)
        let (measured, predicted) = (typical.seconds, cost.allFLOPs / speed)
        var figures = [
            Figure(name: "step", unit: .seconds, measured: measured, predicted: predicted),
            Figure(
                name: "FLOP/s", unit: .flopsPerSecond, measured: cost.allFLOPs / measured, predicted: speed),
            Figure(
                name: "tokens/s", unit: .tokensPerSecond, measured: tokens / measured, predicted: tokens / predicted),
            Figure(
                name: "kept activations", unit: .bytes, measured: Double(measurement.workspace.keptBytes),
                predicted: Double(cost.keptBytes)),
        ]
        if let before, let after {
            figures.append(
                Figure(
                    name: "memory in all", unit: .bytes, measured: Double(after - before),
                    predicted: Double(cost.totalBytes)))
        }
        if layers < depth {
            figures.append(
                Figure(
                    name: "step, scaled to \(depth) layers", unit: .seconds,
                    measured: measurement.seconds(of: typical, atLayers: depth),
                    predicted: self.cost(full).allFLOPs / speed))
        }
        return Result(
            variant: variant, figures: figures, headSeconds: typical.headSeconds,
            updateSeconds: typical.updateSeconds)
    }
}
