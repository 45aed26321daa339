import Checkpoints
import Foundation
import TestSupport
import Testing
import TokenData
import Transformer

@testable import Training

@Suite("Ten steps of AdamW as PyTorch takes them")
struct LossCurveTests {
    /// What Fixtures/make-loss-curves.py has written.
    struct Curves: Decodable {
        let settings: Settings
        let curves: [String: Curve]

        struct Settings: Decodable {
            let steps: Int
            let warmup_steps: Int
            let learning_rate: Double
            let floor: Double
            let beta1: Double
            let beta2: Double
            let epsilon: Double
            let weight_decay: Double
            let clip: Double
            let sequence_length: Int
            let sequences: Int
        }

        struct Curve: Decodable {
            /// The model that it starts with, among the fixtures of TransformerTests.
            let model: String
            let ids: [UInt32]
            let losses: [Double]
            let gradient_norms: [Double]
        }

        init() throws {
            let file = Bundle.module.bundleURL.appendingPathComponent("Fixtures/loss-curves.json")
            self = try JSONDecoder().decode(Self.self, from: Data(contentsOf: file))
        }
    }

    @Test("Losses and gradient norms stay within 1e-4", arguments: ["dense", "CoLA"], MemoryMode.allCases)
    func curve(kind: String, memory: MemoryMode) throws {
        guard kind == "CoLA" || memory != .colaM else { return }
        let curves = try Curves()
        let curve = try #require(curves.curves[kind])
        let trainer = try trainer(curve, curves.settings, memory)
        #expect(trainer.data.trainingCount == curves.settings.sequences)
        let records = try trainer.steps()
        expectClose(records.map(\.loss), curve.losses, within: 1e-4, "\(kind), \(memory.rawValue): loss")
        expectClose(
            records.map(\.gradientNorm), curve.gradient_norms, within: curve.gradient_norms.map { 1e-4 * $0 },
            "\(kind), \(memory.rawValue): norm")
    }

    @Test("Each of the settings is seen in the curve", arguments: ["dense", "CoLA"])
    func settings(kind: String) throws {
        let curves = try Curves()
        let curve = try #require(curves.curves[kind])
        func expectOther(_ what: String, _ change: (inout TrainingSettings) throws -> Void) throws {
            let losses = try trainer(curve, curves.settings, .plain, change).steps().map(\.loss)
            let bounds = curve.losses.map { _ in 1e-4 }
            #expect(!isClose(losses, curve.losses, within: bounds), "\(kind): another \(what) changes nothing")
        }
        try expectOther("weight decay") { $0.optimizer.weightDecay = 0 }
        try expectOther("β₁") { $0.optimizer.beta1 = 0.89 }
        try expectOther("β₂") { $0.optimizer.beta2 = 0.99 }
        try expectOther("warm-up") { $0.schedule = try .init(peak: 0.003, warmupSteps: 2, totalSteps: 10) }
        try expectOther("clipping") { $0.clip = 0 }
    }

    /// A trainer whose every step sees all sequences, in two batches.
    private func trainer(
        _ curve: Curves.Curve, _ settings: Curves.Settings, _ memory: MemoryMode,
        _ change: (inout TrainingSettings) throws -> Void = { _ in }
    ) throws -> Trainer {
        // The repository's own fixtures, which are too large to be kept twice.
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let path = tests.appendingPathComponent("TransformerTests/Fixtures/\(curve.model).h5").path
        let source = try Checkpoint.open(path)
        let masters = try ModelWeights(from: source, ModelDescription(of: source))
        var own = TrainingSettings(
            schedule: try LearningRateSchedule(
                peak: settings.learning_rate, warmupSteps: settings.warmup_steps, totalSteps: settings.steps,
                shape: .cosine, floor: settings.floor),
            optimizer: .init(
                learningRate: settings.learning_rate, beta1: settings.beta1, beta2: settings.beta2,
                epsilon: settings.epsilon, weightDecay: settings.weight_decay))
        own.sequenceLength = settings.sequence_length
        own.batch = settings.sequences / 2
        own.accumulation = 2
        own.evaluationFraction = 0
        own.clip = settings.clip
        own.memory = memory
        try change(&own)
        let data = try TrainingData(
            [TokenCorpus(name: "ids", ids: curve.ids)],
            .init(
                sequenceLength: own.sequenceLength, packing: .packed,
                separator: nil), evaluationFraction: 0, seed: own.seed,
            vocabularySize: masters.description.vocabularySize)
        return try Trainer(masters: masters, data: data, settings: own)
    }
}
