import Foundation
import JSON
import TestSupport
import Testing

@Suite("cola-analyze spectrum")
struct SpectrumToolTests {
    let workplace: Workplace

    init() throws {
        workplace = try Workplace(textBytes: 1500)
        try TinyModel.cola.writeCheckpoint(workplace.file("cola.h5"))
    }

    @discardableResult
    private func spectrum(_ checkpoint: String, _ out: String, _ options: String...) throws -> String {
        let arguments = ["spectrum", checkpoint, "--text", "text.txt", "--out", out, "--quiet"] + options
        let outcome = try workplace.run(.analyze, arguments)
        try #require(outcome.status == 0 && outcome.errorLines == [], "\(outcome)")
        return outcome.output
    }

    private static let spectraHeader = "layer,module,side,index,singular_value,energy_fraction,cumulative_energy"
    private static let ranksHeader =
        "layer,module,side,tokens,features,max_rank,rank_0.90,rank_0.95,rank_0.99,rank_0.999,entropy_rank,"
        + "entropy_rank_sigma,participation_ratio,stable_rank,energy_at_quarter,relative_error_at_quarter"
    private static let modules = [
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
        "mlp.down_proj", "residual",
    ]

    @Test("Three files appear; the tables have a row for each place and each singular value")
    func tables() throws {
        let printed = try spectrum("own.h5", "out")
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: workplace.file("out")).sorted()
                == ["ranks.csv", "run.json", "spectra.csv"])
        #expect(printed.contains("out/spectra.csv") && printed.contains("α = 0.95") && printed.contains("d/4"))
        let ranks = try workplace.table("out/ranks.csv")
        #expect(ranks.header == Self.ranksHeader)
        #expect(try ranks.column("module").map(String.init) == Self.modules + Self.modules)
        #expect(try ranks.column("layer") == Array(repeating: "0", count: 8) + Array(repeating: "1", count: 8))
        let features = [30.0, 10, 10, 24, 40, 40, 24, 24]
        #expect(try ranks.numbers("features") == features + features)
        // An output of a wide layer has no more directions than its input.
        let widths = [24.0, 10, 10, 24, 24, 24, 24, 24]
        #expect(try ranks.numbers("max_rank") == widths + widths)

        let spectra = try workplace.table("out/spectra.csv")
        #expect(spectra.header == Self.spectraHeader)
        #expect(spectra.rows.count == Int((widths + widths).reduce(0, +)))
        let (values, cumulative) = (try spectra.numbers("singular_value"), try spectra.numbers("cumulative_energy"))
        var start = 0
        for (place, width) in (widths + widths).map({ Int($0) }).enumerated() {
            let (part, sums) = (values[start..<start + width], cumulative[start..<start + width])
            #expect(part.first! > 0 && part.last! >= 0 && zip(part, part.dropFirst()).allSatisfy { $0 >= $1 })
            #expect(abs(sums.last! - 1) < 1e-12)
            #expect(spectra.rows[start..<start + width].map { Int($0[3])! } == Array(1...width))
            for (column, alpha) in [("rank_0.90", 0.9), ("rank_0.95", 0.95), ("rank_0.99", 0.99)] {
                let rank = try Int(ranks.numbers(column)[place])
                #expect(rank == 1 + sums.firstIndex { $0 >= alpha }! - start, "\(column), place \(place)")
            }
            start += width
        }
    }

    @Test("run.json says where the result came from")
    func provenance() throws {
        let result = try JSONValue(parsing: try spectrum("own.h5", "out", "--json"))
        let record = try JSONValue(parsing: try workplace.text("out/run.json"))
        for key in ["tokens", "checkpoint", "inputs", "command_line"] {
            #expect(record[key] != nil && record[key] == result[key], "\(key)")
        }
        #expect(record["checkpoint"]?["sha256"]?.stringValue?.utf8.count == 64)
        #expect(record["inputs"]?[0]?["path"]?.stringValue == "text.txt")
        #expect(record["inputs"]?[0]?["sha256"]?.stringValue?.utf8.count == 64)
        let tokens = try #require(record["tokens"]?.intValue)
        #expect(try workplace.table("out/ranks.csv").numbers("tokens") == Array(repeating: Double(tokens), count: 16))
        let phases = try #require(record["seconds"]?.objectValue?.members)
        #expect(phases.count >= 4 && phases.allSatisfy { $0.value.doubleValue! >= 0 })
        #expect(record["peak_memory_bytes"]?.intValue.map { $0 > 1 << 20 && $0 < 1 << 32 } == true)
        #expect(record["tool"]?.stringValue == "cola-analyze" && record["version"] != nil)
        #expect(result["ranks"]?.arrayValue?.count == 16)
        #expect(result["ranks"]?[0]?["rank_0.95"]?.intValue.map { (1...24).contains($0) } == true)
    }

    @Test("In a CoLA model no output has a rank above its bottleneck's width, and σ changes the bottleneck")
    func bottlenecks() throws {
        try spectrum("cola.h5", "out", "--sides", "input,output,bottleneck,bottleneck_activated")
        let ranks = try workplace.table("out/ranks.csv")
        let (sides, modules) = (try ranks.column("side"), try ranks.column("module"))
        #expect(Array(sides.prefix(4)) == ["input", "output", "bottleneck", "bottleneck_activated"])
        // The residual stream has no bottleneck.
        #expect(ranks.rows.count == 2 * (7 * 4 + 2))
        let (features, full) = (try ranks.numbers("features"), try ranks.numbers("rank_0.999"))
        for row in ranks.rows.indices where modules[row] != "residual" && sides[row] != "input" {
            #expect(full[row] <= 5, "\(ranks.rows[row])")
            if sides[row].hasPrefix("bottleneck") { #expect(features[row] == 5) }
        }
        let energies = try ranks.numbers("entropy_rank")
        #expect(energies[2] != energies[3])
    }

    @Test("--layers, --modules, --alpha and --max-tokens choose")
    func choices() throws {
        try spectrum(
            "own.h5", "out", "--layers", "1", "--modules", "down,mlp.gate_proj", "--alpha", "0.5,1", "--max-tokens",
            "100")
        let ranks = try workplace.table("out/ranks.csv")
        #expect(ranks.header.contains("max_rank,rank_0.5,rank_1,entropy_rank"))
        #expect(try ranks.column("module") == ["mlp.gate_proj", "mlp.down_proj"])
        #expect(try ranks.column("layer") == ["1", "1"] && ranks.column("tokens") == ["100", "100"])
        // Whatever else is measured, a place's numbers are the same.
        try spectrum("own.h5", "all", "--max-tokens", "100")
        let (few, all) = (try workplace.table("out/spectra.csv"), try workplace.table("all/spectra.csv"))
        let same = all.rows.filter { $0[0] == "1" && ["mlp.gate_proj", "mlp.down_proj"].contains($0[1]) }
        expectEqual(few.rows, same)
    }

    @Test("--center removes the mean, --weights adds the spectra of the weights")
    func options() throws {
        try spectrum("own.h5", "plain", "--modules", "residual,q")
        try spectrum("own.h5", "centered", "--modules", "residual,q", "--center", "--weights")
        let (plain, centered) = (try workplace.table("plain/spectra.csv"), try workplace.table("centered/spectra.csv"))
        // By Eckart–Young and interlacing no singular value grows when the mean goes, and the sum shrinks.
        let (a, b) = (try plain.numbers("singular_value"), try centered.numbers("singular_value"))
        #expect(zip(a, b).allSatisfy { $1 <= $0 * (1 + 1e-9) })
        #expect(b.reduce(0, +) < a.reduce(0, +) * 0.999)
        let weights = try workplace.table("centered/weight_spectra.csv")
        #expect(
            weights.header == "layer,module,rows,columns,index,singular_value,energy_fraction,cumulative_energy")
        #expect(weights.rows.count == 2 * 24)
        #expect(try Set(weights.column("module")) == ["self_attn.q_proj"])
        // The sum of the squares is that of the elements.
        let values = TinyModel.dense.tensors.first { $0.name == "model.layers.0.self_attn.q_proj.weight" }!.values
        let expected = values.reduce(0) { $0 + Double($1) * Double($1) }
        let found = try weights.numbers("singular_value").prefix(24).reduce(0) { $0 + $1 * $1 }
        #expect(abs(found / expected - 1) < 1e-12)
        #expect(try JSONValue(parsing: workplace.text("centered/run.json"))["centered"]?.boolValue == true)
    }

    @Test("QR accumulation agrees with the moments", arguments: [[], ["--center"]])
    func accumulations(_ options: [String]) throws {
        for way in ["gram", "qr"] {
            let arguments =
                ["--sides", "input,output,bottleneck,bottleneck_activated", "--accumulation", way] + options
            let outcome = try workplace.run(
                .analyze, ["spectrum", "cola.h5", "--text", "text.txt", "--out", way, "--quiet"] + arguments)
            try #require(outcome.status == 0, "\(outcome)")
        }
        let (gram, qr) = (try workplace.table("gram/spectra.csv"), try workplace.table("qr/spectra.csv"))
        #expect(gram.rows.count == qr.rows.count && gram.rows.count > 500)
        let (a, b) = (try gram.numbers("singular_value"), try qr.numbers("singular_value"))
        var largest = 0.0
        for (row, (x, y)) in zip(a, b).enumerated() {
            if gram.rows[row][3] == "1" { largest = y }
            #expect(gram.rows[row].prefix(4) == qr.rows[row].prefix(4))
            #expect(abs(x - y) <= 1e-6 * largest, "\(gram.rows[row]) and \(qr.rows[row])")
        }
    }

    @Test("The same command twice gives the same bytes; text and tokens, batches of any size give the same numbers")
    func repeats() throws {
        try spectrum("own.h5", "a")
        try spectrum("own.h5", "b")
        for file in ["spectra.csv", "ranks.csv"] {
            try expectEqual(workplace.bytes("a/\(file)"), workplace.bytes("b/\(file)"))
        }
        try workplace.succeed(.convert, "tokenize", "text.txt", "--tokenizer", "own.h5", "--out", "t.npy", "--quiet")
        try workplace.succeed(.analyze, "spectrum", "own.h5", "--tokens", "t.npy", "--out", "c", "--quiet")
        try expectEqual(workplace.bytes("a/spectra.csv"), workplace.bytes("c/spectra.csv"))
        try spectrum("own.h5", "d", "--batch", "1")
        let (one, four) = (try workplace.table("d/spectra.csv"), try workplace.table("a/spectra.csv"))
        for (x, y) in zip(try one.numbers("singular_value"), try four.numbers("singular_value")) {
            #expect(abs(x - y) <= 1e-4 * y + 1e-6)
        }
    }

    @Test("A run into a folder of results replaces them")
    func replaces() throws {
        try spectrum("own.h5", "out", "--layers", "0")
        try spectrum("own.h5", "out", "--layers", "1")
        #expect(try Set(workplace.table("out/ranks.csv").column("layer")) == ["1"])
        #expect(workplace.contents.filter { $0.contains("partial") } == [])
    }
}
