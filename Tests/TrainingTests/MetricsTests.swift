import Files
import Foundation
import Glibc
import JSON
import TestSupport
import Testing

@testable import Training

@Suite("Metrics of a training run")
struct MetricsTests {
    let place: TemporaryFolder
    let history = SampleRun.history(steps: 9)

    init() throws { place = try TemporaryFolder() }

    private func folder() throws -> RunFolder { try RunFolder(existing: place.path) }

    /// Both files after a run of so many steps.
    private func uninterrupted(steps: Int) throws -> [String] {
        let other = try TemporaryFolder()
        let log = try MetricsLog(in: try RunFolder(existing: other.path))
        for record in history.prefix(steps) { try log.append(record) }
        return [try other.text("metrics.csv"), try other.text("metrics.jsonl")]
    }

    private var texts: [String] {
        get throws { [try place.text("metrics.csv"), try place.text("metrics.jsonl")] }
    }

    @Test("One line per step in each file, there as soon as it is written")
    func lines() throws {
        let log = try MetricsLog(in: folder())
        let header = "step,tokens,loss,evaluation_loss,gradient_norm,learning_rate,tokens_per_second\n"
        #expect(try texts == [header, ""])
        for record in history.prefix(3) { try log.append(record) }
        let expected = [
            header + """
                1,1023,10.0,,0.1,1e-07,33333.333333333336
                2,2046,,,,2e-07,33333.333333333336
                3,3069,3.3333333333333335,0.3333333333333333,0.1,3e-07,33333.333333333336

                """,
            """
            {"step":1,"tokens":1023,"loss":10.0,"evaluation_loss":null,"gradient_norm":0.1,"learning_rate":1e-07,\
            "tokens_per_second":33333.333333333336}
            {"step":2,"tokens":2046,"loss":null,"evaluation_loss":null,"gradient_norm":null,"learning_rate":2e-07,\
            "tokens_per_second":33333.333333333336,"reason":"skipped: the loss is nan, the gradient's norm inf"}
            {"step":3,"tokens":3069,"loss":3.3333333333333335,"evaluation_loss":0.3333333333333333,\
            "gradient_norm":0.1,"learning_rate":3e-07,"tokens_per_second":33333.333333333336}

            """,
        ]
        // "3e-07" stands for what 1e-7 · 3 really is.
        let third = "\(1e-7 * 3)"
        #expect(try texts == expected.map { $0.replacing("3e-07", with: third) })
        withExtendedLifetime(log) {}
    }

    @Test("Numbers read back as they were")
    func numbers() throws {
        let log = try MetricsLog(in: folder())
        var records: [StepRecord] = []
        let values = [
            0.1, 1.0 / 3, Double.leastNonzeroMagnitude, Double.greatestFiniteMagnitude, 1e21, 123456789.123, 2.5e-5,
        ]
        for (index, value) in values.enumerated() {
            let record = StepRecord(
                step: index + 1, tokens: index, loss: value, gradientNorm: value * 0.7, learningRate: value.nextDown,
                tokensPerSecond: 1 / value
            ).evaluated(-value)
            records.append(record)
            try log.append(record)
        }
        let table = try place.text("metrics.csv").split(separator: "\n").dropFirst()
        let lines = try place.text("metrics.jsonl").split(separator: "\n")
        #expect(table.count == records.count && lines.count == records.count)
        for (record, (row, line)) in zip(records, zip(table, lines)) {
            let fields = row.split(separator: ",").compactMap { Double($0) }
            // 1 / 5e-324 is infinite, which is no number of a table or of JSON.
            if record.tokensPerSecond.isFinite { #expect(StepRecord(row: fields[...]) == record) }
            let object = try JSONValue(parsing: String(line))
            let values = StepRecord.columns.compactMap { object[$0]?.doubleValue }
            if record.tokensPerSecond.isFinite { #expect(StepRecord(row: values[...]) == record) }
        }
    }

    @Test("A resumed log is the uninterrupted one's, whatever was torn off or came later", arguments: [0, 1, 4, 9])
    func resumed(step: Int) throws {
        let whole = try uninterrupted(steps: 9)
        func logTheRest(checkingStart: Bool = false) throws {
            let log = try MetricsLog(in: folder(), history: Array(history.prefix(step)))
            if checkingStart { #expect(try texts == uninterrupted(steps: step)) }
            for record in history.dropFirst(step) { try log.append(record) }
            #expect(try texts == whole)
        }
        try logTheRest(checkingStart: true)
        // Torn anywhere in the last lines, in one file or in both, or lost.
        for cut in [1, 2, 30, 80, 200] {
            for names in [["metrics.csv"], ["metrics.jsonl"], ["metrics.csv", "metrics.jsonl"]] {
                for name in names { try place.write(place.bytes(name).dropLast(cut), name) }
                try logTheRest()
            }
        }
        for name in ["metrics.csv", "metrics.jsonl"] { unlink(place.file(name)) }
        _ = try MetricsLog(in: folder(), history: history)
        #expect(try texts == whole)
        #expect(place.contents == ["metrics.csv", "metrics.jsonl"])
    }

    @Test("One process at a time has a folder; what killed ones left half-written goes, and nothing else does")
    func claim() throws {
        let others = [".step-00000001.h5.partial", "step-00000001.h5", ".metrics.partial.csv", ".notes.1.partial"]
        for name in [".step-00000001.h5.17.partial", ".metrics.csv.4.partial"] + others { try place.write([1], name) }
        do {
            let log = try MetricsLog(in: folder())
            try log.append(history[0])
            let before = try texts
            let error = runError { _ = try MetricsLog(in: folder()) }
            #expect(error == .cannotWrite(path: place.path, reason: "another process is training in this folder"))
            #expect(try texts == before)
        }
        #expect(Set(place.contents) == Set(others.dropFirst() + ["metrics.csv", "metrics.jsonl"]))
        _ = try MetricsLog(in: folder())
    }

    @Test("A folder is given back even if a child that is being started still has its descriptors")
    func copiedDescriptors() throws {
        var copies: [Int32] = []
        defer { for copy in copies { close(copy) } }
        do {
            let log = try MetricsLog(in: folder())
            let path = try #require(realpath(place.path, nil))
            defer { free(path) }
            for name in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd") {
                let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(name)")
                if target == String(cString: path), let descriptor = Int32(name) { copies.append(dup(descriptor)) }
            }
            try log.append(history[0])
        }
        #expect(!copies.isEmpty)
        _ = try MetricsLog(in: folder())
    }

    @Test("A log in a folder that is not there")
    func noFolder() throws {
        let other = try TemporaryFolder()
        let folder = try RunFolder(existing: other.path)
        try FileManager.default.removeItem(atPath: other.path)
        let error = runError { _ = try MetricsLog(in: folder) }
        #expect(error == .cannotWrite(path: other.path, reason: "No such file or directory"))
    }

    @Test("A full disk leaves whole lines, the same steps in both files", .needsSmallDisk)
    func fullDisk() throws {
        let disk = try #require(SmallDisk(".", in: place, kibibytes: 24))
        var log: MetricsLog? = try MetricsLog(in: folder())
        var error: CheckpointError?
        var written = 0
        for step in 1..<1000 where error == nil {
            error = runError { try log?.append(SampleRun.history(steps: step)[step - 1]) }
            if error == nil { written = step }
        }
        guard case .cannotWrite(let path, let reason) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(path.hasPrefix(place.file("metrics.")) && reason == "No space left on device")
        #expect(written > 10)
        let files = try texts
        #expect(files.allSatisfy { $0.last == "\n" })
        #expect(files[0].split(separator: "\n").count == written + 1)
        #expect(files[1].split(separator: "\n").count == written)
        log = nil
        // And a log that cannot even be rewritten is left as it was.
        let again = runError { _ = try MetricsLog(in: folder(), history: SampleRun.history(steps: written)) }
        #expect(again.map { "\($0)".contains("No space left on device") } == true)
        #expect(try texts == files)
        let contents = try FileManager.default.contentsOfDirectory(atPath: disk.path).sorted()
        #expect(contents == ["metrics.csv", "metrics.jsonl"])
        withExtendedLifetime(disk) {}
    }
}
