import Foundation
import Tensors
import TestSupport
import Testing
import Transformer

@testable import Training

@Suite("Learning from a teacher")
struct DistillationTests {
    let sample: TrainerSample
    let teacher: LanguageModel

    init() throws {
        sample = try TrainerSample(rank: 4)
        teacher = LanguageModel(ModelWeights(sample.description.with(rank: nil), seed: 77))
    }

    /// Logits of each token, `[tokens, V]`, in double precision.
    private func logits(_ model: LanguageModel, _ batch: TokenBatch) -> [[Double]] {
        let workspace = Workspace(model, maximumTokens: batch.count, longestSequence: batch.longest)
        let head = VocabularyHead(model)
        var rows: [[Double]] = []
        withExtendedLifetime(workspace) {
            head.forEachChunk(of: model.forward(batch, in: workspace)) { part, logits in
                for row in 0..<part.count { rows.append((0..<logits.columns).map { Double(logits[row, $0]) }) }
            }
        }
        return rows
    }

    private func logSoftmax(_ x: [Double]) -> [Double] {
        let top = x.max()!
        let normalizer = top + log(x.map { exp($0 - top) }.reduce(0, +))
        return x.map { $0 - normalizer }
    }

    @Test(
        "The loss is λ·KL(teacher ‖ student) + (1 − λ)·cross-entropy over the whole vocabulary",
        arguments: [0.25, 0.5, 1])
    func loss(share: Double) throws {
        let student = LanguageModel(sample.masters())
        let batch = try sample.data.batch(from: 0, count: 3)
        let (p, q) = (logits(teacher, batch.tokens).map(logSoftmax), logits(student, batch.tokens).map(logSoftmax))
        var expected = 0.0
        for (token, target) in batch.targets.enumerated() {
            guard let target else { continue }
            var divergence = 0.0
            for (teacher, student) in zip(p[token], q[token]) { divergence += exp(teacher) * (teacher - student) }
            expected += share * divergence - (1 - share) * q[token][Int(target)]
        }
        let source = Teacher(teacher, share: share, maximumTokens: 33, longestSequence: 11)
        let workspace = TrainingWorkspace(student, mode: .plain, maximumTokens: 33, longestSequence: 11)
        let found = student.lossAndGradients(
            of: batch.tokens, source.objective(of: batch.tokens, targets: batch.targets), scale: 1, in: workspace,
            ModelGradients(into: ModelWeights(like: student.weights, precision: .f32)))
        #expect(abs(found - expected) < 1e-5 * abs(expected), "\(found), expected \(expected)")
    }

    @Test("What is kept of a sequence is what the teacher would say again, whatever batch it comes in")
    func kept() throws {
        let student = LanguageModel(sample.masters())
        let workspace = TrainingWorkspace(student, mode: .plain, maximumTokens: 33, longestSequence: 11)
        func loss(_ teacher: Teacher, _ batch: TrainingBatch) -> Double {
            student.lossAndGradients(
                of: batch.tokens, teacher.objective(of: batch.tokens, targets: batch.targets), scale: 1, in: workspace,
                nil)
        }
        let used = Teacher(teacher, share: 1, maximumTokens: 33, longestSequence: 11)
        // Sequences 1, 2 and 3 one by one and in another order, then together; and a fresh teacher for comparison.
        for place in [2, 1] { _ = loss(used, try sample.data.batch(from: place, count: 1)) }
        for start in [0, 1, 0] {
            let batch = try sample.data.batch(from: start, count: 3)
            let fresh = Teacher(teacher, share: 1, maximumTokens: 33, longestSequence: 11)
            #expect(loss(used, batch) == loss(fresh, batch), "from \(start)")
        }
        // The comparison can fail: another teacher says something else.
        let other = LanguageModel(ModelWeights(sample.description.with(rank: nil), seed: 78))
        let batch = try sample.data.batch(from: 0, count: 3)
        #expect(loss(used, batch) != loss(Teacher(other, share: 1, maximumTokens: 33, longestSequence: 11), batch))
    }

    @Test("A student comes closer to its teacher, in both precisions", arguments: Precision.allCases)
    func learns(precision: Precision) throws {
        var settings = sample.settings
        settings.teacherShare = 1
        settings.precision = precision
        settings.schedule = try LearningRateSchedule(peak: 1e-2, warmupSteps: 2, totalSteps: 40)
        let trainer = try Trainer(
            masters: sample.masters(), data: sample.data, settings: settings, teacher: teacher)
        let losses = try trainer.steps().map(\.loss)
        let (first, last) = (losses.prefix(4).reduce(0, +), losses.suffix(4).reduce(0, +))
        #expect(last < 0.9 * first, "\(losses)")
    }

    @Test("A share without a teacher, a teacher without a share")
    func settings() throws {
        var settings = sample.settings
        #expect(throws: TrainingError.self) {
            try Trainer(
                masters: sample.masters(), data: sample.data, settings: settings,
                teacher: teacher)
        }
        settings.teacherShare = 0.5
        #expect(throws: TrainingError.self) {
            try Trainer(masters: sample.masters(), data: sample.data, settings: settings)
        }
    }
}
