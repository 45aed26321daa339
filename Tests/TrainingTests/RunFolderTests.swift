import Checkpoints
import Files
import Foundation
import Glibc
import TestSupport
import Testing

@testable import Training

@Suite("The folder of a training run")
struct RunFolderTests {
    let place: TemporaryFolder

    init() throws { place = try TemporaryFolder() }

    private func write(_ steps: [Int], in folder: RunFolder) throws {
        let sample = try SampleRun()
        try sample.write(place.file("sample.h5"))
        let bytes = try place.bytes("sample.h5")
        for step in steps { try Data(bytes).write(to: URL(fileURLWithPath: folder.checkpointPath(step: step))) }
        unlink(place.file("sample.h5"))
    }

    @Test("Names sort by step, and other files are not looked at")
    func names() throws {
        let folder = try RunFolder(creating: place.file("run"))
        #expect(folder.checkpointPath(step: 1000) == place.file("run/step-00001000.h5"))
        for name in [
            "step-7.h5", "step-000000008.h5", "step-0000000x.h5", "step-+0000009.h5", "step-00000009.h5.partial",
            ".step-00000009.h5", "step-00000009.H5", "Step-00000009.h5", "notes.txt",
        ] {
            try place.write([1], "run/\(name)")
        }
        #expect(try folder.checkpoints().isEmpty)
        let error = try #require(runError { _ = try folder.newestCheckpoint() })
        #expect("\(error)" == "\(folder.path): holds no checkpoint (step-00001000.h5 or the like)")
        for step in [100_000_000, 0, 99_999_999, 12] {
            try Data([1]).write(to: URL(fileURLWithPath: folder.checkpointPath(step: step)))
        }
        #expect(try folder.checkpoints().map(\.step) == [0, 12, 99_999_999, 100_000_000])
        #expect(try folder.checkpoints().map(\.path) == [0, 12, 99_999_999, 100_000_000].map(folder.checkpointPath))
        #expect(try folder.newestCheckpoint() == place.file("run/step-100000000.h5"))
    }

    @Test("A new run takes a new or a harmless folder, and none that holds a run")
    func creating() throws {
        do {
            let folder = try RunFolder(creating: place.file("run"))
            #expect(place.contents == ["run"])
            withExtendedLifetime(folder) {}
        }
        #expect(place.contents == [], "nothing was put into it")
        do {
            let folder = try RunFolder(creating: place.file("run"))
            _ = try MetricsLog(in: folder)
        }
        #expect(place.contents == ["run", "run/metrics.csv", "run/metrics.jsonl"])
        let metrics = try #require(runError { _ = try RunFolder(creating: place.file("run")) })
        #expect("\(metrics)".contains("holds the metrics of a run that left no checkpoint; remove it, or choose"))
        try place.write([1], "run/step-00000001.h5")
        let error = runError { _ = try RunFolder(creating: place.file("run")) }
        let reason = "it holds a run already; resume that one, or choose another name"
        #expect(error == .cannotWrite(path: place.file("run"), reason: reason))
        #expect(place.contents.count == 4)
        try FileManager.default.createDirectory(atPath: place.file("notes"), withIntermediateDirectories: false)
        try place.write([1], "notes/step.txt")
        _ = try RunFolder(creating: place.file("notes"))
        #expect(place.contents.contains("notes/step.txt"))
    }

    @Test("A folder in which somebody trains is alive, whatever it holds so far")
    func claimed() throws {
        let folder = try RunFolder(creating: place.file("run"))
        do {
            let log = try MetricsLog(in: folder)
            let alive = CheckpointError.cannotWrite(
                path: place.file("run"), reason: "another process is training in this folder")
            #expect(runError { _ = try RunFolder(creating: place.file("run")) } == alive)
            try place.write([1], "run/step-00000001.h5")
            #expect(runError { _ = try RunFolder(creating: place.file("run")) } == alive)
            withExtendedLifetime(log) {}
        }
        let ended = try #require(runError { _ = try RunFolder(creating: place.file("run")) })
        #expect("\(ended)".contains("it holds a run already"))
    }

    @Test("Folders that are not there, and files in their place")
    func notFolders() throws {
        try place.write([1], "file")
        #expect(runError { _ = try RunFolder(existing: place.file("no")) } == .missing(path: place.file("no")))
        #expect(
            runError { _ = try RunFolder(existing: place.file("file")) }
                == .unreadable(path: place.file("file"), reason: "Not a directory"))
        #expect(
            runError { _ = try RunFolder(creating: place.file("file/deep")) }
                == .cannotWrite(path: place.file("file/deep"), reason: "Not a directory"))
        #expect(
            runError { _ = try RunFolder(creating: place.file("file")) }
                == .cannotWrite(path: place.file("file"), reason: "there is a file of this name"))
    }

    @Test("All but the newest checkpoints go, and nothing else")
    func retention() throws {
        let folder = try RunFolder(creating: place.file("run"))
        try write([10, 20, 30, 100, 110], in: folder)
        for name in ["step-5.h5", "metrics.csv", "step-00000005.h5.bak"] { try place.write([1], "run/\(name)") }
        let others = ["run", "run/metrics.csv", "run/step-00000005.h5.bak", "run/step-5.h5"]
        #expect(try folder.removeCheckpoints(keeping: 5).isEmpty)
        #expect(try folder.checkpoints().map(\.step) == [10, 20, 30, 100, 110])
        #expect(try Set(folder.removeCheckpoints(keeping: 3)) == Set([10, 20].map(folder.checkpointPath)))
        #expect(try folder.checkpoints().map(\.step) == [30, 100, 110])
        #expect(try folder.removeCheckpoints(keeping: 1).count == 2)
        #expect(try folder.checkpoints().map(\.step) == [110])
        #expect(Set(place.contents) == Set(others + ["run/step-00000110.h5"]))
    }

    @Test("Nothing goes before as many complete checkpoints are there; damaged ones do not count")
    func damagedDoNotCount() throws {
        let folder = try RunFolder(creating: place.file("run"))
        try write([1, 2, 3, 4], in: folder)
        let whole = try place.bytes("run/step-00000004.h5")
        try place.write(whole.dropLast(1), "run/step-00000004.h5")
        try place.write([], "run/step-00000002.h5")
        let writer = try CheckpointWriter(
            path: folder.checkpointPath(step: 5), configuration: "{}", provenance: "{}", tokenizer: nil)
        try writer.finish()
        #expect(try folder.removeCheckpoints(keeping: 3).isEmpty, "1 and 3 alone are complete")
        #expect(try folder.removeCheckpoints(keeping: 2).isEmpty)
        #expect(try folder.checkpoints().map(\.step) == [1, 2, 3, 4, 5])
        #expect(try folder.removeCheckpoints(keeping: 1).count == 2)
        #expect(try folder.checkpoints().map(\.step) == [3, 4, 5])
    }

    @Test("A full disk leaves the older checkpoints untouched and nothing unfinished", .needsSmallDisk)
    func fullDisk() throws {
        let sample = try SampleRun()
        try sample.write(place.file("sample.h5"))
        let size = try place.bytes("sample.h5").count
        // Room for two checkpoints and parts of a third.
        for part in [0.1, 0.5, 0.9] {
            let disk = try #require(SmallDisk("run", in: place, kibibytes: Int((2 + part) * Double(size) / 1024) + 4))
            let folder = try RunFolder(creating: disk.path)
            for step in [1, 2] { try sample.write(folder.checkpointPath(step: step)) }
            let before = try [1, 2].map { try place.bytes("run/step-0000000\($0).h5") }
            let error = runError { try sample.write(folder.checkpointPath(step: 3)) }
            let path = folder.checkpointPath(step: 3)
            #expect(error == .cannotWrite(path: path, reason: "No space left on device"), "\(part)")
            #expect(try folder.removeCheckpoints(keeping: 2).isEmpty)
            let after = try [1, 2].map { try place.bytes("run/step-0000000\($0).h5") }
            #expect(before == after && before[0] == before[1])
            let contents = try FileManager.default.contentsOfDirectory(atPath: disk.path).sorted()
            #expect(contents == ["step-00000001.h5", "step-00000002.h5"])
            withExtendedLifetime(disk) {}
        }
    }
}
