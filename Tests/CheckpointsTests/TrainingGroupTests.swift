import Checkpoints
import Files
import Foundation
import Tensors
import TestSupport
import Testing

@Suite("HDF5: what a training run adds")
struct TrainingGroupTests {
    static let shape = [3, 5]
    static let parts: [OptimizerStatePart: [Float]] = [
        .first: (0..<15).map { Float($0) / 7 - 1 },
        .second: [-0.0, .leastNonzeroMagnitude] + fixtureValues("v", count: 13),
    ]
    static let counters = ["cursor": 0, "step": Int.max, "tokens": -5]
    static let history: [Double] = [1, .nan, -0.0, 2, 5e-1, .infinity]

    private func write(_ path: String, history: [Double] = history) throws {
        let writer = try CheckpointWriter(
            path: path, configuration: "{}", provenance: "{}", tokenizer: .tokenizerJSON([123, 125]), type: .bf16,
            deflate: 3)
        try writer.write("model.x.weight", Matrix(shape: Self.shape, fixtureValues("x", count: 15)))
        for (part, values) in Self.parts.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            try writer.writeOptimizerState(part, "model.x.weight", Matrix(shape: Self.shape, values))
        }
        try writer.writeTraining(
            TrainingGroup(
                counters: Self.counters, seed: .max - 1, settings: #"{"ä": 1}"#, columns: ["step", "loss", "x"],
                history: history))
        try writer.finish()
    }

    /// Reads all of it and compares it bit for bit.
    private func expectSound(_ path: String, _ what: Comment? = nil) throws {
        let checkpoint = try HDF5Checkpoint(path: path)
        #expect(checkpoint.tensors.map(\.name) == ["model.x.weight"], what)
        #expect(try checkpoint.values("model.x.weight") == fixtureValues("x", count: 15), what)
        #expect(try checkpoint.tokenizer() == .tokenizerJSON([123, 125]), what)
        try checkpoint.checkOptimizerState(of: [("model.x.weight", Self.shape)])
        for (part, expected) in Self.parts {
            var values = [Float](repeating: .nan, count: 15)
            try values.withUnsafeMutableBufferPointer {
                try checkpoint.readOptimizerState(part, "model.x.weight", into: $0)
            }
            #expect(values.map(\.bitPattern) == expected.map(\.bitPattern), what)
        }
        let group = try checkpoint.training(counters: Self.counters.keys.sorted())
        #expect(group.counters == Self.counters && group.seed == .max - 1 && group.settings == #"{"ä": 1}"#, what)
        #expect(group.columns == ["step", "loss", "x"], what)
        #expect(group.history.map(\.bitPattern) == Self.history.map(\.bitPattern), what)
    }

    @Test("Everything comes back bit for bit, optimizer state in single precision whatever the weights are stored as")
    func roundTrip() throws {
        let folder = try TemporaryFolder()
        try write(folder.file("a.h5"))
        try expectSound(folder.file("a.h5"))
        #expect(try HDF5Checkpoint.carriesTraining(path: folder.file("a.h5")))
        #expect(folder.contents == ["a.h5"])
        try write(folder.file("b.h5"))
        try expectEqual(bytes(of: folder.file("a.h5")), bytes(of: folder.file("b.h5")))
        try write(folder.file("c.h5"), history: [])
        let group = try HDF5Checkpoint(path: folder.file("c.h5")).training(counters: [])
        #expect(group.history.isEmpty && group.columns.count == 3 && group.counters.isEmpty)
    }

    @Test("No flipped byte of a file changes anything unnoticed")
    func everyByte() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.h5")
        try write(path)
        let whole = try bytes(of: path)
        var noticed = 0
        for place in stride(from: 0, to: whole.count, by: 5) {
            var content = whole
            content[place] ^= 0x41
            try content.withUnsafeBytes { try Data($0).write(to: URL(fileURLWithPath: path)) }
            if checkpointError({ try expectSound(path, "byte \(place)") }) != nil { noticed += 1 }
        }
        #expect(noticed > whole.count / 25, "\(noticed) of \(whole.count / 5)")
    }

    @Test("Optimizer state and a weight of one name are two; what is written twice is an error, and nothing remains")
    func twice() throws {
        let folder = try TemporaryFolder()
        let writer = try CheckpointWriter(
            path: folder.file("a.h5"), configuration: "{}", provenance: "{}", tokenizer: nil)
        let one = Matrix(shape: [1], [1])
        try writer.write("x.weight", one)
        for part in OptimizerStatePart.allCases { try writer.writeOptimizerState(part, "x.weight", one) }
        let error = checkpointError { try writer.writeOptimizerState(.first, "x.weight", one) }
        #expect(error == .tensors(path: folder.file("a.h5"), problems: ["x.weight: written twice"]))
        #expect(folder.contents == [])
    }

    @Test("A part that is asked for with another size, or is not there")
    func wrongRequests() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.h5")
        try write(path)
        let checkpoint = try HDF5Checkpoint(path: path)
        var values = [Float](repeating: 0, count: 14)
        func error(_ name: String) -> CheckpointError? {
            checkpointError {
                try values.withUnsafeMutableBufferPointer { try checkpoint.readOptimizerState(.first, name, into: $0) }
            }
        }
        let problem = "/optimizer/m/model.x.weight: found f32 [3, 5], expected 14 of f32"
        #expect(error("model.x.weight") == .tensors(path: path, problems: [problem]))
        #expect(error("y") == .tensors(path: path, problems: ["/optimizer/m/y: missing"]))
        let attribute = checkpointError { _ = try checkpoint.training(counters: ["epoch"]) }
        #expect(
            attribute
                == .invalid(
                    path: path, place: "/training, attribute epoch", found: "nothing", expected: "a whole number"))
    }
}
