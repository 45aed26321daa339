import Foundation
import TestSupport
import Tensors
import Testing
import Transformer

@testable import Training

@Suite("The trainer")
struct TrainerTests {
    @Test("Every step is AdamW on the clipped mean gradient of its sequences", arguments: [nil, 5], [false, true])
    func twin(rank: Int?, isTied: Bool) throws {
        var sample = try TrainerSample(rank: rank, isTied: isTied)
        sample.settings.evaluationInterval = 2
        let (settings, data) = (sample.settings, sample.data)
        let trainer = try sample.trainer()
        var twin = TwinOptimizer(trainer.masters)
        // Gradients at the trainer's own weights.
        let model = LanguageModel(trainer.masters)
        let workspace = TrainingWorkspace(model, mode: .plain, maximumTokens: 33, longestSequence: 11)
        let gradients = ModelWeights(like: trainer.masters, precision: .f32)
        let clock = ticks()
        for step in 1...6 {
            var sum = 0.0
            for part in 0..<2 {
                let batch = try data.batch(from: (step - 1) * 6 + part * 3, count: 3)
                sum += model.lossAndGradients(
                    of: batch.tokens, targets: batch.targets, scale: 1.0 / 66, in: workspace,
                    ModelGradients(into: gradients, accumulating: part > 0))
            }
            let g = TwinOptimizer.elements(gradients)
            let norm = g.joined().reduce(0) { $0 + $1 * $1 }.squareRoot()
            let rate = 1e-2 * (step <= 2 ? Double(step) / 2 : 0.1 + 0.45 * (1 + cos(.pi * Double(step - 2) / 4)))
            let scale = min(1, settings.clip / (norm + 1e-6))

            let record = try trainer.step(seconds: clock)
            #expect(record.step == step && record.tokens == 66 * step)
            expectClose([record.loss], [sum / 66], within: 1e-12, "loss")
            expectClose([record.gradientNorm], [norm], within: 1e-9 * norm, "norm")
            expectClose([record.learningRate], [rate], within: 1e-15, "rate")
            // The clock ticks once within the step's work.
            #expect(record.tokensPerSecond == 66 / 0.25)
            #expect((record.evaluationLoss != nil) == (step % 2 == 0))
            twin.step(
                g,
                .init(
                    rate: rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.1, scale: scale, step: step))
        }
        func check(_ found: ModelWeights, _ expected: [[Double]], _ bounds: [[Double]], _ what: String) {
            #expect(found.parameters.count == expected.count)
            for (index, parameter) in found.parameters.enumerated() {
                expectClose(
                    parameter.weight.elements.map(Double.init), expected[index], within: bounds[index],
                    "\(what) \(parameter.name)")
            }
        }
        check(trainer.masters, twin.w, twin.weightBounds, "weights")
        let optimizer = try trainer.optimizerState()
        check(optimizer.firstMoment, twin.m, twin.firstBounds, "m")
        check(optimizer.secondMoment, twin.v, twin.secondBounds, "v")
        // The bounds would not let a wrong step pass: they are far below what a step moves.
        #expect((twin.weightBounds.joined().max() ?? 1) < 1e-4)
        #expect(trainer.isFinished && trainer.state.cursor == 36 && trainer.state.optimizerSteps == 6)
    }

    @Test("In units of their size, factors c·A and B/c of a linear bottleneck are trained alike, bit for bit")
    func sizes() throws {
        var sample = try TrainerSample(placement: .original)
        sample.settings.clip = 0.1
        let ordinary = sample.settings.optimizer
        func run(size: Float, isBySize: Bool) throws -> (losses: [Double], norms: [Double], weights: [[Double]]) {
            let masters = sample.masters()
            // Powers of two: products are the same numbers with another exponent.
            let (a, b) = (Double(size), 1 / Double(size))
            func scale(_ name: String) -> Double { name.hasSuffix("cola_a") ? a : name.hasSuffix("cola_b") ? b : 1 }
            for parameter in masters.parameters {
                let values = parameter.weight.elements.map { $0 * Float(scale(parameter.name)) }
                parameter.weight.setElements(values)
            }
            sample.settings.optimizer = ordinary
            if isBySize { sample.settings.optimizer.groups = ParameterGroup.bySize(of: masters) }
            let trainer = try Trainer(
                masters: masters, data: sample.data, settings: sample.settings)
            let records = try trainer.steps()
            let weights = trainer.masters.parameters.map { parameter in
                parameter.weight.elements.map { Double($0) / scale(parameter.name) }
            }
            return (records.map(\.loss), records.map(\.gradientNorm), weights)
        }
        let (one, other) = (try run(size: 1, isBySize: true), try run(size: 0x1p-12, isBySize: true))
        #expect(one.losses == other.losses && one.norms == other.norms)
        for (one, other) in zip(one.weights, other.weights) { expectEqual(one, other) }
        #expect(one.norms.allSatisfy { $0 > 0.1 }, "nothing is clipped")
        #expect(try run(size: 1, isBySize: false).losses != run(size: 0x1p-12, isBySize: false).losses)
    }

    @Test("Losses fall in every precision and memory mode", arguments: Precision.allCases, MemoryMode.allCases)
    func learns(precision: Precision, mode: MemoryMode) throws {
        var sample = try TrainerSample(steps: 40)
        (sample.settings.precision, sample.settings.memory) = (precision, mode)
        sample.settings.evaluationInterval = 40
        let trainer = try sample.trainer()
        let before = try trainer.evaluate()
        let records = try trainer.steps()
        // Ids all have the same chance, ln 61, until it is learnt what follows what, ln 2.
        #expect(abs(before - log(61)) < 0.05 && abs(records[0].loss - log(61)) < 0.05)
        #expect(records[39].loss < records[0].loss - 0.5)
        #expect(try #require(records[39].evaluationLoss) < before - 0.2)
        #expect(
            trainer.bytes.map(\.purpose) == ["weights", "gradients", "optimizer state", "kept activations", "scratch"])
        let count = trainer.masters.parameterCount
        #expect(trainer.bytes[1].bytes == 4 * count && trainer.bytes[2].bytes == 8 * count)
    }

    @Test("In f32 the memory mode changes no bit")
    func memoryModes() throws {
        let results = try MemoryMode.allCases.map { mode in
            var sample = try TrainerSample()
            sample.settings.memory = mode
            let trainer = try sample.trainer()
            let records = try trainer.steps()
            return (bits(trainer.masters), records)
        }
        for other in results.dropFirst() {
            expectEqual(other.0, results[0].0)
            expectIdentical(other.1, results[0].1)
        }
    }

    @Test("An evaluation is the mean over the tokens of the sequences held out, as many as the settings allow")
    func evaluation() throws {
        for limit in [1, 2, 256] {
            var sample = try TrainerSample(evaluationFraction: 0.4)
            sample.settings.evaluationSequences = limit
            let trainer = try sample.trainer()
            let count = min(limit, sample.data.evaluationCount)
            #expect(sample.data.evaluationCount == 8)
            let model = LanguageModel(sample.masters())
            let workspace = TrainingWorkspace(model, mode: .plain, maximumTokens: 11, longestSequence: 11)
            var losses: [Double] = []
            for place in 0..<count {
                let batch = try sample.data.evaluationBatch(place..<place + 1)
                losses += model.losses(of: batch.tokens, targets: batch.targets, in: workspace).compactMap { $0 }
            }
            #expect(losses.count == 11 * count)
            expectClose(
                [try trainer.evaluate()], [losses.reduce(0, +) / Double(losses.count)], within: 1e-6)
        }
    }

    @Test("A run that is resumed from any step comes to the same bits", arguments: 0..<6)
    func resuming(from step: Int) throws {
        let sample = try TrainerSample(steps: 6)
        let whole = try sample.trainer()
        let records = try whole.steps()
        let place = try TemporaryFolder()
        let part = try sample.trainer()
        try part.steps(step)
        try part.save(to: place.file("run.h5"), configuration: "{}", provenance: "{}", tokenizer: nil)
        let (source, state) = try RunFile.read(path: place.file("run.h5"))
        let settings = try TrainingSettings(state.settings, path: "run.h5")
        #expect(settings == sample.settings && state.settings["note"] == "kept")
        let rest = try Trainer(
            resuming: source, sample.description, data: sample.data, settings: settings, state: state)
        expectIdentical(rest.state, part.state)
        try rest.steps()
        expectEqual(bits(rest.masters), bits(whole.masters))
        let (optimizer, expected) = (try rest.optimizerState(), try whole.optimizerState())
        expectEqual(bits(optimizer.firstMoment), bits(expected.firstMoment), "m")
        expectEqual(bits(optimizer.secondMoment), bits(expected.secondMoment), "v")
        #expect(rest.state.history.map(\.loss) == records.map(\.loss))
        #expect(rest.state.cursor == whole.state.cursor)
    }

    @Test(
        "A model of another family learns, and is resumed to the same bits", arguments: TrainerSample.Other.allCases,
        [nil, 5])
    func otherFamilies(other: TrainerSample.Other, rank: Int?) throws {
        var sample = try TrainerSample(other, rank: rank)
        sample.settings.schedule = try LearningRateSchedule(peak: 1e-2, warmupSteps: 2, totalSteps: 40)
        sample.settings.optimizer.groups = ParameterGroup.withoutDecayOfVectors(in: sample.masters())
        let (whole, part) = (try sample.trainer(), try sample.trainer())
        let records = try whole.steps()
        #expect(records[39].loss < records[0].loss - 0.5)
        try part.steps(20)
        let place = try TemporaryFolder()
        try part.save(to: place.file("run.h5"), configuration: "{}", provenance: "{}", tokenizer: nil)
        let (source, state) = try RunFile.read(path: place.file("run.h5"))
        let rest = try Trainer(
            resuming: source, sample.description, data: sample.data, settings: sample.settings, state: state)
        try rest.steps()
        expectEqual(bits(rest.masters), bits(whole.masters))
        #expect(rest.state.history.map(\.loss) == records.map(\.loss))
    }

    @Test("Counters that do not fit each other are found when resuming")
    func counters() throws {
        let sample = try TrainerSample()
        let trainer = try sample.trainer()
        try trainer.steps(2)
        let place = try TemporaryFolder()
        try trainer.save(to: place.file("run.h5"), configuration: "{}", provenance: "{}", tokenizer: nil)
        let (source, state) = try RunFile.read(path: place.file("run.h5"))
        func refuse(_ attribute: String, _ found: Int, _ change: (inout TrainingState) -> Void) {
            var state = state
            change(&state)
            let error = runError {
                _ = try Trainer(
                    resuming: source, sample.description, data: sample.data, settings: sample.settings, state: state)
            }
            guard case .invalid(_, let place, let words, _) = error else {
                Issue.record("\(attribute): \(String(describing: error))")
                return
            }
            #expect(place == "/training, attribute \(attribute)" && words == "\(found)")
        }
        refuse("cursor", 11) { $0.cursor = 11 }
        refuse("cursor", .max) { $0.cursor = .max }
        refuse("cursor", 12) { $0.step = .max }
        refuse("optimizer_steps", 1) { $0.optimizerSteps = 1 }
        refuse("optimizer_steps", 2) { $0.skippedSteps = 1 }
    }

    // MARK: - Skipped steps

    /// Makes the loss overflow, or undoes it.
    private func overflow(_ trainer: Trainer, _ value: Float = 3e38) {
        trainer.masters.norm.weight.fill { value }
    }

    @Test("A step whose loss is no number changes nothing, and the data is passed over")
    func skipped() throws {
        let trainer = try TrainerSample().trainer()
        try trainer.steps(2)
        overflow(trainer)
        let (weights, optimizer, before) = (bits(trainer.masters), try trainer.optimizerState(), trainer.state)
        let record = try trainer.steps(1)[0]
        #expect(!record.loss.isFinite || !record.gradientNorm.isFinite)
        expectEqual(bits(trainer.masters), weights)
        let after = try trainer.optimizerState()
        expectEqual(bits(after.firstMoment), bits(optimizer.firstMoment), "m")
        expectEqual(bits(after.secondMoment), bits(optimizer.secondMoment), "v")
        #expect(bits(after.firstMoment).values.contains { $0.contains { $0 != 0 } })
        let state = trainer.state
        #expect(state.step == 3 && state.skippedSteps == 1 && state.optimizerSteps == 2)
        #expect(state.cursor == before.cursor + 6 && state.tokens == before.tokens + 66)
        #expect(state.history.last == record && trainer.divergence == nil)
    }

    @Test("Divergence is reported at the limit of steps in a row, not before, and across an interruption")
    func divergence() throws {
        let sample = try TrainerSample(steps: 12)
        let trainer = try sample.trainer()
        try trainer.steps(1)
        // Two bad steps, a good one, and three bad ones.
        overflow(trainer)
        try trainer.steps(2)
        #expect(trainer.divergence == nil)
        overflow(trainer, 1)
        #expect(try trainer.steps(1)[0].loss.isFinite)
        overflow(trainer)
        try trainer.steps(2)
        #expect(trainer.divergence == nil && trainer.state.skippedSteps == 4)
        let place = try TemporaryFolder()
        try trainer.save(to: place.file("run.h5"), configuration: "{}", provenance: "{}", tokenizer: nil)
        let (source, state) = try RunFile.read(path: place.file("run.h5"))
        let resumed = try Trainer(
            resuming: source, sample.description, data: sample.data, settings: sample.settings, state: state)
        for run in [trainer, resumed] {
            #expect(run.divergence == nil)
            try run.steps(1)
            guard case .diverged(let step, let reason) = run.divergence else {
                Issue.record("no divergence")
                continue
            }
            #expect(step == 7 && reason.contains("not finite, for 3 steps in a row"))
            #expect(run.state.optimizerSteps == 2 && run.state.skippedSteps == 5)
        }
    }

    @Test("A model with learned positions takes no longer sequences")
    func positions() throws {
        var (sample, description) = (try TrainerSample(), try TrainerSample().description)
        for (rows, isTaken) in [(10, false), (11, true)] {
            description.positionRows = rows
            let masters = ModelWeights(description, seed: 1)
            let error = trainingError {
                _ = try Trainer(masters: masters, data: sample.data, settings: sample.settings)
            }
            #expect((error == nil) == isTaken)
            guard !isTaken else { continue }
            guard case .setting("sequence length", "11", let expected) = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
            #expect(expected.hasPrefix("at most 10,"))
        }
        // A teacher's positions count as well.
        description.positionRows = 10
        sample.settings.teacherShare = 0.5
        let teacher = LanguageModel(ModelWeights(description, seed: 1))
        let error = trainingError {
            _ = try Trainer(masters: sample.masters(), data: sample.data, settings: sample.settings, teacher: teacher)
        }
        guard case .setting("sequence length", _, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test("CoLA-M needs bottlenecks")
    func denseColaM() throws {
        var sample = try TrainerSample(rank: nil)
        sample.settings.memory = .colaM
        #expect {
            _ = try sample.trainer()
        } throws: { error in
            guard case TrainingError.setting("memory", "cola-m for a dense model", _) = error else { return false }
            return true
        }
    }
}
