import Checkpoints
import Foundation
import JSON
import Tensors
import TestSupport
import Testing

@Suite("Checkpoints of a training run, to the other tools")
struct RunCheckpointTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace() }

    /// The model as an ordinary checkpoint in plain.h5, and with moments and training state besides in run.h5.
    private func write(_ model: TinyModel) throws {
        try model.writeCheckpoint(workplace.file("plain.h5"))
        let plain = try HDF5Checkpoint(path: workplace.file("plain.h5"))
        let writer = try CheckpointWriter(
            path: workplace.file("run.h5"), configuration: model.configurationText, provenance: "{}",
            tokenizer: plain.tokenizer())
        for info in plain.tensors { try writer.write(info.name, plain.read(info.name)) }
        for part in OptimizerStatePart.allCases {
            for info in plain.tensors { try writer.writeOptimizerState(part, info.name, Matrix(shape: info.shape)) }
        }
        try writer.writeTraining(
            TrainingGroup(counters: ["step": 1], seed: 7, settings: "{}", columns: ["step"], history: [1]))
        try writer.finish()
    }

    @Test("inspect, import and export see the model in them, and nothing else")
    func ordinary() throws {
        try write(.cola)
        func inspected(_ name: String) throws -> JSONValue {
            var object = try workplace.json(.convert, "inspect", name).objectValue
            object?["path"] = nil
            return .object(try #require(object))
        }
        let plain = try inspected("plain.h5")
        try expectIdentical(inspected("run.h5"), plain)
        try workplace.succeed(.convert, "import", "run.h5", "imported.h5", "--quiet")
        try workplace.succeed(.convert, "export", "run.h5", "exported", "--layout", "cola", "--quiet")
        #expect(try HDF5Checkpoint.carriesTraining(path: workplace.file("run.h5")))
        #expect(try HDF5Checkpoint.carriesTraining(path: workplace.file("imported.h5")) == false)
        let source = try Checkpoint.open(workplace.file("plain.h5"))
        for name in ["run.h5", "imported.h5", "exported"] {
            let other = try Checkpoint.open(workplace.file(name))
            #expect(Set(other.tensors.map(\.name)) == Set(source.tensors.map(\.name)), "\(name)")
            for info in source.tensors {
                let (found, expected) = (try other.read(info.name), try source.read(info.name))
                withExtendedLifetime((found, expected)) {
                    expectEqual(Array(found.buffer), Array(expected.buffer), "\(name): \(info.name)")
                }
            }
        }
    }
}
