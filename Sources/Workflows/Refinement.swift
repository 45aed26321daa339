import LowRank
import TokenData
import Training
import Transformer

/// Some passes over the calibration tokens in which the converted model learns the dense one's predictions.
public struct Refinement: Sendable {
    public var passes: Int
    /// Of the order of the sequences.
    public var seed: UInt64
    /// What matrix products compute with. A choice is made when the refinement begins.
    public var precision: PrecisionChoice

    public init(passes: Int, seed: UInt64, precision: PrecisionChoice) {
        self.passes = passes
        self.seed = seed
        self.precision = precision
    }

    /// Peak learning rate of a factor whose root mean square is 0.02; others in proportion.
    public static let learningRate = 5e-5

    /// How it went: divergence from the dense model in nats per token, over the first and over the last step.
    public struct Outcome: Sendable {
        public let steps: Int
        public let precision: Precision
        public let first: Double
        public let last: Double
    }

    /// Trains the converted model's weights where they are. Embedding, head and dense layers stay as they are: a few
    /// thousand tokens say little about them.
    ///
    /// - Parameters:
    ///   - sequences: of the calibration text.
    ///   - isContinuous: whether they are one text after the other, with nothing put between and nothing left out.
    public func run(
        _ converted: LanguageModel, teacher: LanguageModel, _ sequences: [ArraySlice<UInt32>], isContinuous: Bool,
        observer: any WorkflowObserver
    ) throws -> Outcome {
        let precision = precision.precision
        observer.note(.refining(precision))
        let length = sequences.map(\.count).max() ?? 1
        // Sequences that each have a start of their own, or had padding, are not one text.
        let corpora =
            isContinuous
            ? [TokenCorpus(name: "calibration", ids: sequences.flatMap { $0 })]
            : sequences.map { TokenCorpus(name: "calibration", ids: Array($0)) }
        let data = try TrainingData(
            corpora, .init(sequenceLength: length - 1, packing: isContinuous ? .packed : .documents, separator: nil),
            evaluationFraction: 0, seed: seed,
            vocabularySize: converted.description.vocabularySize)
        let perStep = min(4, data.trainingCount)
        let steps = max(1, passes * data.trainingCount / perStep)
        var settings = TrainingSettings(
            schedule: try LearningRateSchedule(
                peak: Self.learningRate, warmupSteps: max(1, steps / 5), totalSteps: steps),
            optimizer: AdamW.Settings(
                learningRate: Self.learningRate, weightDecay: 0,
                groups: ParameterGroup.bySize(of: converted.weights) + frozen(converted.weights)))
        settings.sequenceLength = length - 1
        // Two sequences at a time: the dense model and AdamW's moments are in memory as well.
        settings.batch = min(2, perStep)
        settings.accumulation = max(1, perStep / settings.batch)
        settings.clip = 1
        settings.seed = seed
        settings.teacherShare = 1
        settings.precision = precision
        settings.memory = converted.description.isLowRank ? .colaM : .checkpoint
        let trainer = try Trainer(
            masters: converted.weights, data: data, settings: settings, teacher: teacher)
        var losses: [Double] = []
        try observer.phase("refine", unit: "steps", total: steps) { done in
            while !trainer.isFinished {
                let record = try trainer.step(seconds: monotonicSeconds)
                if let divergence = trainer.divergence { throw divergence }
                losses.append(record.loss)
                done(record.step)
            }
        }
        return Outcome(steps: steps, precision: settings.precision, first: losses[0], last: losses[steps - 1])
    }

    private func frozen(_ weights: ModelWeights) -> [ParameterGroup] {
        let patterns = weights.parameters.compactMap { parameter -> String? in
            switch parameter.role {
            case .embedding: "*embed_tokens.weight"
            case .positions, .head, .weight: parameter.name
            default: nil
            }
        }
        return patterns.map { ParameterGroup(pattern: $0, learningRateFactor: 0) }
    }
}
