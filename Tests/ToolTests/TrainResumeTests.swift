import Foundation
import TestSupport
import Testing

@testable import Checkpoints

@Suite("cola-train resume")
struct ResumeTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace.forTraining() }

    /// Long enough to be interrupted on the way.
    private static let steps = 300

    private func arguments(_ out: String, _ saveEvery: Int) -> [String] {
        workplace.line(
            "pretrain",
            [
                "out": out, "model": "cola", "steps": "\(Self.steps)", "save-every": "\(saveEvery)",
                "evaluate-every": "7",
            ])
    }

    /// What a run that nobody interrupts comes to.
    private func uninterrupted() throws -> (RunContents, Metrics) {
        let outcome = try workplace.run(.train, arguments("whole", 1000) + ["--quiet"])
        try #require(outcome.status == 0, "\(outcome)")
        return (try workplace.run(at: Self.steps, of: "whole"), try workplace.metrics(of: "whole"))
    }

    private func expectSame(as whole: (RunContents, Metrics), sourceLocation: SourceLocation = #_sourceLocation) throws
    {
        ToolTests.expectSame(try workplace.run(at: Self.steps), whole.0, sourceLocation: sourceLocation)
        let metrics = try workplace.metrics()
        for column in ["step", "tokens", "loss", "evaluation_loss", "gradient_norm", "learning_rate"] {
            let isEqual = try metrics.column(column) == whole.1.column(column)
            #expect(isEqual, "\(column)", sourceLocation: sourceLocation)
        }
        let lines = try workplace.text("run/metrics.jsonl").split(separator: "\n")
        #expect(lines.count == Self.steps, sourceLocation: sourceLocation)
    }

    /// Starts the run and ends it with a signal as soon as `condition` holds.
    private func interrupt(_ signal: Int32, saveEvery: Int, when condition: () -> Bool) throws -> Outcome {
        let tool = try workplace.start(.train, arguments("run", saveEvery))
        let hasHappened = tool.wait(until: condition)
        tool.send(signal)
        let outcome = try tool.finish()
        try #require(hasHappened, "\(outcome)")
        return outcome
    }

    private var loggedSteps: Int {
        ((try? workplace.text("run/metrics.csv")) ?? "").count { $0 == "\n" } - 1
    }

    @Test("A run that was killed goes on to the same bits, whatever became of its metrics")
    func killed() throws {
        let whole = try uninterrupted()
        let outcome = try interrupt(SIGKILL, saveEvery: 20) {
            FileManager.default.fileExists(atPath: workplace.file(Workplace.checkpoint(40)))
        }
        try #require(outcome.isKilled && outcome.status == SIGKILL, "\(outcome)")
        #expect(loggedSteps < Self.steps)
        // The process, or the machine, may have stopped in the middle of a line.
        for (name, torn) in [("metrics.csv", "299,19136,3.0"), ("metrics.jsonl", "{\"step\":29")] {
            try workplace.write(try workplace.text("run/\(name)") + torn, "run/\(name)")
        }
        let left = workplace.contents(of: "run").filter { $0.hasSuffix(".h5") }
        #expect((1...3).contains(left.count))
        try workplace.resume()
        try expectSame(as: whole)
    }

    @Test(
        "A run that is interrupted saves, says how to go on, and goes on to the same bits",
        arguments: [SIGINT, SIGTERM])
    func interrupted(_ signal: Int32) throws {
        let whole = try uninterrupted()
        let outcome = try interrupt(signal, saveEvery: 1000) { loggedSteps >= 20 }
        #expect(outcome.status == 130 && !outcome.isKilled && outcome.output == "", "\(outcome)")
        let step = loggedSteps
        #expect((20..<Self.steps).contains(step))
        #expect(workplace.contents(of: "run").filter { $0.hasSuffix(".h5") }.count == 1)
        let path = Workplace.checkpoint(step)
        #expect(
            outcome.errors.hasSuffix("saved \(path); go on with: cola-train resume run\n"), "\(outcome)")
        #expect(outcome.errors.contains("interrupted: will save and stop"))
        #expect(try workplace.run(at: step).counters["step"] == step)
        try workplace.resume()
        try expectSame(as: whole)
    }

    @Test("A run can be interrupted again and again")
    func interruptedTwice() throws {
        let whole = try uninterrupted()
        _ = try interrupt(SIGINT, saveEvery: 1000) { loggedSteps >= 3 }
        let first = loggedSteps
        let tool = try workplace.start(.train, ["resume", "run", "--save-every", "1000"])
        #expect(tool.wait { loggedSteps >= first + 3 })
        // By this name pkill finds it, though it has started itself again.
        #expect(tool.name == "cola-train")
        tool.send(SIGTERM)
        let outcome = try tool.finish()
        #expect(outcome.status == 130 && outcome.errors.contains("resuming run/step-"), "\(outcome)")
        try workplace.resume()
        try expectSame(as: whole)
    }

    @Test("An older checkpoint, named itself, leads to the same end; a finished run stays as it is")
    func older() throws {
        try workplace.train("pretrain", ["save-every": "3", "keep": "9", "evaluate-every": "2"])
        #expect(workplace.contents(of: "run").count == 2 + 3)
        let (whole, metrics) = (try workplace.run(at: 8), try workplace.metrics())
        try FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(8)))
        try workplace.resume(Workplace.checkpoint(3))
        ToolTests.expectSame(try workplace.run(at: 8), whole)
        #expect(try workplace.metrics().column("loss") == metrics.column("loss"))
        let bytes = try workplace.bytes(Workplace.checkpoint(8))
        try workplace.resume()
        try expectEqual(workplace.bytes(Workplace.checkpoint(8)), bytes)
        #expect(try workplace.metrics().column("loss") == metrics.column("loss"))
    }

    @Test("Files that were moved are given anew, texts as well as tokens")
    func moved() throws {
        for (option, file) in [("tokens", "tokens.u16"), ("text", "text.txt")] {
            let changes: KeyValuePairs<String, String?> = [
                "tokens": nil, option: file, "tokenizer": "tokenizer.json", "out": option, "save-every": "5",
            ]
            try workplace.train("pretrain", changes)
            let whole = try workplace.run(at: 8, of: option)
            try FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(8, of: option)))
            let moved = "moved.\(file)"
            try FileManager.default.moveItem(atPath: workplace.file(file), toPath: workplace.file(moved))
            try workplace.refuse(66, .train, ["resume", option, "--quiet"], mentions: ["\(file): no such file"])
            try workplace.succeed(.train, "resume", option, "--\(option)", moved, "--quiet")
            let again = try workplace.run(at: 8, of: option)
            #expect(again.differences(from: whole) == [] && again.history == whole.history)
        }
    }

    @Test("Every memory mode and bf16 go on to the same bits", arguments: ["checkpoint", "cola-m"], ["f32", "bf16"])
    func modes(_ mode: String, _ precision: String) throws {
        try workplace.train(
            "pretrain",
            [
                "model": "cola", "memory": mode, "precision": precision, "accumulate": "3", "save-every": "5",
                "no-vector-decay": "",
            ])
        let whole = try workplace.run(at: 8)
        try FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(8)))
        try workplace.resume()
        ToolTests.expectSame(try workplace.run(at: 8), whole)
    }

    // MARK: - A full disk

    @Test(
        "A full disk ends the run, and the last checkpoint can be resumed elsewhere",
        .needsSmallDisk)
    func fullDisk() throws {
        try workplace.train("pretrain", ["out": "whole"])
        let size = try workplace.bytes(Workplace.checkpoint(8, of: "whole")).count
        // Room for one checkpoint and the metrics, not for a second checkpoint.
        let disk = try #require(SmallDisk("disk", in: workplace, kibibytes: size * 3 / 2 / 1024))
        let outcome = try workplace.run(
            .train, workplace.line("pretrain", ["out": "disk/run", "save-every": "3"]) + ["--quiet"])
        #expect(outcome.status == 73 && !outcome.isKilled, "\(outcome)")
        #expect(outcome.errors.contains("disk/run/step-00000006.h5: cannot write: No space left on device"))
        expectOneMessage(outcome, from: .train)
        #expect(workplace.contents(of: "disk/run") == ["metrics.csv", "metrics.jsonl", "step-00000003.h5"])
        try FileManager.default.copyItem(atPath: workplace.file("disk/run"), toPath: workplace.file("run"))
        try workplace.resume()
        ToolTests.expectSame(try workplace.run(at: 8), try workplace.run(at: 8, of: "whole"))
        withExtendedLifetime(disk) {}
    }

    @Test("A limit on the size of files ends the run before its first checkpoint, and nothing half-written stays")
    func limited() throws {
        // In blocks of 512 bytes.
        let outcome = try workplace.run(
            .train, workplace.line("pretrain", ["save-every": "3"]) + ["--quiet"], before: "ulimit -f 100")
        #expect(outcome.status == 73 && outcome.errors.contains("run/step-00000003.h5: cannot write"), "\(outcome)")
        expectOneMessage(outcome, from: .train)
        #expect(workplace.contents(of: "run") == ["metrics.csv", "metrics.jsonl"])
        #expect(loggedSteps == 3)
    }
}
