import JSON
import LowRank
import TestSupport
import Testing
import Transformer

@testable import Workflows

@Suite struct ConversionWorkflowTests {
    private let tiny: TinyModel
    private let observer = RecordingObserver()
    private let sequences = TinyModel.sequences([40, 33, 40, 37], seed: 4)

    init() throws { tiny = try TinyModel() }

    private var workflow: ConversionWorkflow {
        ConversionWorkflow(
            tiny.source, tiny.model, .init(sequences, isContinuous: false), observer: observer)
    }

    private func settings(passes: Int = 0) -> ConversionWorkflow.Settings {
        var recipe = ConversionRecipe()
        recipe.anchors = true
        var settings = ConversionWorkflow.Settings(
            recipe: recipe, ranks: .choice(RankChoice(policy: .uniform(rank: 4), multiple: 1, weighting: .fisher)))
        settings.calibration = .text(Calibration.Text(sequences, labelSeed: 2))
        if passes > 0 { settings.refinement = Refinement(passes: passes, seed: 3, precision: .f32) }
        return settings
    }

    private func phases(_ timer: PhaseTimer) -> [String] { timer.json.objectValue?.members.map(\.key) ?? [] }

    @Test("converts as the libraries do, called one after the other")
    func byHand() throws {
        var timer = PhaseTimer()
        let outcome = try workflow.convert(settings(), timer: &timer)
        let fingerprint = tiny.model.weights.fingerprint
        let moments = CalibrationMoments(
            tiny.model, fingerprint: fingerprint, labelSeed: 2, sequenceLength: 40)
        try moments.add(sequences)
        let plan = try RankPlan(
            LayerEnergies.all(of: tiny.model, .fisher, moments), .uniform(rank: 4),
            modelParameters: tiny.model.weights.parameterCount, multiple: 1,
            by: .init(fingerprint: fingerprint, weighting: .fisher, calibration: moments.record))
        let converted = try Conversion(tiny.model, plan: plan, recipe: settings().recipe, statistics: moments)
            .run(tokens: TokenBatch(sequences)).model
        #expect(outcome.model.weights.fingerprint == converted.weights.fingerprint)
        #expect(JSONValue.object(outcome.plan.json).text() == JSONValue.object(plan.json).text())
        #expect(outcome.layers.map(\.rank) == Array(repeating: 4, count: 14))
        #expect(outcome.refinement == nil)
        #expect(phases(timer) == ["moments", "ranks", "factors"])
        #expect(
            observer.phases.map(\.title) == ["moments and gradients", "energies of directions", "convert"])
    }

    @Test("tells an observer each phase from its beginning to its end, and few tokens")
    func observed() throws {
        var timer = PhaseTimer()
        let outcome = try workflow.convert(settings(passes: 2), timer: &timer)
        let destination = ConversionWorkflow.Destination(
            path: tiny.file("cola.h5"), type: .f32, provenance: JSONObject(), tokenizer: nil)
        try workflow.write(outcome, to: destination)
        let written = try workflow.reread(outcome, from: destination)
        let text = TinyModel.sequences([60], seed: 8)
        let windows = [LossWindows(name: "held out", texts: text, length: 20, stride: 20)]
        _ = try workflow.measure(
            written, .init(sequences: text, windows: windows), paths: (dense: "dense", converted: "cola"))
        #expect(
            observer.phases.map { "\($0.title): \($0.total) \($0.unit)" } == [
                "moments and gradients: 150 tokens", "energies of directions: 14 layers", "convert: 2 layers",
                "refine: 2 steps", "errors on the calibration: 2 layers", "errors on held-out text: 2 layers",
                "loss before and after: 120 tokens",
            ])
        for phase in observer.phases {
            #expect(phase.isOver && phase.updates.last == phase.total, "\(phase.title): \(phase.updates)")
            #expect(phase.updates == phase.updates.sorted(), "\(phase.title): \(phase.updates)")
        }
        // 150 tokens, and the widest input is down's, of 33 features; then the refinement begins.
        #expect(observer.notices == [.refining(.f32)])
        #expect(phases(timer) == ["moments", "ranks", "factors", "refine"])
    }

    @Test("refines only what became low-rank, and closer to the dense model")
    func refined() throws {
        var timer = PhaseTimer()
        let plain = try workflow.convert(settings(), timer: &timer)
        let outcome = try workflow.convert(settings(passes: 30), timer: &timer)
        let refinement = try #require(outcome.refinement)
        #expect(refinement.steps == 30 && refinement.last < refinement.first, "\(refinement)")
        for (before, after) in zip(plain.model.weights.parameters, outcome.model.weights.parameters) {
            let isSame = before.weight.copy().elements == after.weight.copy().elements
            #expect(isSame == (before.role.isEmbedding), "\(before.name)")
        }
    }

    @Test("measures what the file holds: losses before and after, errors of all layers")
    func measured() throws {
        var timer = PhaseTimer()
        let outcome = try workflow.convert(settings(), timer: &timer)
        let destination = ConversionWorkflow.Destination(
            path: tiny.file("cola.h5"), type: .bf16, provenance: JSONObject(), tokenizer: nil)
        try workflow.write(outcome, to: destination)
        let written = try workflow.reread(outcome, from: destination)
        #expect(written.weights.fingerprint != outcome.model.weights.fingerprint)
        let text = TinyModel.sequences([60], seed: 8)
        let windows = [LossWindows(name: "held out", texts: text, length: 60, stride: 60)]
        let paths = (dense: "dense", converted: "cola")
        let measured = try workflow.measure(written, .init(sequences: text, windows: windows), paths: paths)
        #expect(measured.calibrationErrors.map(\.linear.id) == tiny.model.description.linears.map(\.id))
        #expect(measured.heldOutErrors.map(\.linear.id) == tiny.model.description.linears.map(\.id))
        #expect(measured.losses.map(\.name) == ["held out"])
        #expect(try [measured.losses[0].before] == LossWindows.losses(of: windows, tiny.model, path: ""))
        #expect(try [measured.losses[0].after] == LossWindows.losses(of: windows, written, path: ""))
        let nothing = try workflow.measure(written, .init(), paths: paths)
        #expect(nothing.heldOutErrors.isEmpty && nothing.losses.isEmpty && nothing.calibrationErrors.count == 14)
    }

    @Test("notes fewer than four tokens for each feature of the widest input", arguments: [131, 132])
    func fewTokens(count: Int) throws {
        let text = Calibration.Text(TinyModel.sequences([count], seed: 4), labelSeed: nil)
        _ = try Calibration(tiny.model, fingerprint: "", observer: observer).collect(text)
        #expect(observer.notices == (count < 4 * 33 ? [.fewTokens(count, features: 33)] : []))
    }
}

extension ParameterRole {
    fileprivate var isEmbedding: Bool {
        if case .embedding = self { true } else { false }
    }
}
