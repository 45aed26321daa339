import CHDF5
import Files
import Foundation
import Tensors
import TestSupport
import Testing

@testable import Checkpoints
@testable import Training
@testable import Transformer

@Suite("Checkpoints of a training run")
struct RunFileTests {
    let place: TemporaryFolder
    let sample: SampleRun

    init() throws {
        place = try TemporaryFolder()
        sample = try SampleRun()
    }

    private var path: String { place.file("run.h5") }

    /// Reads all of a run's file.
    private func readAll(_ path: String) throws -> (TrainingState, ModelWeights, OptimizerState) {
        let (source, state) = try RunFile.read(path: path)
        let weights = try ModelWeights(from: source, sample.description)
        return (state, weights, try RunFile.optimizerState(from: source, like: weights, step: state.optimizerSteps))
    }

    /// The error about the optimizer state of a file.
    private func optimizerError(_ source: HDF5Checkpoint) -> CheckpointError? {
        runError { _ = try RunFile.optimizerState(from: source, like: sample.weights, step: 4) }
    }

    @Test("Weights, optimizer state and run state come back bit for bit, and only the file remains")
    func roundTrip() throws {
        try sample.write(path)
        #expect(place.contents == ["run.h5"])
        let (state, weights, optimizer) = try readAll(path)
        #expect(state == sample.state && optimizer.step == sample.optimizer.step)
        expectEqual(bits(weights), bits(sample.weights))
        expectEqual(bits(optimizer.firstMoment), bits(sample.optimizer.firstMoment))
        expectEqual(bits(optimizer.secondMoment), bits(sample.optimizer.secondMoment))
        #expect(bits(optimizer.firstMoment) != bits(optimizer.secondMoment))
        #expect(bits(optimizer.firstMoment) != bits(weights))
        // Factors lie apart in memory, and side by side in the file.
        #expect(weights.parameters.contains { !$0.weight.isContiguous })
        #expect(state.history[1].loss.isNaN && state.history[1].evaluationLoss == nil)
        #expect(state.history[2].evaluationLoss == 1.0 / 3)
    }

    @Test("Equal runs give equal bytes")
    func deterministic() throws {
        for name in ["a.h5", "b.h5"] { try sample.write(place.file(name)) }
        try expectEqual(place.bytes("a.h5"), place.bytes("b.h5"))
    }

    @Test("The state of a run without history, and one with histories of many chunks", arguments: [0, 1, 40_001])
    func histories(steps: Int) throws {
        var sample = sample
        sample.state.history = SampleRun.history(steps: steps)
        sample.state.step = steps
        sample.state.settings = [:]
        try sample.write(path)
        #expect(try RunFile.read(path: path).state == sample.state)
    }

    @Test("Histories that differ in one bit are told apart, and an evaluation that is no number counts as none")
    func recordsCompare() {
        func record(_ loss: Double, _ evaluation: Double? = nil) -> StepRecord {
            StepRecord(
                step: 1, tokens: 2, loss: loss, gradientNorm: 3, learningRate: 4, tokensPerSecond: 5
            ).evaluated(evaluation)
        }
        #expect(record(.nan) == record(.nan))
        #expect(record(1) != record(1.0.nextUp) && record(0) != record(-0.0))
        #expect(record(1, 2) != record(1) && record(1, .nan) == record(1))
    }

    @Test("The file is an ordinary checkpoint to everybody else")
    func ordinary() throws {
        try sample.write(path)
        let source = try Checkpoint.open(path)
        #expect(source.formatName == "cola checkpoint (HDF5)")
        #expect(source.configuration == SampleRun.configuration)
        #expect(source.provenance == #"{"seed": 7}"#)
        #expect(try source.tokenizer() == .sentencepiece([10, 0, 255]))
        let names = Set(sample.weights.parameters.map(\.name))
        #expect(Set(source.tensors.map(\.name)) == names && source.tensors.count == names.count)
        #expect(try ModelDescription(of: source) == sample.description)
        expectEqual(bits(try ModelWeights(from: source, sample.description)), bits(sample.weights))
    }

    @Test("Weights or optimizer state that are not finite are not written, and the older file stays")
    func notFinite() throws {
        try sample.write(path)
        let before = try place.bytes("run.h5")
        for (tensors, prefix) in [
            (sample.weights, ""), (sample.optimizer.firstMoment, "/optimizer/m/"),
            (sample.optimizer.secondMoment, "/optimizer/v/"),
        ] {
            let (norm, factor) = (tensors.norm.weight.view, try tensors.named("model.layers.0.mlp.up_proj.cola_a").view)
            let former = (norm[0, 5], factor[3, 1])
            (norm[0, 5], factor[3, 1]) = (-.infinity, .nan)
            defer { (norm[0, 5], factor[3, 1]) = former }
            let error = runError { try sample.write(path) }
            let problems = [
                "\(prefix)model.layers.0.mlp.up_proj.cola_a: element [3, 1] is nan",
                "\(prefix)model.norm.weight: element [5] is -inf",
            ]
            #expect(error == .tensors(path: path, problems: problems))
        }
        #expect(place.contents == ["run.h5"])
        try expectEqual(place.bytes("run.h5"), before)
    }

    // MARK: - Damage

    @Test("A checkpoint of weights alone says that it is one")
    func weightsAlone() throws {
        let writer = try CheckpointWriter(
            path: path, configuration: SampleRun.configuration, provenance: "{}", tokenizer: nil)
        try writer.write("model.norm.weight", Matrix(shape: [6], [1, 2, 3, 4, 5, 6]))
        try writer.finish()
        let expected = CheckpointError.unreadable(
            path: path, reason: "carries no training state; use `continue` to train it on from its weights")
        #expect(runError { _ = try RunFile.read(path: path) } == expected)
        let source = try HDF5Checkpoint(path: path)
        #expect(optimizerError(source) == expected)
        #expect(try HDF5Checkpoint.carriesTraining(path: path) == false)
    }

    @Test("Without /training there is no state, whatever else is there")
    func missingState() throws {
        try sample.write(path)
        try edit(path) { #expect(H5Ldelete($0, "training", 0) >= 0) }
        let error = try #require(runError { _ = try RunFile.read(path: path) })
        #expect("\(error)".contains("carries no training state; use `continue`"))
    }

    @Test("Optimizer state that is missing, unexpected, of another shape or type: all of them in one error")
    func wrongOptimizerState() throws {
        let writer = try CheckpointWriter(
            path: path, configuration: SampleRun.configuration, provenance: "{}", tokenizer: nil)
        func write(_ part: OptimizerStatePart, _ tensors: ModelWeights, except: Set<String>) throws {
            for parameter in tensors.parameters where !except.contains(parameter.name) {
                try writer.writeOptimizerState(part, parameter.name, parameter.weight.copy())
            }
        }
        let (query, norm) = ("model.layers.1.self_attn.q_proj.cola_a", "model.norm.weight")
        for parameter in sample.weights.parameters { try writer.write(parameter.name, parameter.weight.copy()) }
        try write(.first, sample.optimizer.firstMoment, except: [query, norm])
        try writer.writeOptimizerState(.first, query, Matrix(rows: 3, columns: 6))
        try writer.writeOptimizerState(.first, "model.extra", Matrix(shape: [2], [1, 2]))
        try write(.second, sample.optimizer.secondMoment, except: ["lm_head.weight"])
        try writer.writeTraining(sample.state.group)
        try writer.finish()
        try edit(path) { file in
            let type = try ElementType.f16.makeHDF5Type()
            let space = try HDF5Handle(H5Screate_simple(1, [6], nil), closing: H5Sclose)
            _ = try HDF5Handle(
                H5Dcreate2(file, "optimizer/v/half", type.id, space.id, 0, 0, 0), closing: H5Dclose)
            #expect(H5Ldelete(file, "optimizer/v/\(norm)", 0) >= 0)
            #expect(H5Lmove(file, "optimizer/v/half", file, "optimizer/v/\(norm)", 0, 0) >= 0)
            _ = try HDF5Handle(H5Gcreate2(file, "optimizer/w", 0, 0, 0), closing: H5Gclose)
        }
        let error = try optimizerError(RunFile.read(path: path).source)
        let problems = [
            "/optimizer/m/\(query): found f32 [3, 6], expected f32 [6, 3]",
            "/optimizer/m/\(norm): missing, expected [6]", "/optimizer/m/model.extra: unexpected",
            "/optimizer/v/\(norm): found f16 [6], expected f32 [6]",
            "/optimizer/v/lm_head.weight: missing, expected [13, 6]", "/optimizer/w: unexpected",
        ]
        #expect(error == .tensors(path: path, problems: problems))
    }

    @Test("A file without one part of the optimizer state, or both")
    func missingOptimizerState() throws {
        for (name, problem) in [("optimizer/v", "/optimizer/v: missing"), ("optimizer", "/optimizer: missing")] {
            try sample.write(path)
            try edit(path) { #expect(H5Ldelete($0, name, 0) >= 0) }
            let error = try optimizerError(RunFile.read(path: path).source)
            #expect(error == .tensors(path: path, problems: [problem]))
        }
    }

    @Test("Optimizer state that is not finite is refused by name")
    func optimizerStateNotFinite() throws {
        try sample.write(path)
        let name = "optimizer/v/model.layers.0.mlp.down_proj.bias"
        try edit(path) { file in
            let dataset = try HDF5Handle(H5Dopen2(file, name, 0), closing: H5Dclose)
            #expect(H5Dwrite(dataset.id, chdf5_native_float(), 0, 0, 0, [1, 2, Float.nan, 4, 5, .infinity]) >= 0)
        }
        let error = runError { _ = try readAll(path) }
        #expect(error == .tensors(path: path, problems: ["/\(name): element [2] is nan"]))
    }

    @Test("A flipped byte of the optimizer state is an error that names it")
    func flippedByte() throws {
        try sample.write(path)
        let weight = try sample.optimizer.secondMoment.named("model.layers.1.mlp.gate_proj.cola_b")
        let pattern = Array(UnsafeRawBufferPointer(start: weight.view.pointer + 2, count: 24))
        var content = try place.bytes("run.h5")
        let found = try #require(content.indices.dropLast(24).first { content[$0..<$0 + 24].elementsEqual(pattern) })
        content[found + 9] ^= 0x04
        try place.write(content, "run.h5")
        guard case .unreadable(path, let reason) = runError({ _ = try readAll(path) }) else {
            Issue.record("the damage was not found")
            return
        }
        #expect(reason.hasPrefix("/optimizer/v/model.layers.1.mlp.gate_proj.cola_b: ") && reason.contains("checksum"))
    }

    @Test("A file cut short is unreadable, with both sizes")
    func truncated() throws {
        try sample.write(path)
        let whole = try place.bytes("run.h5")
        for size in [100, whole.count / 2, whole.count - 1] {
            try place.write(whole.prefix(size), "cut.h5")
            let error = runError { _ = try RunFile.read(path: place.file("cut.h5")) }
            let reason = "the file is cut short: it has \(size) bytes of \(whole.count)"
            #expect(error == .unreadable(path: place.file("cut.h5"), reason: reason))
        }
        #expect(runError { _ = try RunFile.read(path: place.file("no.h5")) } == .missing(path: place.file("no.h5")))
    }

    @Test(
        "Attributes of the state that are something else",
        arguments: [
            ("step", HDF5Attribute.text("5"), "text", "a whole number"), ("tokens", nil, "nothing", "a whole number"),
            ("cursor", .integer(-1), "-1", "a count"), ("seed", .integer(7), "7", "an unsigned whole number"),
            ("cursor", .unsigned(.max), "\(UInt64.max)", "a whole number"),
            ("settings", .integer(7), "7", "JSON text"), ("settings", .text("[1]"), "[1]", "a JSON object"),
        ])
    func wrongAttribute(name: String, value: HDF5Attribute?, found: String, expected: String) throws {
        try sample.write(path)
        try edit(path) { file in
            let group = try HDF5Handle(H5Oopen(file, "training", 0), closing: H5Oclose)
            #expect(H5Adelete(group.id, name) >= 0)
            if let value { try group.setAttribute(name, value) }
        }
        let error = runError { _ = try RunFile.read(path: path) }
        let place = "/training, attribute \(name)"
        #expect(error == .invalid(path: path, place: place, found: found, expected: expected))
    }

    @Test("Settings that are no JSON, and histories that are none")
    func wrongContents() throws {
        func reason(_ change: (inout TrainingGroup) -> Void) throws -> String {
            var group = sample.state.group
            change(&group)
            let writer = try CheckpointWriter(path: path, configuration: "{}", provenance: "{}", tokenizer: nil)
            try writer.writeTraining(group)
            try writer.finish()
            return "\(try #require(runError { _ = try RunFile.read(path: path) }))"
        }
        #expect(try reason { $0.settings = "{" }.contains("/training, attribute settings: found line 1"))
        #expect(
            try reason { $0.columns[2] = "gain" }.contains("/training/history: found the columns step, tokens, gain"))
        #expect(try reason { $0.history[7] = 1.5 }.contains("/training/history, row 1: found step 1.5"))
        #expect(try reason { $0.history[14] = 2 }.contains("/training/history, row 2: found step 2, expected growing"))
        #expect(try reason { $0.counters["step"] = 4 }.contains("/training/history, row 4: found step 5"))
        #expect(
            try reason { group in
                group.columns.removeLast()
                group.history = []
            }.contains("/training/history: found the columns"))
    }

    @Test("A history that is missing, or no table")
    func wrongHistory() throws {
        for isMissing in [true, false] {
            try sample.write(path)
            try edit(path) { file in
                #expect(H5Ldelete(file, "training/history", 0) >= 0)
                guard !isMissing else { return }
                let space = try HDF5Handle(H5Screate_simple(1, [7], nil), closing: H5Sclose)
                _ = try HDF5Handle(
                    H5Dcreate2(file, "training/history", chdf5_ieee_f32(), space.id, 0, 0, 0), closing: H5Dclose)
            }
            let error = "\(try #require(runError { _ = try RunFile.read(path: path) }))"
            #expect(error.contains("/training/history: found \(isMissing ? "no such dataset" : "f32 [7]")"))
        }
    }
}

extension ModelWeights {
    /// A parameter by its whole name.
    func named(_ name: String) throws -> Weight {
        try #require(parameters.first { $0.name == name }).weight
    }
}
