import Foundation
import JSON
import Tensors
import Testing

@testable import Checkpoints

@Suite("cola-train: run files that cannot be resumed")
struct BadRunFileTests {
    let workplace: Workplace
    /// The checkpoint after five steps of eight.
    private let checkpoint = Workplace.checkpoint(5)
    private var path: String { workplace.file(checkpoint) }

    init() throws {
        workplace = try Workplace.forTraining()
        try workplace.train("pretrain", ["save-every": "5"])
        try FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(8)))
    }

    /// Resuming is refused, by the folder and by the file; nothing in the folder changes.
    private func refuse(
        _ mentions: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let metrics = try workplace.text("run/metrics.csv")
        for place in ["run", checkpoint] {
            try workplace.refuse(
                65, .train, ["resume", place, "--quiet"], mentions: mentions, sourceLocation: sourceLocation)
        }
        #expect(try workplace.text("run/metrics.csv") == metrics, sourceLocation: sourceLocation)
    }

    /// Another value of one of the run's settings.
    private func change(_ name: String, _ value: JSONValue?) throws {
        try rewrite(path) { training in
            var settings = try #require(try JSONValue(parsing: training.settings).objectValue)
            settings[name] = value
            training.settings = JSONValue.object(settings).text()
        }
    }

    // MARK: - Damage

    @Test(
        "A flipped bit in the optimizer's state, with the file and the parameter's name",
        arguments: OptimizerStatePart.allCases)
    func optimizerState(_ part: OptimizerStatePart) throws {
        let name = "model.layers.1.mlp.down_proj.weight"
        let source = try HDF5Checkpoint(path: path)
        let matrix = Matrix(shape: try #require(source.info(name)).shape)
        try source.readOptimizerState(part, name, into: matrix.buffer)
        let whole = Data(try workplace.bytes(checkpoint))
        let pattern = Data(bytes: matrix.pointer, count: 64)
        let place = try #require(whole.range(of: pattern)).lowerBound
        #expect(whole.range(of: pattern, in: place + 1..<whole.count) == nil)
        var damaged = [UInt8](whole)
        damaged[place + 21] ^= 4
        try workplace.write(damaged, checkpoint)
        try refuse("\(checkpoint): /optimizer/\(part.rawValue)/\(name): ")
    }

    @Test("A file cut short at any length")
    func truncated() throws {
        let bytes = try workplace.bytes(checkpoint)
        for length in [0, 7, 100, 2048, bytes.count / 2, bytes.count - 1] {
            try workplace.write(Array(bytes.prefix(length)), checkpoint)
            try refuse("\(checkpoint): ")
        }
    }

    @Test("A file with wrong bytes is refused, or nobody reads them")
    func flipped() throws {
        let bytes = try workplace.bytes(checkpoint)
        try workplace.resume()
        let whole = try workplace.run(at: 8)
        var generator = SeededGenerator(seed: 12)
        var refused = 0
        for round in 0..<24 {
            try? FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(8)))
            var damaged = bytes
            let place = Int.random(in: 0..<(round % 2 == 0 ? bytes.count : 4000), using: &generator)
            damaged[place] ^= UInt8.random(in: 1...255, using: &generator)
            try workplace.write(damaged, checkpoint)
            let outcome = try workplace.run(.train, "resume", "run", "--quiet")
            if outcome.status == 0 && !outcome.isKilled {
                expectSame(try workplace.run(at: 8), whole)
                continue
            }
            refused += 1
            #expect(outcome.status == 65 && !outcome.isKilled, "byte \(place): \(outcome)")
            #expect(outcome.errors.contains("\(checkpoint): "), "byte \(place): \(outcome)")
            expectOneMessage(outcome, from: .train)
        }
        #expect(refused >= 16, "\(refused) of 24")
    }

    @Test("A checkpoint without training state, with the way out")
    func weightsAlone() throws {
        try TinyModel.dense.writeCheckpoint(path)
        try refuse("\(checkpoint): carries no training state; use `continue`")
    }

    @Test("A checkpoint whose weights or moments are of another model")
    func otherModel() throws {
        let source = try HDF5Checkpoint(path: path)
        let training = try source.training(counters: RunContents.counters)
        let writer = try CheckpointWriter(
            path: path, configuration: source.configuration ?? "", provenance: "{}", tokenizer: nil)
        for info in source.tensors { try writer.write(info.name, try source.read(info.name)) }
        try writer.writeOptimizerState(.first, "model.norm.weight", Matrix(shape: [23]))
        try writer.writeTraining(training)
        try writer.finish()
        try refuse(
            "\(checkpoint): ", "/optimizer/m/model.norm.weight: found f32 [23], expected f32 [24]",
            "/optimizer/v: missing")
    }

    // MARK: - Tampering

    @Test("Data that was changed since the run learnt from it, or is gone")
    func changedData() throws {
        let bytes = try workplace.bytes("tokens.u16")
        var changed = bytes
        changed[100] ^= 1
        for other in [changed, bytes + [1, 0]] {
            try workplace.write(other, "tokens.u16")
            try refuse(
                "tokens.u16: found contents with the hashes ", "those that the run has learnt from", "`continue`")
        }
        try workplace.write(bytes, "tokens.u16")
        try workplace.write(changed, "others.u16")
        try workplace.refuse(
            65, .train, ["resume", "run", "--tokens", "others.u16", "--quiet"], mentions: ["others.u16: found contents"]
        )
        try FileManager.default.removeItem(atPath: workplace.file("tokens.u16"))
        try workplace.refuse(66, .train, ["resume", "run", "--quiet"], mentions: ["tokens.u16: no such file"])
    }

    private static let wrongSettings: [(String, JSONValue?, String)] = [
        ("batch", nil, "/training, settings, batch: found nothing, expected a whole number"),
        ("batch", "eight", "/training, settings, batch: found \"eight\""), ("batch", 0, "batch: found 0"),
        ("batch", 4.5, "/training, settings, batch: found 4.5"), ("batch", 5, "cursor"),
        ("learning_rate", -1, "learning rate: found -1"), ("warmup_steps", 9, "warm-up steps: found 9"),
        ("steps", 0, "steps: found 0"), ("beta2", 1, "beta2: found 1.0"), ("clip", nil, "clip: found nothing"),
        ("sequence_length", .integer(1 << 28), "sequence length: found 268435456"),
        ("memory", "cola-m", "memory: found cola-m for a dense model"), ("memory", "none", "memory: found \"none\""),
        ("precision", "f16", "precision: found \"f16\""), ("schedule", nil, "schedule: found nothing"),
        ("seed", 3, "seed: found 3, expected a whole number as text"), ("groups", "all", "groups: found \"all\""),
        ("groups", [["pattern": "x*", "learning_rate_factor": 1]], "parameter group: found \"x*\""),
        ("groups", [["pattern": "*"]], "/training, settings, groups"),
        ("data_files", nil, "data_files: found nothing"), ("data_kind", 1, "data_files"),
        ("data_sha256", nil, "tokens.u16: found contents"),
    ]

    @Test("Settings that were tampered with are the file's fault", arguments: wrongSettings)
    func settings(_ name: String, _ value: JSONValue?, _ words: String) throws {
        try change(name, value)
        try refuse(words)
        // Missing hashes are those of no data; all else is found in the file itself.
        let outcome = try workplace.run(.train, "resume", "run", "--quiet")
        #expect(outcome.errors.contains("\(checkpoint): ") == (name != "data_sha256"), "\(outcome)")
    }

    @Test("Settings that are no JSON, counters that do not fit each other, provenance that is no JSON")
    func state() throws {
        let bytes = try workplace.bytes(checkpoint)
        func refuse(_ mention: String, _ change: (inout TrainingGroup) -> Void) throws {
            try workplace.write(bytes, checkpoint)
            try rewrite(path, change)
            try self.refuse("\(checkpoint): ", mention)
        }
        try refuse("/training, attribute settings: found line 1") { $0.settings = "{\"batch\": 4" }
        try refuse("/training, attribute settings: found 7, expected a JSON object") { $0.settings = "7" }
        try refuse("/training, attribute cursor: found 21, expected 20") { $0.counters["cursor"] = 21 }
        try refuse("/training, attribute cursor: found \(Int.max), expected 20") { $0.counters["cursor"] = .max }
        try refuse("/training, attribute optimizer_steps: found 6") { $0.counters["optimizer_steps"] = 6 }
        try refuse("/training/history, row 4: found step 5") { $0.counters["step"] = 4 }
        try workplace.write(bytes, checkpoint)
        try rewrite(path, provenance: "by hand") { _ in }
        try self.refuse("\(checkpoint): attribute provenance: found by hand, expected JSON text")
    }
}
