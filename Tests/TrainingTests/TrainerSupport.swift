import Checkpoints
import Foundation
import Tensors
import TestSupport
import TokenData
import Transformer

@testable import Training

/// A tiny model, its data and settings, from which trainers are made.
struct TrainerSample {
    var description: ModelDescription
    var settings: TrainingSettings
    let data: TrainingData

    static let vocabulary = 61

    /// 20 sequences of 11 tokens, of which 3 are held out.
    init(
        rank: Int? = 5, steps: Int = 6, isTied: Bool = false, evaluationFraction: Double = 0.15,
        placement: ActivationPlacement = .both
    ) throws {
        let json = """
            {"model_type": "llama", "hidden_size": 18, "intermediate_size": 29, "num_hidden_layers": 2,
             "num_attention_heads": 3, "num_key_value_heads": 1, "vocab_size": \(Self.vocabulary),
             "tie_word_embeddings": \(isTied), "cola_activation": "\(placement.rawValue)"}
            """
        description = try ModelDescription(json: json, path: "sample").with(rank: rank)
        settings = TrainingSettings(
            schedule: try LearningRateSchedule(peak: 1e-2, warmupSteps: 2, totalSteps: steps),
            optimizer: .init(learningRate: 1e-2, weightDecay: 0.1))
        settings.sequenceLength = 11
        settings.batch = 3
        settings.accumulation = 2
        settings.evaluationFraction = evaluationFraction
        settings.seed = 8
        settings.skipLimit = 3
        data = try TrainingData(
            [TokenCorpus(name: "ids", ids: Self.ids(20 * 11 + 1))],
            .init(
                sequenceLength: 11, packing: .packed,
                separator: nil), evaluationFraction: evaluationFraction, seed: settings.seed,
            vocabularySize: Self.vocabulary)
    }

    /// Ids of which each leaves two for the next.
    private static func ids(_ count: Int) -> [UInt32] {
        var generator = SeededGenerator(seed: 3)
        var id = 1
        return (0..<count).map { _ in
            id = (7 * id + Int.random(in: 0..<2, using: &generator)) % vocabulary
            return UInt32(id)
        }
    }

    /// The same with blocks that are not LLaMA's.
    enum Other: CaseIterable {
        /// LayerNorms with biases, no gate, learned positions, no rotation.
        case ungated
        /// Norms before and behind, norms of heads and a window in the first block alone.
        case sandwiched
    }

    init(_ other: Other, rank: Int? = nil) throws {
        try self.init(rank: rank)
        let norm =
            other == .ungated
            ? NormDescription(.layer, epsilon: 1e-5, hasBias: true) : NormDescription(.rms, epsilon: 1e-6, offset: 1)
        description.finalNorm = norm
        description.positionRows = other == .ungated ? 11 : nil
        description.blocks = description.blocks.indices.map { index in
            var attention = description.blocks[index].attention
            let isFirst = index == 0
            switch other {
            case .ungated: attention.rotary = nil
            case .sandwiched: (attention.window, attention.headNorm) = isFirst ? (4, norm) : (nil, nil)
            }
            let outer = other == .ungated ? nil : norm
            return BlockDescription(
                index: index, hiddenSize: 18,
                norms: .init(
                    attentionInput: norm, attentionOutput: outer, feedForwardInput: norm, feedForwardOutput: outer),
                attention: attention,
                feedForward: .init(width: 29 + index, isGated: other != .ungated, activation: .geluTanh),
                hasBias: { _ in other == .ungated })
        }
        description = description.with { .init(rank: rank, hasBias: $0.hasBias) }
    }

    func masters() -> ModelWeights { ModelWeights(description, seed: settings.seed) }

    func trainer() throws -> Trainer {
        try Trainer(masters: masters(), data: data, settings: settings, record: ["note": "kept"])
    }
}

/// A clock that advances by a quarter of a second whenever it is read.
func ticks() -> () -> Double {
    var time = 0.0
    return {
        time += 0.25
        return time
    }
}

extension Trainer {
    /// Steps until the end, or so many.
    @discardableResult
    func steps(_ count: Int = .max) throws -> [StepRecord] {
        var records: [StepRecord] = []
        let clock = ticks()
        while !isFinished && records.count < count { records.append(try step(seconds: clock)) }
        return records
    }

    /// The optimizer state, by way of a file.
    func optimizerState() throws -> OptimizerState {
        let place = try TemporaryFolder()
        try save(to: place.file("run.h5"), configuration: "{}", provenance: "{}", tokenizer: nil)
        let source = try HDF5Checkpoint(path: place.file("run.h5"))
        return try RunFile.optimizerState(from: source, like: masters, step: state.optimizerSteps)
    }
}

/// AdamW in double precision that runs along with a trainer, and by how much single precision may be off.
struct TwinOptimizer {
    private(set) var w: [[Double]]
    private(set) var m: [[Double]]
    private(set) var v: [[Double]]
    private(set) var weightBounds: [[Double]]
    private(set) var firstBounds: [[Double]]
    private(set) var secondBounds: [[Double]]

    init(_ weights: ModelWeights) {
        w = TwinOptimizer.elements(weights)
        let zeros = w.map { [Double](repeating: 0, count: $0.count) }
        (m, v, weightBounds, firstBounds, secondBounds) = (zeros, zeros, zeros, zeros, zeros)
    }

    static func elements(_ weights: ModelWeights) -> [[Double]] {
        weights.parameters.map { $0.weight.elements.map(Double.init) }
    }

    /// One step with the gradients that the trainer had. What a step starts with is off already; each step adds its own
    /// roundings.
    mutating func step(_ gradients: [[Double]], _ factors: NaiveAdamWStep.Factors) {
        let correction = 1 - factors.power(factors.beta1)
        let secondCorrection = 1 - factors.power(factors.beta2)
        for p in w.indices {
            for i in w[p].indices {
                let step = NaiveAdamWStep(w: w[p][i], m: m[p][i], v: v[p][i], g: gradients[p][i], factors)
                let root = (step.v / secondCorrection).squareRoot() + factors.epsilon
                let carriedFirst = factors.beta1 * firstBounds[p][i]
                let carriedSecond = factors.beta2 * secondBounds[p][i]
                let change = factors.rate * abs(step.m) / correction / root
                // The root is off by half of what v is off.
                let carried =
                    factors.rate / correction / root * carriedFirst
                    + (step.v > 0 ? change * 0.51 * carriedSecond / step.v : 0)
                weightBounds[p][i] += step.weightBound + 1.01 * carried
                firstBounds[p][i] = carriedFirst + step.firstBound
                secondBounds[p][i] = carriedSecond + step.secondBound
                (w[p][i], m[p][i], v[p][i]) = (step.w, step.m, step.v)
            }
        }
    }
}

/// The error that `body` throws, if it is one of training.
func trainingError(_ body: () throws -> Void) -> TrainingError? {
    do { try body() } catch { return error as? TrainingError }
    return nil
}
