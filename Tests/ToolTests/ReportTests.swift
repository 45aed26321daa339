import Foundation
import Testing

@testable import Checkpoints

@Suite("cola-analyze report")
struct ReportToolTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace(textBytes: 1500) }

    private func spectrum(_ folder: String, of checkpoint: String = "own.h5") throws {
        try workplace.succeed(
            .analyze, "spectrum", checkpoint, "--text", "text.txt", "--out", folder, "--quiet")
    }

    @Test("A page, said in a line or as JSON")
    func page() throws {
        try spectrum("s")
        let line = try workplace.succeed(.analyze, "report", "s", "--out", "r.html", "--quiet")
        #expect(line.hasPrefix("r.html  ") && line.contains("KiB  spectra of s"))
        let page = try workplace.text("r.html")
        #expect(page.hasPrefix("<!doctype html>") && page.hasSuffix("</html>\n"))
        let record = try workplace.json(.analyze, "report", "s", "--out", "r.html", "--title", "Mine", "--quiet")
        #expect(record["bytes"]?.intValue == (try workplace.bytes("r.html")).count)
        #expect(record["sections"]?.text() == "[\"spectra\"]" && record["runs"]?.text() == "[\"s\"]")
        #expect(record["tool"]?.stringValue == "cola-analyze" && record["path"]?.stringValue == "r.html")
        #expect(try workplace.text("r.html").contains("<title>Mine</title>"))
    }

    @Test("The same folders make the same page")
    func deterministic() throws {
        try spectrum("s")
        try workplace.succeed(.analyze, "report", "s", "--out", "r.html", "--quiet")
        let first = try workplace.bytes("r.html")
        try workplace.succeed(.analyze, "report", "s", "--out", "r.html", "--quiet")
        #expect(try workplace.bytes("r.html") == first)
    }

    @Test("Folders that are missing, empty or damaged, and pages that cannot be written")
    func refused() throws {
        func refuse(_ code: Int32, _ arguments: [String], _ mentions: String...) throws {
            try workplace.refuse(code, .analyze, ["report"] + arguments + ["--quiet"], mentions: mentions)
        }
        try spectrum("s")
        try workplace.makeFolder("empty")
        try refuse(66, ["gone", "--out", "r.html"], "gone: no such folder")
        try refuse(66, ["text.txt", "--out", "r.html"], "text.txt: no such folder")
        try refuse(65, ["empty", "--out", "r.html"], "empty: found no file that a report shows", "ranks.csv")
        try refuse(73, ["s", "--out", "gone/r.html"], "gone/r.html: cannot write")
        try refuse(73, ["s", "--out", "s"], "s: cannot write: it is a folder")
        try refuse(64, ["s"], "--out")
        try refuse(64, ["--out", "r.html"], "dir")
        let text = try workplace.text("s/ranks.csv")
        try workplace.write(
            text.replacing("self_attn.k_proj,output,", with: "self_attn.k_proj,output,x"), "s/ranks.csv")
        try refuse(65, ["s", "--out", "r.html"], "s/ranks.csv: line 3, column tokens: found 'x", "expected a count")
    }

    @Test("A rank history, costs, a plan and a conversion of the tools themselves are understood")
    func everything() throws {
        let folder = try EveryResult(in: workplace).folder
        let record = try workplace.json(.analyze, "report", folder, "--out", "r.html", "--quiet")
        #expect(
            record["sections"]?.arrayValue?.compactMap(\.stringValue)
                == ["spectra", "plans", "conversions", "training", "histories", "costs"])
    }
}

/// Results of all tools in one folder.
struct EveryResult {
    let folder = "all"

    init(in workplace: Workplace) throws {
        try workplace.succeed(.analyze, "spectrum", "own.h5", "--text", "text.txt", "--out", folder, "--quiet")
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
        for file in ["metrics.csv", "rank-history.csv"] {
            try workplace.write(try workplace.text("run/\(file)"), "all/\(file)")
        }
    }
}
