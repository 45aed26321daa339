import Foundation
import JSON
import TestSupport
import Testing

@Suite("Numbers in results are finite, or there is none")
struct FiniteNumberTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace(textBytes: 900) }

    /// Expects a text without a word for what is no number.
    private func expectFinite(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) {
        let words = text.split { !$0.isLetter }.map { $0.lowercased() }
        let bad = words.filter { ["nan", "inf", "infinity"].contains($0) }
        #expect(bad == [], sourceLocation: sourceLocation)
    }

    @Test("A conversion of layers of zeros: empty fields, null, and the reason")
    func zeros() throws {
        let zeroed = ["self_attn.o_proj", "mlp.down_proj"]
        var model = TinyModel.dense
        for module in zeroed {
            model = model.changing("model.layers.1.\(module).weight") { $0.values = $0.values.map { _ in 0 } }
        }
        try model.writeCheckpoint(workplace.file("dead.h5"))
        let printed = try workplace.succeed(
            .convert, "dense-to-lowrank", "dead.h5", "low.h5", "--rank", "4", "--text", "text.txt", "--evaluate",
            "text.txt", "--anchor", "--quiet")
        #expect(printed.contains("2 of the low-rank layers have no relative error"))
        let (table, report) = (try workplace.text("low.layers.csv"), try workplace.text("low.report.json"))
        for text in [printed, table, report] { expectFinite(text) }

        let rows = try workplace.table("low.layers.csv")
        let columns = ["relative_error", "relative_error_in_place", "relative_error_held_out"]
        for column in columns {
            let empty = try rows.column(column).map(\.isEmpty)
            let expected = try zip(rows.column("layer"), rows.column("module")).map { layer, module in
                layer == "1" && zeroed.contains(String(module))
            }
            #expect(empty == expected, "\(column)")
        }
        let missing = try JSONValue(parsing: report)["not_measured"]?.arrayValue ?? []
        #expect(missing.count == 4)
        #expect(missing.allSatisfy { $0["reason"]?.stringValue?.contains("zero") == true && $0["layer"] == 1 })
        let page = try workplace.json(.analyze, "report", ".", "--out", "page.html")
        #expect(page["sections"] == ["conversions"])
    }

    @Test("A perplexity beyond all numbers is null with the reason, and readable for people")
    func perplexity() throws {
        // So loud a final norm that wrong tokens cost thousands of nats.
        let loud = TinyModel.dense.changing("model.norm.weight") { $0.values = $0.values.map { $0 * 4096 } }
        try loud.writeCheckpoint(workplace.file("loud.h5"))
        let result = try workplace.json(.analyze, "perplexity", "loud.h5", "--text", "text.txt", "--quiet")
        #expect(result["perplexity"]?.isNull == true)
        #expect(try #require(result["nats_per_token"]?.doubleValue) > 710)
        #expect(result["reason"]?.stringValue?.contains("nats_per_token") == true)
        let printed = try workplace.succeed(.analyze, "perplexity", "loud.h5", "--text", "text.txt", "--quiet")
        #expect(printed.contains("  e^"))
        expectFinite(printed)
    }

    @Test("Steps whose loss is no number: empty fields, null, the reason, and a report of them")
    func training() throws {
        let line = [
            "continue", "own.h5", "--text", "text.txt", "--sequence-length", "16", "--batch", "2", "--precision", "f32",
            "--learning-rate", "1e30", "--warmup", "0", "--clip", "0", "--steps", "3", "--out", "run", "--json",
            "--quiet",
        ]
        let outcome = try workplace.run(.train, line)
        try #require(outcome.status == 0, "\(outcome)")
        let result = try JSONValue(parsing: outcome.output)
        #expect(result["loss"]?.isNull == true && result["reason"] != nil)
        let rows = try workplace.text("run/metrics.csv").split(separator: "\n").dropFirst()
        let losses = rows.map { $0.split(separator: ",", omittingEmptySubsequences: false)[2] }
        #expect(losses.map(\.isEmpty) == [false, true, true])
        expectFinite(try workplace.text("run/metrics.csv"))
        let lines = try workplace.text("run/metrics.jsonl").split(separator: "\n").map {
            try JSONValue(parsing: String($0))
        }
        #expect(lines.map { $0["loss"]?.isNull } == [false, true, true])
        #expect(lines.map { $0["reason"]?.stringValue?.hasPrefix("skipped: ") } == [nil, true, true])
        try workplace.succeed(.analyze, "report", "run", "--out", "page.html", "--quiet")
    }
}
