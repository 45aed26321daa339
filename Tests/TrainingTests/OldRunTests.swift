import Checkpoints
import Foundation
import JSON
import Spectra
import TestSupport
import Testing
import TokenData
import Transformer

@testable import Training

/// A run that version 0.1.0 has left after three of six steps; its file's provenance has the command line.
@Suite("A run of an older version")
struct OldRunTests {
    private static let path = Bundle.module.bundleURL.appendingPathComponent("Fixtures/old-run.h5").path

    /// The ids that the run was given.
    private static let ids: [UInt32] = {
        var id = 1
        return (0..<221).map { index in
            id = (7 * id + (index * index / 3) % 2) % 31
            return UInt32(id)
        }
    }()

    private static func settings() throws -> TrainingSettings {
        var settings = TrainingSettings(
            schedule: try LearningRateSchedule(peak: 1e-2, warmupSteps: 2, totalSteps: 6),
            optimizer: .init(
                learningRate: 1e-2, weightDecay: 0.1,
                groups: [
                    .init(pattern: "*norm.weight", weightDecay: 0),
                    .init(pattern: "*cola_b", learningRateFactor: 0.5, weightDecay: 0.2),
                ]))
        settings.sequenceLength = 11
        settings.batch = 3
        settings.accumulation = 2
        settings.evaluationFraction = 0.15
        settings.evaluationInterval = 2
        settings.seed = 8
        settings.memory = .colaM
        settings.rankTracking = RankTracking(
            interval: 2, modules: ["self_attn.q_proj", "mlp.down_proj", "residual"].map { MeasuredModule(name: $0) },
            blocks: [0, 1], sides: [.output, .bottleneckActivated])
        return settings
    }

    /// What its metrics.csv holds.
    private static let history = [
        StepRecord(
            step: 1, tokens: 66, loss: 3.434229235234933, gradientNorm: 0.6082112857324358, learningRate: 0.005,
            tokensPerSecond: 4038.6669315991985),
        StepRecord(
            step: 2, tokens: 132, loss: 3.382168464269552, gradientNorm: 1.3250600672363524, learningRate: 0.01,
            tokensPerSecond: 41895.29223596598
        ).evaluated(3.3504834225909277),
        StepRecord(
            step: 3, tokens: 198, loss: 3.35653153996108, gradientNorm: 3.285764882638032,
            learningRate: 0.008681980515339464, tokensPerSecond: 13672.157005968407),
    ]

    @Test("Its state and settings are read as they were, and would be written the same")
    func opens() throws {
        let (_, state) = try RunFile.read(path: Self.path)
        let settings = try TrainingSettings(state.settings, path: Self.path)
        #expect(settings == (try Self.settings()))
        // What follows is the tool's: where the data is.
        let written = settings.json.members
        expectEqual(
            written.map { "\($0.key) \($0.value.text())" },
            state.settings.members.prefix(written.count).map { "\($0.key) \($0.value.text())" })
        #expect(state.settings.members.dropFirst(written.count).first?.key == "data_kind")
        var expected = TrainingState(seed: 8, settings: state.settings)
        (expected.step, expected.tokens, expected.cursor, expected.optimizerSteps) = (3, 198, 18, 3)
        expected.history = Self.history
        expectIdentical(state, expected)
    }

    @Test("It goes on as the older version went on")
    func resumes() throws {
        let (source, state) = try RunFile.read(path: Self.path)
        let settings = try Self.settings()
        let data = try TrainingData(
            [TokenCorpus(name: "ids", ids: Self.ids)], .init(sequenceLength: 11, packing: .packed, separator: nil),
            evaluationFraction: 0.15, seed: 8, vocabularySize: 31)
        let trainer = try Trainer(
            resuming: source, ModelDescription(of: source), data: data, settings: settings, state: state)
        let records = try trainer.steps()
        // Not to the bit: products add in other orders on another processor, and the gradients of linear layers that read the
        // same are one sum now. Three steps later such roundings, 10⁻⁷ of a logit, are still small.
        for (found, expected) in [
            (records.map(\.loss), [3.2814911445597152, 3.25329616293122, 3.250470045972004]),
            (records.compactMap(\.evaluationLoss), [3.27163983977428, 3.249136787472349]),
            (records.map(\.gradientNorm), [1.2127910098971582, 0.8865573361518617, 0.7188869320442796]),
            (records.map(\.learningRate), [0.0055000000000000005, 0.0023180194846605367, 0.001]),
        ] { expectClose(found, expected, within: 1e-5) }
    }

    @Test(
        "A seed gives the first weights that it gave, low-rank and dense",
        arguments: [(3, "e895ae4b2cc98863"), (nil, "a71473a206aca77c")] as [(Int?, String)])
    func firstWeights(rank: Int?, fingerprint: String) throws {
        let (source, _) = try RunFile.read(path: Self.path)
        let description = try ModelDescription(of: source).with(rank: rank)
        #expect(ModelWeights(description, seed: 8).fingerprint == fingerprint)
    }
}
