import CommandSupport
import Foundation
import JSON
import Testing

@Suite("cola-analyze cost")
struct CostToolTests {
    let workplace: Workplace

    init() throws { workplace = try .forConversion() }

    private static let methods = ["full-rank", "gcp", "cola", "cola-m", "lora", "relora", "galore", "sltrain"]

    private func cost(_ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) throws -> JSONValue {
        let outcome = try workplace.run(.analyze, ["cost"] + arguments + ["--quiet", "--json"])
        try #require(
            outcome.status == 0 && !outcome.isKilled, "\(arguments): \(outcome)", sourceLocation: sourceLocation)
        #expect(outcome.errors == "", sourceLocation: sourceLocation)
        return try JSONValue(parsing: outcome.output)
    }

    /// A figure of a method.
    private func figure(_ method: String, _ key: String, in result: JSONValue) throws -> Double {
        let row = result["methods"]?.arrayValue?.first { $0["method"]?.stringValue == method }
        return try #require(row?[key]?.doubleValue, "\(method) \(key)")
    }

    @Test("The CSV file has the columns and the numbers that JSON has, and lines as in RFC 4180")
    func table() throws {
        let result = try cost("--preset", "60m", "--batch", "2", "--out", "costs.csv")
        let text = try workplace.text("costs.csv")
        let lines = text.components(separatedBy: "\r\n")
        #expect(!text.replacingOccurrences(of: "\r\n", with: "").contains { "\r\n".contains($0) })
        #expect(
            lines[0] == "method,parameters,trainable_parameters,flops_per_token,flops_per_step,"
                + "recomputed_flops_per_step,kept_activation_elements,kept_activation_bytes,weight_bytes,"
                + "gradient_bytes,optimizer_bytes,flops_ratio,activation_ratio")
        let rows = lines.dropFirst().dropLast().map { $0.split(separator: ",").map(String.init) }
        #expect(rows.map { $0[0] } == Self.methods && lines.last == "")
        for row in rows {
            for (name, field) in zip(lines[0].split(separator: ","), row).dropFirst() {
                #expect(try Double(field) == figure(row[0], String(name), in: result), "\(row[0]) \(name)")
            }
        }
    }

    @Test("A preset's numbers are those of the paper's formulas, for its own rank and another")
    func preset() throws {
        let result = try cost("--preset", "60m")
        // Worked out in PresetTests of CostModel: 8 · 5,259,657,216 + 25,165,824,000, and so on.
        #expect(try figure("full-rank", "flops_per_step", in: result) == 67_243_081_728)
        #expect(try figure("cola", "flops_per_step", in: result) == 43_738_202_112)
        #expect(try figure("gcp", "recomputed_flops_per_step", in: result) == 14_025_752_576)
        #expect(try figure("cola-m", "kept_activation_elements", in: result) == 3_932_160)
        #expect(try figure("cola-m", "kept_activation_bytes", in: result) == 4 * 3_932_160)
        #expect(try abs(figure("cola", "layer_flops_ratio", in: result) - 0.441) < 0.0005)
        #expect(try abs(figure("cola", "flops_ratio", in: result) - 0.650) < 0.0005)
        #expect(result["ranks"]?.arrayValue?.compactMap(\.intValue) == [128])
        // Half the rank has half the factors: 8 · 1,249,280 / 2 fewer.
        let half = try cost("--preset", "60m", "--rank", "64")
        #expect(try figure("cola", "parameters", in: half) == 42_770_944 - 4_997_120)
        // Half the vocabulary: 2 · 16,000 · 512 fewer.
        let narrow = try cost("--preset", "60m", "--vocabulary", "16000")
        #expect(try figure("full-rank", "parameters", in: narrow) == 58_073_600 - 16_384_000)
    }

    @Test("Batch, length, precision, attention and pairs count as they should")
    func conventions() throws {
        let base = try cost("--preset", "tiny")
        func figures(_ method: String, _ key: String, _ options: String...) throws -> (Double, Double) {
            let outcome = try workplace.run(
                .analyze, ["cost", "--preset", "tiny", "--json"] + options)
            return (try figure(method, key, in: base), try figure(method, key, in: JSONValue(parsing: outcome.output)))
        }
        let batch = try figures("cola", "flops_per_step", "--batch", "6")
        #expect(batch.1 == 6 * batch.0)
        let length = try figures("gcp", "kept_activation_elements", "--sequence-length", "512")
        #expect(length.1 == 2 * length.0)
        let rounded = try figures("full-rank", "weight_bytes", "--precision", "bf16")
        #expect(2 * rounded.1 == rounded.0)
        let tiled = try figures("full-rank", "kept_activation_elements", "--attention", "tiled")
        // 2n²h of four heads in four layers.
        #expect(tiled.0 - tiled.1 == 2 * 256 * 256 * 16)
        let causal = try figures("full-rank", "flops_per_step", "--pairs", "causal")
        // 12d for each pair of 256² that is none of 256 · 257 / 2, in four layers.
        #expect(causal.0 - causal.1 == Double(4 * 12 * 160 * (256 * 256 - 256 * 257 / 2)))
        let sparse = try figures("sltrain", "parameters", "--sparse-density", "0")
        #expect(sparse.1 == (try figure("cola", "parameters", in: base)) && sparse.0 > sparse.1)
    }

    @Test("A dense checkpoint's shapes are read; its rank is a quarter of the hidden size unless one is given")
    func dense() throws {
        let result = try cost("own.h5")
        #expect(try figure("full-rank", "parameters", in: result) == Double(TinyModel.dense.parameters))
        #expect(result["key_value_heads"]?.intValue == 1 && result["ranks"]?.arrayValue?.compactMap(\.intValue) == [6])
        // q 24 → 30, k and v 24 → 10, o 30 → 24, gate and up 24 → 40, down 40 → 24: 54 + 34 + 34 + 54 + 64 + 64 + 64.
        let rest = 2 * 300 * 24 + 5 * 24
        #expect(try figure("cola", "parameters", in: result) == Double(rest + 2 * 6 * 368))
        #expect(try figure("cola", "parameters", in: cost("own.h5", "--rank", "10")) == Double(rest + 2 * 10 * 368))
    }

    @Test("A CoLA checkpoint's ranks are read from it")
    func cola() throws {
        try TinyModel.cola.writeCheckpoint(workplace.file("cola.h5"))
        let result = try cost("cola.h5")
        #expect(try figure("cola", "parameters", in: result) == Double(TinyModel.cola.parameters))
        #expect(try figure("full-rank", "parameters", in: result) == Double(TinyModel.ungrouped.parameters))
        #expect(result["ranks"]?.arrayValue?.compactMap(\.intValue) == [5])
    }

    @Test("With a plan the costs are those of the checkpoint that it leads to")
    func plan() throws {
        try workplace.succeed(
            .analyze, "ranks", "own.h5", "--keep", "0.5", "--weighting", "weight", "--multiple", "1", "--out",
            "plan.json", "--quiet")
        let ranks = workplace.ranks(try JSONValue(parsing: workplace.text("plan.json")))
        try #require(Set(ranks).count > 2)
        _ = try workplace.convert("cola.h5", "--plan", "plan.json")
        let (planned, converted) = (try cost("own.h5", "--plan", "plan.json"), try cost("cola.h5"))
        #expect(planned["ranks"]?.arrayValue?.compactMap(\.intValue) == Set(ranks.compactMap { $0 }).sorted())
        #expect(planned["dense_layers"]?.intValue == ranks.count { $0 == nil })
        for key in ["ranks", "dense_layers", "methods"] { #expect(planned[key] == converted[key], "\(key)") }
        let stored = try workplace.json(.convert, "inspect", "cola.h5")
        #expect(try figure("cola", "parameters", in: planned) == stored["parameters"]?.doubleValue)
    }

    @Test("For people a table of methods with bars, and what it is of")
    func text() throws {
        let output = try workplace.succeed(.analyze, "cost", "--preset", "1b", "--out", "costs.csv")
        let lines = output.split(separator: "\n")
        #expect(lines[0] == "1b: 24 layers, d 2048, d_ff 5461, 32 heads, vocabulary 32,000, rank 512")
        let rows = lines.filter { line in Self.methods.contains { line.hasPrefix($0 + " ") } }
        #expect(rows.count == 8 && rows.allSatisfy { $0.contains("█") })
        #expect(rows[2].contains("609.31 M") && rows[2].contains("0.438") && lines.last == "costs.csv")
        #expect(output.contains("of the decoder layers alone CoLA has 0.408"))
    }

    // MARK: - Measuring

    @Test("Measured beside predicted: four ways to train, and the memory that was predicted")
    func measure() throws {
        let result = try cost(
            "--preset", "tiny", "--vocabulary", "500", "--batch", "2", "--sequence-length", "32", "--measure",
            "--steps", "1", "--layers", "2")
        let measured = try #require(result["measured"]?.arrayValue)
        #expect(measured.map { $0["model"]?.stringValue } == ["dense", "dense", "cola", "cola"])
        #expect(measured.map { $0["memory"]?.stringValue } == ["plain", "checkpoint", "plain", "cola-m"])
        // 64 tokens of 4 bytes; d 160, d_ff 432, 4 heads, rank 40: of two layers 8d + 2h + 3d_ff, or d, or 2d + 7r, and d.
        let kept = [2 * (1280 + 8 + 1296) + 160, 3 * 160, 2 * (1280 + 8 + 1296 + 280) + 160, 2 * (320 + 280) + 160]
        for (entry, kept) in zip(measured, kept) {
            let figures = try #require(entry["figures"]?.arrayValue)
            #expect(
                figures.map { $0["figure"]?.stringValue } == [
                    "step", "FLOP/s", "tokens/s", "kept activations", "memory in all", "step, scaled to 4 layers",
                ])
            #expect(figures[3]["measured"]?.intValue == 256 * kept && figures[3]["predicted"]?.intValue == 256 * kept)
            #expect(entry["layers"]?.intValue == 2)
            for figure in figures {
                let values = ["measured", "predicted", "deviation"].compactMap { figure[$0]?.doubleValue }
                try #require(values.count == 3 && values.allSatisfy(\.isFinite))
                #expect(abs(values[2] - (values[0] / values[1] - 1)) < 1e-9)
            }
        }
        #expect(result["kernels"]?["threads"]?.intValue != nil)
    }

    @Test("The shapes of a checkpoint are measured with its ranks; one without low-rank layers only dense")
    func measureCheckpoint() throws {
        try TinyModel.cola.writeCheckpoint(workplace.file("cola.h5"))
        let options = ["--batch", "4", "--sequence-length", "16", "--measure", "--steps", "1", "--quiet"]
        let outcome = try workplace.run(.analyze, ["cost", "cola.h5"] + options)
        try #require(outcome.status == 0, "\(outcome)")
        let lines = outcome.output.split(separator: "\n").map { $0.split(separator: " ") }
        #expect(lines.count { $0.first == "dense" || $0.first == "CoLA" } == 4)
        // 64 tokens · 4 · (24 + 2 · (2 · 24 + 7 · 5)): the heads, 8 of 3, are as wide as the residual stream.
        let kept = fixed(Double(256 * (24 + 2 * (48 + 35))) / 1024, 1)
        #expect(outcome.output.contains("kept activations   \(kept) KiB   \(kept) KiB      +0.0 %"), "\(outcome)")
    }

    // MARK: - What cannot be

    @Test("Command lines that say too little, too much, or what cannot be")
    func usage() throws {
        let preset = ["--preset", "tiny"]
        for (arguments, mention) in [
            ([], "either a checkpoint or --preset"), (["own.h5"] + preset, "either a checkpoint or --preset"),
            (preset + ["--plan", "plan.json"], "--config and --plan are for a checkpoint"),
            (preset + ["--config", "c.json"], "--config and --plan are for a checkpoint"),
            (["own.h5", "--vocabulary", "500"], "--vocabulary: the checkpoint says it"),
            (["own.h5", "--plan", "plan.json", "--rank", "3"], "--rank and --plan"),
            (preset + ["--rank", "0"], "--rank 0: expected at least 1"),
            (preset + ["--rank=-4"], "--rank -4: expected at least 1"),
            (preset + ["--batch", "0"], "--batch 0"), (preset + ["--sequence-length", "0"], "--sequence-length 0"),
            (preset + ["--sequence-length", "1", "--measure"], "--sequence-length 1: expected at least 2"),
            (preset + ["--vocabulary", "1"], "--vocabulary 1"), (preset + ["--sparse-density", "1.5"], "1.5"),
            (preset + ["--sparse-density", "nan"], "--sparse-density nan"),
            (preset + ["--layers", "2"], "are for --measure"), (preset + ["--steps", "2"], "are for --measure"),
            (preset + ["--measure", "--layers", "0"], "--layers 0"), (["--preset", "2b"], "2b"),
            (preset + ["--attention", "none"], "none"), (preset + ["--batch", "x"], "x"),
        ] as [([String], String)] {
            try workplace.refuse(64, .analyze, ["cost"] + arguments, mentions: [mention])
        }
    }

    @Test("Ranks wider than a layer, more tokens than can be counted, more layers than there are, no room to measure")
    func settings() throws {
        for (arguments, mention) in [
            (["--preset", "tiny", "--rank", "161"], "rank of layer 0 self_attn.q_proj: found 161, expected 1 to 160"),
            (["own.h5", "--rank", "11"], "rank of layer 0 self_attn.k_proj: found 11, expected 1 to 10"),
            (["--preset", "tiny", "--batch", "2000000000"], "batch: found 2000000000"),
            (["--preset", "tiny", "--batch", "1000000", "--sequence-length", "100000"], "at most 1073741824 tokens"),
            (["--preset", "tiny", "--measure", "--layers", "5"], "layers: found 5, expected 1 to 4"),
            (["--preset", "7b", "--batch", "4096", "--measure"], "layers: found 32, which take"),
        ] as [([String], String)] {
            try workplace.refuse(
                64, .analyze, ["cost", "--quiet", "--out", "costs.csv"] + arguments, mentions: [mention],
                isUsage: false)
        }
    }

    @Test("Checkpoints and plans that are missing, damaged, or of another model")
    func inputs() throws {
        try TinyModel.cola.writeCheckpoint(workplace.file("cola.h5"))
        try TinyModel.dense.changing("lm_head.weight") { $0.values[5] += 1 / 256 }
            .writeCheckpoint(workplace.file("other.h5"))
        try workplace.succeed(
            .analyze, "ranks", "own.h5", "--keep", "0.5", "--weighting", "weight", "--multiple", "1", "--out",
            "plan.json", "--quiet")
        let plan = try JSONValue(parsing: workplace.text("plan.json"))
        var wide = plan
        if case .object(var object) = plan, var layers = plan["layers"]?.arrayValue, case .object(var row) = layers[1] {
            row["rank"] = 11
            layers[1] = .object(row)
            object["layers"] = .array(layers)
            wide = .object(object)
        }
        try workplace.write(wide.text(), "wide.json")
        try workplace.write("{", "damaged.json")
        for (code, arguments, mention) in [
            (66, ["gone.h5"], "gone.h5"), (66, ["own.h5", "--plan", "gone.json"], "gone.json"),
            (65, ["text.txt"], "text.txt"), (65, ["own.h5", "--plan", "damaged.json"], "damaged.json"),
            (65, ["own.h5", "--plan", "wide.json"], "rank of layer 0 self_attn.k_proj: found 11"),
            (65, ["other.h5", "--plan", "plan.json"], "a plan is for one model"),
            (65, ["cola.h5", "--plan", "plan.json"], "14 of its linear layers are low-rank already"),
            (65, ["cola.h5", "--rank", "3"], "14 of its linear layers are low-rank already"),
            (73, ["own.h5", "--out", "text.txt/costs.csv"], "text.txt/costs.csv"),
        ] as [(Int32, [String], String)] {
            try workplace.refuse(code, .analyze, ["cost", "--quiet"] + arguments, mentions: [mention])
        }
    }
}
