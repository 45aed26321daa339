import Spectra
import TestSupport
import Testing

@testable import Report

@Suite("What a report reads")
struct ContentsTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func contents(_ names: String...) throws -> ReportContents {
        try ReportContents(folders: names.map(folder.file))
    }

    private func expectInvalid(_ file: String, _ place: String, found: String, expected: String, in name: String) {
        #expect(
            throws: ReportError.invalid(path: folder.file(file), place: place, found: found, expected: expected)
        ) { try contents(name) }
    }

    // MARK: - Spectra

    @Test("Ranks for every α follow from the whole spectrum and are those of ranks.csv")
    func ranks() throws {
        try Samples.writeSpectra(folder, "run")
        let section = try #require(try contents("run").spectra.first)
        #expect(
            section.alphas.map(\.text) == ["0.5", "0.8", "0.90", "0.95", "0.98", "0.99", "0.995", "0.999", "0.9999"])
        #expect(section.places.count == 3 * 5 * 2 && section.hiddenSize == Samples.hidden)
        for place in section.places {
            let module = try #require(Samples.modules.firstIndex { $0.0 == place.module })
            let values = Samples.values(
                Samples.modules[module].1, decay: Samples.decay(place.layer, module, place.side, scale: 1))
            let expected = EffectiveRanks(
                singularValues: values, alphas: section.alphas.map(\.value), quarter: Samples.hidden / 4)
            #expect(place.ranks == expected.energyRanks && place.full == values.count)
            #expect(place.energyAtQuarter == expected.energyAtQuarter)
            #expect(place.errorAtQuarter == expected.relativeErrorAtQuarter)
            #expect(place.curve == logarithmicIndices(upTo: values.count, points: 100).map { values[$0 - 1] })
        }
    }

    @Test("Spectra without ranks, and ranks without spectra, show what there is of them")
    func halves() throws {
        try Samples.writeSpectra(folder, "whole")
        let whole = try #require(try contents("whole").spectra.first)
        for (name, file) in [("spectra", "spectra.csv"), ("ranks", "ranks.csv")] {
            try folder.makeFolder(name)
            try folder.write(try folder.bytes("whole/\(file)"), "\(name)/\(file)")
        }
        let spectra = try #require(try contents("spectra").spectra.first)
        #expect(spectra.places.map(\.ranks) == whole.places.map(\.ranks) && spectra.hiddenSize == nil)
        #expect(spectra.places.allSatisfy { $0.energyAtQuarter == nil })
        let ranks = try #require(try contents("ranks").spectra.first)
        #expect(ranks.alphas.map(\.text) == Samples.alphas && ranks.hiddenSize == Samples.hidden)
        #expect(ranks.places.map(\.errorAtQuarter) == whole.places.map(\.errorAtQuarter))
        #expect(ranks.places.allSatisfy { $0.curve.isEmpty })
    }

    @Test("Tables that do not belong together are not shown as one run")
    func mismatch() throws {
        try Samples.writeSpectra(folder, "a")
        try Samples.writeSpectra(folder, "b", scale: 1.7)
        try folder.write(try folder.bytes("b/ranks.csv"), "a/ranks.csv")
        let error = #expect(throws: ReportError.self) { try contents("a") }
        #expect(error?.description.contains("a/ranks.csv: layer 0 self_attn.q_proj input: found ranks [") == true)
        try folder.write(try folder.bytes("b/spectra.csv"), "b/old.csv")
        expectInvalid(
            "b", "tables like spectra.csv", found: "old.csv and spectra.csv", expected: "one in a folder", in: "b")
    }

    @Test("A damaged spectrum is an error with its line")
    func damagedSpectra() throws {
        let header = "layer,module,side,index,singular_value,energy_fraction,cumulative_energy\n"
        try folder.makeFolder("run")
        for (rows, place, found, expected) in [
            ("", "line 2", "the end of the file", "a row"),
            ("0,q,output,1,5\n", "line 2", "5 fields", "7 as in the header"),
            ("0,q,output,1,x,0,0\n", "line 2, column singular_value", "'x'", "a number"),
            ("0,q,output,1,5,0,0\n0,q,output,3,4,0,0\n", "line 3, column index", "'3'", "2, the next of this place"),
            (
                "0,q,output,1,5,0,0\n0,q,output,2,6,0,0\n", "line 3, column singular_value", "'6'",
                "at least 0 and no more than the one before"
            ),
            ("x,q,output,1,5,0,0\n", "line 2, column layer", "'x'", "a count"),
        ] {
            try folder.write(header + rows, "run/spectra.csv")
            expectInvalid("run/spectra.csv", place, found: found, expected: expected, in: "run")
        }
    }

    // MARK: - Other files

    @Test("Files are known by what is in them; others are left alone")
    func kinds() throws {
        try Samples.writeSpectra(folder, "run")
        try Samples.writeConversion(folder, "conversion")
        try Samples.writeTraining(folder, run: "training", study: "study")
        try folder.write("a,b\n1,2,3\n", "run/other.csv")
        try folder.write("{\"x\": 1}", "run/tokenizer.json")
        try folder.write("{\"tool\": \"cola-something\"}", "run/z.json")
        try folder.write("no table", "run/notes.txt")
        let all = try contents("run", "conversion", "training", "study")
        #expect(
            all.sections == [
                "spectra", "plans", "conversions", "healing", "training", "histories", "arms", "costs",
            ])
        #expect(all.runs == ["run", "conversion", "training", "study"])
        #expect(all.ignored == ["other.csv", "tokenizer.json", "z.json"].map { folder.file("run/\($0)") })
        #expect(all.training.map(\.run.text).prefix(3) == ["training", "full-rank, seed 0", "full-rank, seed 1"])
        #expect(all.conversions.map(\.name) == ["small"] && all.plans.map(\.name) == ["plan"])
    }

    @Test("A folder of folders stands for those that have results, and a folder that is named twice counts once")
    func folders() throws {
        try folder.makeFolder("all")
        try Samples.writeSpectra(folder, "all/a")
        try Samples.writeConversion(folder, "all/b")
        try folder.makeFolder("all/empty")
        #expect(try contents("all").runs == ["a", "b"])
        #expect(try contents("all", "all/a").runs == ["a", "b"])
        #expect(throws: ReportError.nothing(path: folder.file("all/empty"))) { try contents("all/empty") }
        #expect(throws: ReportError.missing(path: folder.file("none"))) { try contents("none") }
    }

    @Test("Plans, reports and histories that cannot be are errors")
    func damagedRecords() throws {
        try folder.makeFolder("run")
        for (text, place, found, expected) in [
            ("{\"format\": \"cola-rank-plan\"}", "layers", "nothing", "a list"),
            (
                "{\"format\": \"cola-rank-plan\", \"layers\": [{\"layer\": 0, \"module\": \"q\", \"rank\": \"8\"}]}",
                "layers[0], rank", "\"8\"", "a rank, or null for a layer that stays dense"
            ),
            (
                "{\"tool\": \"cola-convert\", \"before\": {}, \"after\": {}, \"losses\": [{\"before\": {}}]}",
                "losses[0], before", "{}", "nats_per_token, a number"
            ),
        ] {
            try folder.write(text, "run/x.json")
            let error = #expect(throws: ReportError.self) { try contents("run") }
            let message = "\(error!)"
            #expect(message.hasPrefix("\(folder.file("run/x.json")): \(place): "), "\(message)")
            #expect(message.contains(found) && message.hasSuffix(", expected \(expected)"), "\(message)")
        }
        try folder.write("{\"format\": \"cola-rank-plan\"", "run/x.json")
        let error = #expect(throws: ReportError.self) { try contents("run") }
        #expect(
            error?.description.hasPrefix("\(folder.file("run/x.json")): line 1, column 28 (byte 27): found ") == true)
        try folder.makeFolder("history")
        let rows = ["5,640,0,q,output,9,9,9,1,1,1,1,1,1,1,1,1,1", "4,640,0,q,output,9,9,9,1,1,1,1,1,1,1,1,1,1"]
        try folder.write(
            (["step,tokens_seen," + Samples.ranksHeader] + rows).joined(separator: "\n"), "history/rank-history.csv")
        expectInvalid(
            "history/rank-history.csv", "line 3, column step", found: "'4'", expected: "5 or a later step",
            in: "history")
    }

    @Test("A history by itself and one of several arms and seeds have their ranks by place, step and α")
    func histories() throws {
        try Samples.writeTraining(folder, run: "run", study: "study")
        let rows = try folder.text("run/rank-history.csv").split(separator: "\r\n")
        let combined =
            ["arm,seed," + rows[0]] + ["a", "b"].flatMap { arm in rows.dropFirst().map { "\(arm),7,\($0)" } }
        try folder.write(combined.joined(separator: "\n"), "study/rank-history.csv")
        let histories = try contents("run", "study").histories
        #expect(histories.map(\.run.text) == ["run", "a, seed 7", "b, seed 7"])
        for history in histories {
            let json = history.json(label: "x")
            #expect(json["step"] == [0, 100] && json["tokens"] == [0, 6400])
            #expect(json["alphas"]?.arrayValue?.map { $0["text"] } == ["0.90", "0.95", "0.99", "0.999"])
            let places = json["places"]?.arrayValue ?? []
            #expect(places.map { $0["layer"] } == [0, 1] && places.allSatisfy { $0["full"] == 32 })
            #expect(places.allSatisfy { $0["ranks"] == [[30, 31, 32, 32], [30, 21, 32, 32]] })
        }
    }

    @Test("Long runs become means, of which none is lost")
    func means() throws {
        try Samples.writeTraining(folder, run: "run", study: "study")
        let section = try #require(try contents("run").training.first)
        #expect(section.rowsPerPoint == 3)
        let json = section.json(label: "run")
        let (steps, losses) = (json["training"]?["step"]?.arrayValue ?? [], json["training"]?["loss"]?.arrayValue ?? [])
        #expect(steps.count == 234 && losses.count == 234)
        #expect(steps.first == 3 && steps.last == 700)
        let first = [1.0, 2, 3].map { 2 + 4 / $0 }.reduce(0, +) / 3
        #expect(losses.first == rounded(first) && losses.last == rounded(2 + 4.0 / 700 as Double))
        #expect(json["evaluation"]?["step"]?.arrayValue?.count == 7)
    }
}
