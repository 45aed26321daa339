import LinearAlgebra
import Tensors
import Training
import Transformer

/// Whole training steps – forward, backward, clipping, AdamW – on random tokens with random weights, timed in turn with a
/// large matrix product and a large copy: their speed is the machine's at that moment.
public struct TrainingMeasurement {
    public let masters: ModelWeights
    public let gradients: ModelWeights
    public let model: LanguageModel
    public let workspace: TrainingWorkspace
    public let optimizer: AdamW
    public let batch: TokenBatch
    private let targets: [UInt32?]

    /// One step's seconds, and the speed of its neighbours.
    public struct Step: Sendable {
        public let seconds: Double
        /// Head and loss, forward and backward.
        public let headSeconds: Double
        /// AdamW without clipping.
        public let updateSeconds: Double
        /// FLOP/s of the large product.
        public let productSpeed: Double
        /// Bytes per second of the large copy.
        public let copySpeed: Double
    }

    /// - Throws: `TrainingError.setting` for a memory mode that the model cannot have.
    public init(
        _ description: ModelDescription, precision: Precision, memory: MemoryMode, batch: Int,
        sequenceLength: Int
    ) throws {
        try description.validate(length: sequenceLength)
        masters = ModelWeights(description, seed: 1)
        try memory.validate(for: masters)
        gradients = ModelWeights(like: masters, precision: .f32)
        model = LanguageModel(masters.workingCopy(precision), precision: precision)
        let tokens = batch * sequenceLength
        workspace = TrainingWorkspace(
            model, mode: memory, maximumTokens: tokens, longestSequence: sequenceLength)
        optimizer = try AdamW(AdamW.Settings(learningRate: 1e-3), for: masters)
        var generator = SeededGenerator(seed: 2)
        let vocabulary = UInt64(description.vocabularySize)
        let ids = (0..<tokens).map { _ in UInt32(generator.next() % vocabulary) }
        self.batch = TokenBatch(ids: ids, lengths: Array(repeating: sequenceLength, count: batch))
        targets = (0..<tokens).map { ($0 + 1) % sequenceLength == 0 ? nil : ids[$0 + 1] }
    }

    private var scale: Double { 1 / Double(batch.count - batch.lengths.count) }

    private func lossAndGradients() -> Double {
        scale
            * model.lossAndGradients(
                of: batch, targets: targets, scale: scale, in: workspace, ModelGradients(into: gradients))
    }

    /// Clipping and AdamW; the seconds that AdamW alone took.
    private func update() -> Double {
        let norm = AdamW.gradientNorm(gradients)
        let start = monotonicSeconds()
        optimizer.apply(
            to: masters, workingCopy: model.precision == .bf16 ? model.weights : nil, gradients: gradients,
            gradientScale: AdamW.clippingScale(norm: norm, limit: 0.5))
        return monotonicSeconds() - start
    }

    /// Goes a little along the gradient and back: the loss must fall by what the gradient says.
    private func check() throws {
        let here = lossAndGradients()
        let norm = AdamW.gradientNorm(gradients)
        // So little that the loss is straight, as far as the precision lets it be seen.
        let wanted = model.precision == .f32 ? 0.005 : 0.02
        func move(_ distance: Double) {
            for (parameter, slope) in zip(masters.parameters, gradients.parameters) {
                let (elements, slopes) = (parameter.weight.view, slope.weight.view)
                for row in 0..<elements.rows {
                    for column in 0..<elements.columns {
                        elements[row, column] += Float(distance) * slopes[row, column]
                    }
                }
            }
            if model.precision == .bf16 { model.weights.assign(masters) }
        }
        func loss(at distance: Double) -> Double {
            move(distance)
            defer { move(-distance) }
            return scale * model.losses(of: batch, targets: targets, in: workspace).reduce(0) { $0 + ($1 ?? 0) }
        }
        let distance = wanted / 2 / (norm * norm)
        let change = loss(at: distance) - loss(at: -distance)
        try WrongResult.check(
            "change of the loss \(here) along its gradient", change, wanted,
            tolerance: wanted * (model.precision == .f32 ? 0.05 : 0.3))
    }

    /// Checks the gradients, then takes `count` steps after one that does not count.
    ///
    /// - Parameter onStep: is told the number of each step that counts, from 1, and its tokens per second.
    /// - Throws: `WrongResult`.
    public func run(steps count: Int, onStep: (Int, Double) -> Void = { _, _ in }) throws -> [Step] {
        try check()
        let (product, productFlops) = Machine.largeProduct(model.precision)
        let (copy, copiedBytes) = Machine.largeCopy(count: min(64 << 20, masters.parameterCount))
        Timing.warmUp {
            product()
            copy()
        }
        var steps: [Step] = []
        for index in 0...count {
            let beforeCopy = monotonicSeconds()
            copy()
            let beforeProduct = monotonicSeconds()
            product()
            let start = monotonicSeconds()
            let loss = lossAndGradients()
            let update = update()
            let end = monotonicSeconds()
            guard loss.isFinite else { throw WrongResult(description: "step \(index): the loss is \(loss)") }
            guard index > 0 else { continue }
            steps.append(
                Step(
                    seconds: end - start, headSeconds: workspace.headSeconds, updateSeconds: update,
                    productSpeed: productFlops / (start - beforeProduct),
                    copySpeed: copiedBytes / (beforeProduct - beforeCopy)))
            onStep(index, Double(batch.count) / (end - start))
        }
        return steps
    }

    /// Seconds of a step as it were at another depth: layers, and their share of AdamW's work, in proportion.
    public func seconds(of step: Step, atLayers layers: Int) -> Double {
        let depth = Double(layers) / Double(model.description.blocks.count)
        let layerSeconds = step.seconds - step.headSeconds - step.updateSeconds
        let layerParameters = masters.parameters.reduce(0) {
            $0 + ($1.name.hasPrefix("model.layers.") ? $1.weight.count : 0)
        }
        let inLayers = step.updateSeconds * Double(layerParameters) / Double(masters.parameterCount)
        return (layerSeconds + inLayers) * depth + step.headSeconds + (step.updateSeconds - inLayers)
    }

    /// Bytes of the masters, and of the rounded copy where there is one.
    public var weightBytes: Int { masters.bytes + (model.precision == .bf16 ? model.weights.bytes : 0) }
    /// Bytes of AdamW's state.
    public var optimizerBytes: Int { optimizer.state.bytes }
}

extension [TrainingMeasurement.Step] {
    /// The middle one of a figure.
    public func median(_ figure: (TrainingMeasurement.Step) -> Double) -> Double {
        map(figure).sorted()[count / 2]
    }
}
