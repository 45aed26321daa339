import Foundation
import JSON
import TestSupport
import Testing

@Suite("cola-analyze report")
struct ReportToolTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace(textBytes: 600) }

    private func measure(_ out: String) throws {
        try workplace.succeed(
            .analyze, "spectrum", "own.h5", "--text", "text.txt", "--out", out, "--weights", "--quiet")
    }

    /// The data inside a page.
    private func data(_ page: String) throws -> JSONValue {
        let html = try workplace.text(page)
        let match = try #require(html.firstMatch(of: /<script type="application\/json" id="data">(.*?)<\/script>/))
        return try JSONValue(parsing: String(match.1))
    }

    @Test("What spectrum measured becomes a page with the same ranks, and the same page again")
    func spectra() throws {
        try measure("out")
        func report() throws -> String { try workplace.succeed(.analyze, "report", "out", "--out", "report.html") }
        let printed = try report()
        #expect(printed.hasPrefix("report.html  ") && printed.hasSuffix("  spectra of out\n"))
        let page = try workplace.bytes("report.html")
        try expectEqual(report(), printed)
        try expectEqual(workplace.bytes("report.html"), page)

        let run = try #require(try data("report.html")["spectra"]?[0])
        let alphas = (run["alphas"]?.arrayValue ?? []).map { $0["text"]?.stringValue }
        let ranks = try workplace.table("out/ranks.csv")
        let places = try #require(run["places"]?.arrayValue)
        #expect(places.count == ranks.rows.count && run["quarter"]?.intValue == 6)
        for alpha in ["0.90", "0.95", "0.99", "0.999"] {
            let index = try #require(alphas.firstIndex(of: alpha))
            #expect(try places.map { $0["ranks"]?[index]?.doubleValue } == ranks.numbers("rank_\(alpha)"))
        }
        let values = try workplace.table("out/spectra.csv").numbers("singular_value")
        let first = try #require(places[0]["curve"]?[0]?.doubleValue)
        #expect(abs(first / values[0] - 1) < 1e-3)
        let source = try #require(try data("report.html")["sources"]?[0])
        #expect(source["records"]?[0]?["checkpoint"]?["sha256"]?.stringValue?.utf8.count == 64)
        #expect(source["files"]?.arrayValue?.count == 4)
    }

    @Test("--json says what was written; two folders are compared; --title names the page")
    func options() throws {
        try measure("a")
        try measure("b")
        try workplace.write("x,y\n1,2\n", "b/other.csv")
        let result = try workplace.json(
            .analyze, "report", "a", "b", "--out", "page.html", "--title", "Before & after")
        #expect(result["path"]?.stringValue == "page.html" && result["runs"] == ["a", "b"])
        #expect(result["sections"] == ["spectra"])
        #expect(try result["bytes"]?.intValue == workplace.bytes("page.html").count)
        #expect(try workplace.text("page.html").contains("<title>Before &amp; after</title>"))
        let loud = try workplace.run(.analyze, "report", "b", "--out", "page.html")
        #expect(loud.errors == "not shown, as it is none of the toolkit's: b/other.csv\n" && loud.status == 0)
        let quiet = try workplace.run(.analyze, "report", "b", "--out", "page.html", "--quiet")
        #expect(quiet.errors == "" && quiet.output.hasPrefix("page.html  "))
    }

    @Test("The executable needs nothing beside it")
    func copied() throws {
        try measure("out")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        // Copied by another process: this one may fork while it has the copy open, and such a file cannot be run.
        let script = "cp \"$1\" alone && ./alone report out --out alone.html --quiet"
        process.arguments = ["-c", script, "sh", Tool.analyze.path]
        process.currentDirectoryURL = URL(fileURLWithPath: workplace.path)
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        #expect(try process.terminationStatus == 0 && workplace.text("alone.html").contains("function heatMap("))
    }

    @Test("Bad input is one message with its code, and no page is left")
    func refusals() throws {
        try workplace.refuse(66, .analyze, ["report", "none", "--out", "p.html"], mentions: ["none: no such folder"])
        try workplace.makeFolder("empty")
        try workplace.refuse(
            65, .analyze, ["report", "empty", "--out", "p.html"],
            mentions: ["empty: found no file", "spectra.csv", "metrics.csv", "*.report.json"])
        try workplace.makeFolder("bad")
        try workplace.write("step,tokens,loss,evaluation_loss\r\n1,64,2.5,\r\n2,128,abc,\r\n", "bad/metrics.csv")
        try workplace.refuse(
            65, .analyze, ["report", "bad", "--out", "p.html"],
            mentions: ["bad/metrics.csv: line 3, column loss: found 'abc', expected a number or nothing"])
        try workplace.write("step,tokens,loss,evaluation_loss\r\n1,64,2.5\r\n", "bad/metrics.csv")
        try workplace.refuse(
            65, .analyze, ["report", "bad", "--out", "p.html"],
            mentions: ["bad/metrics.csv: line 2: found 3 fields, expected 4 as in the header"])
        try workplace.refuse(64, .analyze, ["report", "--out", "p.html"], mentions: ["<dir>"])
    }

    @Test("A page that cannot be written is said before anything is read")
    func outputs() throws {
        try measure("out")
        for place in ["/proc/p.html", "text.txt/p.html", "out"] {
            try workplace.refuse(73, .analyze, ["report", "out", "--out", place], mentions: [place, "cannot write"])
        }
        try workplace.refuse(
            73, .analyze, ["report", "out", "--out", "p.html"], mentions: ["p.html", "cannot write: File too large"],
            before: "ulimit -f 8")
    }

    @Test("Results of all the tools together are understood")
    func everything() throws {
        try workplace.succeed(.analyze, "spectrum", "own.h5", "--text", "text.txt", "--out", "all", "--quiet")
        try workplace.succeed(
            .analyze, "ranks", "own.h5", "--text", "text.txt", "--keep", "0.6", "--multiple", "1", "--out",
            "all/plan.json", "--quiet")
        try workplace.succeed(
            .convert, "dense-to-lowrank", "own.h5", "all/cola.h5", "--plan", "all/plan.json", "--text", "text.txt",
            "--evaluate", "text.txt", "--quiet")
        try workplace.succeed(.analyze, "cost", "own.h5", "--out", "all/cost.csv", "--quiet")
        try workplace.write(learnableIDs(1201, below: 97).flatMap { littleEndian(UInt16($0)) }, "tokens.u16")
        try workplace.succeed(
            .train, "continue", "own.h5", "--tokens", "tokens.u16", "--steps", "8", "--sequence-length", "16",
            "--batch", "4", "--spectrum-every", "4", "--evaluate-every", "4", "--out", "run", "--quiet")
        let record = try workplace.json(.analyze, "report", "all", "run", "--out", "r.html", "--quiet")
        #expect(
            record["sections"]?.arrayValue?.compactMap(\.stringValue)
                == ["spectra", "plans", "conversions", "training", "histories", "costs"])
    }
}
