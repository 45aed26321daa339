import Checkpoints
import Foundation
import Spectra
import TestSupport
import Testing

@testable import Report

@Suite("What a report is made of")
struct ContentsTests {
    let place: TemporaryFolder

    init() throws { place = try TemporaryFolder() }

    /// The error of reading a folder.
    private func problem(_ folder: String) -> ReportError? {
        do { _ = try ReportContents(folders: [place.file(folder)]) } catch { return error as? ReportError }
        return nil
    }

    // MARK: - Spectra

    /// σᵢ of three places, of which one has a long tail.
    private static let spectra: [(layer: Int, module: String, values: [Double])] = [
        (0, "mlp.up_proj", (1...40).map { 100 / Double($0) }), (0, "residual", [5, 0, 0]),
        (1, "mlp.up_proj", (0..<300).map { exp(-0.01 * Double($0)) }),
    ]

    private func writeSpectra(_ folder: String, alphas: [String] = ["0.90", "0.95"]) throws {
        try place.makeFolder(folder)
        var lines = "layer,module,side,index,singular_value,energy_fraction,cumulative_energy\r\n"
        var ranks = SpectrumTables.rankColumns(alphas: alphas).joined(separator: ",") + "\r\n"
        for item in Self.spectra {
            for (index, value) in item.values.enumerated() {
                lines += "\(item.layer),\(item.module),output,\(index + 1),\(value),0,0\r\n"
            }
            let found = EffectiveRanks(
                singularValues: item.values, alphas: alphas.map { Double($0)! }, quarter: 10)
            let fields =
                ["\(item.layer)", item.module, "output", "900", "\(item.values.count)", "\(item.values.count)"]
                + found.energyRanks.map(String.init)
                + [
                    found.entropyRank, found.entropyRankOfSigma, found.participationRatio, found.stableRank,
                    found.energyAtQuarter, found.relativeErrorAtQuarter,
                ].map { "\($0)" }
            ranks += fields.joined(separator: ",") + "\r\n"
        }
        try place.write(lines, "\(folder)/spectra.csv")
        try place.write(ranks, "\(folder)/ranks.csv")
        let run: JSONValue = [
            "tool": "cola-analyze", "accumulation": "gram", "hidden_size": 40, "tokens": 900, "version": "1",
        ]
        try place.write(run.text(), "\(folder)/run.json")
    }

    @Test("Ranks for every α of the grid are those of the whole spectrum; the curve keeps values as they are")
    func grid() throws {
        try writeSpectra("s")
        let contents = try ReportContents(folders: [place.file("s")])
        let section = try #require(contents.spectra.first)
        #expect(
            section.alphas.map(\.text) == ["0.5", "0.8", "0.90", "0.95", "0.98", "0.99", "0.995", "0.999", "0.9999"])
        #expect(section.hiddenSize == 40 && section.places.count == 3)
        for (found, item) in zip(section.places, Self.spectra) {
            let ranks = EffectiveRanks(
                singularValues: item.values, alphas: section.alphas.map(\.value), quarter: 10)
            #expect(found.ranks == ranks.energyRanks && found.full == item.values.count)
            #expect(found.energyAtQuarter == ranks.energyAtQuarter)
            #expect(found.errorAtQuarter == ranks.relativeErrorAtQuarter)
            let indices = logarithmicIndices(upTo: item.values.count, points: SpectraSection.points)
            #expect(found.curve == indices.map { item.values[$0 - 1] })
        }
        #expect(section.places[2].curve.count < 300)
    }

    @Test("Either table alone will do; tables that do not belong together will not")
    func oneTable() throws {
        try writeSpectra("ranks")
        try FileManager.default.removeItem(atPath: place.file("ranks/spectra.csv"))
        let ranks = try #require(try ReportContents(folders: [place.file("ranks")]).spectra.first)
        #expect(ranks.alphas.map(\.text) == ["0.90", "0.95"] && ranks.places[0].curve.isEmpty)
        try writeSpectra("spectra")
        try FileManager.default.removeItem(atPath: place.file("spectra/ranks.csv"))
        let spectra = try #require(try ReportContents(folders: [place.file("spectra")]).spectra.first)
        #expect(spectra.places.map { $0.ranks[3] } == ranks.places.map { $0.ranks[1] })

        try writeSpectra("both")
        let text = try place.text("both/ranks.csv").replacing(
            "1,mlp.up_proj,output,900,300", with: "2,mlp.up_proj,output,900,300")
        try place.write(text, "both/ranks.csv")
        #expect(
            problem("both").map { "\($0)" }?.contains("ranks.csv: layer 1 mlp.up_proj output: found no row") == true)
    }

    @Test("Damaged spectra: file, line, found, expected")
    func damaged() throws {
        try writeSpectra("s")
        let whole = try place.text("s/spectra.csv")
        for (old, new, words) in [
            (
                "0,mlp.up_proj,output,2,50.0", "0,mlp.up_proj,output,3,50.0",
                "line 3, column index: found '3', expected 2"
            ),
            (
                "0,mlp.up_proj,output,2,50.0", "0,mlp.up_proj,output,2,500.0",
                "line 3, column singular_value: found '500.0'"
            ),
            ("0,mlp.up_proj,output,2,50.0", "0,mlp.up_proj,output,2,nan", "line 3, column singular_value: found 'nan'"),
            ("0,mlp.up_proj,output,2,50.0,0,0", "0,mlp.up_proj,output", "line 3: found 3 fields, expected 7"),
        ] {
            try place.write(whole.replacing(old, with: new), "s/spectra.csv")
            let found = problem("s").map { "\($0)" } ?? "nothing"
            #expect(found.contains("spectra.csv: \(words)"), "\(found)")
        }
        try place.write("layer,module,side,index,singular_value,energy_fraction,cumulative_energy\r\n", "s/spectra.csv")
        #expect(problem("s").map { "\($0)" }?.hasSuffix("line 2: found the end of the file, expected a row") == true)
    }

    // MARK: - Runs

    @Test("Long runs are thinned to means; losses that are no numbers are left out")
    func training() throws {
        try place.makeFolder("run")
        var text = "step,tokens,loss,evaluation_loss,gradient_norm,learning_rate,tokens_per_second\n"
        for step in 1...700 {
            let loss = step == 5 ? "nan" : "\(Double(step))"
            text += "\(step),\(10 * step),\(loss),\(step % 100 == 0 ? "\(step + 1)" : ""),1,1,1\n"
        }
        try place.write(text, "run/metrics.csv")
        let section = try #require(try ReportContents(folders: [place.file("run")]).training.first)
        #expect(section.name == "run" && section.rowsPerPoint == 3)
        let json = section.json(label: "run")
        let (steps, losses) = (json["training"]?["step"]?.arrayValue, json["training"]?["loss"]?.arrayValue)
        #expect(steps?.count == 233 && steps?.first?.intValue == 3 && steps?.last?.intValue == 700)
        #expect(losses?[0].doubleValue == 2 && losses?[1].doubleValue == 5.6667)
        #expect(json["evaluation"]?["loss"]?.arrayValue?.compactMap(\.intValue) == [101, 201, 301, 401, 501, 601, 701])
    }

    @Test("Runs of one table by arm and seed; ranks over the steps")
    func combined() throws {
        try place.makeFolder("study")
        try place.write(
            """
            arm,seed,step,tokens,loss,evaluation_loss
            a,1,1,5,3.5,
            a,1,2,10,3,3.25
            a,2,1,5,4,

            """, "study/curves.csv")
        let ranks = (["arm", "seed", "step", "tokens_seen"] + SpectrumTables.rankColumns(alphas: ["0.95"])).joined(
            separator: ",")
        try place.write(
            ranks
                + "\na,1,0,0,0,mlp.up_proj,output,9,8,8,7,1,1,1,1,1,0\na,1,4,20,0,mlp.up_proj,output,9,8,8,3,1,1,1,1,1,0\n",
            "study/rank-history.csv")
        let contents = try ReportContents(folders: [place.file("study")])
        #expect(contents.training.map(\.name) == ["a, seed 1", "a, seed 2"])
        #expect(contents.sections == ["training", "histories"])
        let history = try #require(contents.histories.first).json(label: "x")
        #expect(history["step"]?.arrayValue?.compactMap(\.intValue) == [0, 4])
        #expect(history["places"]?[0]?["ranks"]?.text() == "[[7],[3]]")
    }

    // MARK: - Folders

    @Test("A folder without results stands for those in it; what is none of ours is left alone and named")
    func folders() throws {
        try writeSpectra("all")
        try FileManager.default.createDirectory(atPath: place.file("runs"), withIntermediateDirectories: true)
        for name in ["a", "b"] {
            try writeSpectra("runs/\(name)")
            try place.write("x,y\n1,2\n", "runs/\(name)/other.csv")
            try place.write("{\"tool\": \"other\"}", "runs/\(name)/other.json")
        }
        let contents = try ReportContents(folders: [place.file("runs"), place.file("all"), place.file("runs/a")])
        #expect(contents.runs == ["a", "b", "all"])
        #expect(contents.ignored.count == 4 && contents.ignored.allSatisfy { $0.contains("/other.") })
        #expect(problem("gone") == .missing(path: place.file("gone")))
        try place.makeFolder("empty")
        #expect(problem("empty") == .nothing(path: place.file("empty")))
        #expect("\(ReportError.nothing(path: "empty"))".contains("spectra.csv, ranks.csv"))
        try place.write("{\"cola-x\": ", "all/broken.json")
        #expect(problem("all").map { "\($0)" }?.contains("broken.json: line 1") == true)
    }

    // MARK: - The page

    @Test("Nothing in names or data can end the page's script or become markup")
    func hostile() throws {
        let name = "<img src=x onerror=alert(1)> & \u{2028}'\""
        try writeSpectra(name.replacing("/", with: ""))
        let contents = try ReportContents(folders: [place.file(name)])
        let page = try ReportPage(contents, title: "</title><script>", provenance: ["command_line": ["</script>"]])
        #expect(page.html.components(separatedBy: "<script").count == 3)
        #expect(page.html.components(separatedBy: "</script>").count == 3)
        #expect(!page.html.contains("<img") && page.html.contains("<title>&lt;/title&gt;&lt;script&gt;</title>"))
        let start = try #require(page.html.range(of: "id=\"data\">")).upperBound
        let end = try #require(page.html.range(of: "</script>")).lowerBound
        let data = try JSONValue(parsing: String(page.html[start..<end]))
        #expect(data["spectra"]?[0]?["label"]?.stringValue == name && data["title"]?.stringValue == "</title><script>")
    }

    @Test("Style and script are named by their digests, and nothing may be fetched")
    func policy() throws {
        try writeSpectra("s")
        let page = try ReportPage(try ReportContents(folders: [place.file("s")]), title: "s", provenance: [:])
        #expect(page.html.contains("default-src 'none'"))
        #expect(ReportPage.digest("") == "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
        for text in [ReportPage.style, ReportPage.script] {
            #expect(page.html.contains("'\(ReportPage.digest(text))'") && page.html.contains(">\(text)<"))
        }
        #expect(!ReportPage.script.contains("innerHTML") && !ReportPage.script.contains("eval("))
        #expect(!page.html.contains("{{"))
    }
}
