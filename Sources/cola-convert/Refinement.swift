import CommandSupport
import LowRank
import TokenData
import Training
import Transformer

/// Some passes over the calibration tokens in which the converted model learns the dense one's predictions.
struct Refinement {
    let passes: Int
    let seed: UInt64
    let precision: Precision

    /// Peak learning rate of a factor whose root mean square is 0.02; others in proportion.
    static let learningRate = 5e-5

    /// How it went: divergence from the dense model in nats per token, over the first and over the last step.
    struct Outcome {
        let steps: Int
        let precision: Precision
        let first: Double
        let last: Double
    }

    /// Trains the converted decoder's weights where they are. Embedding, head and dense layers stay as they are: a few
    /// thousand tokens say little about them.
    func run(
        _ converted: Decoder, teacher: Decoder, _ text: CalibrationText, _ console: Console
    ) throws -> Outcome {
        let sequences = text.sequences
        let length = sequences.map(\.count).max() ?? 1
        // Sequences that each have a start of their own, or had padding, are not one text.
        let corpora =
            text.isContinuous
            ? [TokenCorpus(name: "calibration", ids: sequences.flatMap { $0 })]
            : sequences.map { TokenCorpus(name: "calibration", ids: Array($0)) }
        let data = try TrainingData(
            corpora, sequenceLength: length - 1, packing: text.isContinuous ? .packed : .documents, separator: nil,
            evaluationFraction: 0, seed: seed,
            vocabularySize: converted.configuration.vocabularySize)
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
        settings.memory = isLowRank(converted.weights) ? .colaM : .checkpoint
        let trainer = try Trainer(
            converted.configuration, masters: converted.weights, data: data, settings: settings, teacher: teacher)
        let progress = console.progress("refine", unit: "steps", total: steps)
        var losses: [Double] = []
        while !trainer.isFinished {
            let record = try trainer.step(seconds: monotonicSeconds)
            if let divergence = trainer.divergence { throw divergence }
            losses.append(record.loss)
            progress.update(record.step)
        }
        progress.finish()
        return Outcome(steps: steps, precision: settings.precision, first: losses[0], last: losses[steps - 1])
    }

    private func isLowRank(_ weights: DecoderWeights) -> Bool {
        weights.layers.contains { layer in LinearModule.allCases.contains { layer[$0].rank != nil } }
    }

    private func frozen(_ weights: DecoderWeights) -> [ParameterGroup] {
        var groups = [ParameterGroup(pattern: "*embed_tokens.weight", learningRateFactor: 0)]
        var hasHead = false
        weights.visitParameters { name, _ in
            if name == "lm_head.weight" { hasHead = true }
            if name.hasSuffix("_proj.weight") { groups.append(ParameterGroup(pattern: name, learningRateFactor: 0)) }
        }
        if hasHead { groups.append(ParameterGroup(pattern: "lm_head.weight", learningRateFactor: 0)) }
        return groups
    }
}
