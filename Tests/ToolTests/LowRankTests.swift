import Foundation
import JSON
import TestSupport
import Testing

extension Workplace {
    /// With a dense model in own.h5, a text of 400 tokens for calibration, and another in test.txt.
    static func forConversion(_ model: TinyModel = .dense) throws -> Workplace {
        let workplace = try Workplace()
        try model.writeCheckpoint(workplace.file("own.h5"))
        try workplace.write(TinyModel.text(1200), "text.txt")
        try workplace.write(TinyModel.text(700, seed: 8), "test.txt")
        return workplace
    }

    /// Converts own.h5 and returns the report that was printed.
    func convert(
        _ output: String, _ options: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> JSONValue {
        let arguments =
            ["dense-to-lowrank", "own.h5", output, "--text", "text.txt", "--sequence-length", "64", "--multiple", "1"]
            + options + ["--quiet", "--json"]
        let outcome = try run(.convert, arguments, sourceLocation: sourceLocation)
        try #require(outcome.status == 0 && !outcome.isKilled, "\(outcome)", sourceLocation: sourceLocation)
        return try JSONValue(parsing: outcome.output)
    }

    func ranks(_ plan: JSONValue) -> [Int?] { (plan["layers"]?.arrayValue ?? []).map { $0["rank"]?.intValue } }

    func perplexity(_ checkpoint: String, _ text: String = "test.txt") throws -> Double {
        try #require(
            json(.analyze, "perplexity", checkpoint, "--text", text, "--quiet")["perplexity"]?.doubleValue)
    }
}

@Suite("cola-analyze ranks")
struct RanksToolTests {
    let workplace: Workplace

    init() throws { workplace = try .forConversion() }

    private static let text = ["--text", "text.txt", "--sequence-length", "64"]

    private func plan(_ options: String..., input: [String] = text) throws -> JSONValue {
        let arguments = ["ranks", "own.h5", "--out", "plan.json", "--multiple", "1"] + input + options
        let outcome = try workplace.run(.analyze, arguments + ["--quiet", "--json"])
        try #require(outcome.status == 0 && !outcome.isKilled, "\(outcome)")
        let printed = try JSONValue(parsing: outcome.output)
        #expect(try printed == JSONValue(parsing: workplace.text("plan.json")))
        return printed
    }

    @Test("Each policy keeps to what it was asked for")
    func policies() throws {
        let uniform = try plan("--rank", "6")
        // k and v are 24 → 10: rank 6 makes them smaller, 7 would not.
        #expect(workplace.ranks(uniform) == Array(repeating: 6, count: 14))
        #expect(workplace.ranks(try plan("--rank", "7")).count { $0 == nil } == 4)
        #expect(workplace.ranks(try plan("--rank-ratio", "0.25")) == Array(repeating: 6, count: 14))
        let keep = try plan("--keep", "0.6")
        let share = try #require(keep["kept_share"]?.doubleValue)
        #expect(share <= 0.6 && share > 0.55, "\(share)")
        let energies = try plan("--alpha", "0.9")
        for layer in energies["layers"]?.arrayValue ?? [] {
            #expect(layer["rank"]?.isNull == true || (layer["kept_energy"]?.doubleValue ?? 0) >= 0.9)
        }
        let bytes = try plan("--max-bytes", "80000")
        let rest = TinyModel.dense.parameters - (bytes["dense_parameters"]?.intValue ?? 0)
        #expect(4 * (rest + (bytes["parameters"]?.intValue ?? .max)) <= 80_000)
        let flops = try plan("--max-flops", "30000", "--weighting", "output")
        let head = 300 * 24
        #expect(2 * (head + (flops["parameters"]?.intValue ?? .max)) <= 30_000)
        #expect(flops["predicted_loss_increase"]?.isNull == true)
        #expect(workplace.ranks(try plan("--keep", "0.6", "--weighting", "weight")) != workplace.ranks(keep))
    }

    @Test("From saved moments the plan is the same as from the text, and says the same calibration")
    func savedMoments() throws {
        let first = try plan("--keep", "0.5", "--save-moments", "m.h5")
        let second = try plan("--keep", "0.5", input: ["--moments", "m.h5"])
        for key in ["layers", "calibration", "fingerprint", "policy", "kept_share"] {
            #expect(first[key] == second[key])
        }
        #expect(first["calibration"]?["tokens"]?.intValue.map { $0 > 300 } == true)
        let table = try workplace.succeed(
            .analyze, "ranks", "own.h5", "--moments", "m.h5", "--keep", "0.5", "--multiple", "1", "--out",
            "plan.json", "--quiet")
        #expect(table.contains("layer  q") && table.contains("parameters of the linear layers, "))
        #expect(table.hasSuffix("plan.json\n"))
    }

    @Test("Moments that spectrum saves give the same plan; moments without gradients do for the outputs only")
    func momentsOfSpectrum() throws {
        try workplace.succeed(
            .analyze, "spectrum", "own.h5", "--text", "text.txt", "--sequence-length", "64", "--quiet",
            "--save-moments", "both.h5", "--out", "spectra")
        let saved = try plan("--keep", "0.5", input: ["--moments", "both.h5"])
        #expect(try saved["layers"] == plan("--keep", "0.5")["layers"])
        let outputs = try plan("--keep", "0.5", "--weighting", "output", "--save-moments", "inputs.h5")
        let again = try plan("--keep", "0.5", "--weighting", "output", input: ["--moments", "inputs.h5"])
        #expect(outputs["layers"] == again["layers"])
        try workplace.refuse(
            65, .analyze, ["ranks", "own.h5", "--moments", "inputs.h5", "--keep", "0.5", "--out", "p.json", "--quiet"],
            mentions: ["inputs.h5: gradient: found moments of inputs only", "spectrum --save-moments"])
    }

    // MARK: - What cannot be used

    @Test("Ranks and budgets that no plan can have")
    func impossible() throws {
        for (options, code, mention) in [
            (["--rank", "0"], 64, "--rank 0: expected at least 1"),
            (["--rank", "99"], 64, "rank: found 99, expected 1 to "),
            (["--keep", "0.01"], 64, "keep: found 0.01, expected room for rank 1"),
            (["--keep", "1.5"], 64, "--keep 1.5"), (["--max-bytes", "1000"], 64, "parameters: found 250 of 24120"),
            (["--keep", "0.5", "--rank", "3"], 64, "--rank and --keep"), ([], 64, "Say how to choose ranks"),
        ] as [([String], Int32, String)] {
            let arguments = ["ranks", "own.h5", "--text", "text.txt", "--multiple", "1", "--out", "p.json", "--quiet"]
            let isUsage = !mention.contains("found")
            try workplace.refuse(code, .analyze, arguments + options, mentions: [mention], isUsage: isUsage)
        }
    }

    @Test("Moments of another checkpoint, and a CoLA model")
    func otherModels() throws {
        _ = try plan("--keep", "0.5", "--save-moments", "m.h5")
        try TinyModel.dense.changing("lm_head.weight") { $0.values[5] += 1 / 256 }
            .writeCheckpoint(workplace.file("other.h5"))
        let arguments = ["ranks", "other.h5", "--moments", "m.h5", "--keep", "0.5", "--out", "p.json", "--quiet"]
        try workplace.refuse(65, .analyze, arguments, mentions: ["m.h5: the model that the moments are of"])
        try TinyModel.cola.writeCheckpoint(workplace.file("cola.h5"))
        try workplace.refuse(
            65, .analyze, ["ranks", "cola.h5", "--text", "text.txt", "--keep", "0.5", "--out", "p.json", "--quiet"],
            mentions: ["cola.h5: 14 of its linear layers are low-rank already"])
        try workplace.refuse(
            65, .analyze, ["ranks", "own.h5", "--keep", "0.5", "--out", "p.json", "--quiet"],
            mentions: ["no calibration", "--text FILE"])
        try workplace.refuse(
            65, .analyze, ["ranks", "own.h5", "--moments", "own.h5", "--keep", "0.5", "--out", "p.json", "--quiet"],
            mentions: ["own.h5: ", "cola-moments"])
    }

    @Test("Too few tokens are a warning, with tokens per feature")
    func fewTokens() throws {
        let outcome = try workplace.run(
            .analyze, "ranks", "own.h5", "--text", "text.txt", "--max-tokens", "40", "--rank", "5", "--out", "p.json",
            "--quiet")
        #expect(outcome.status == 0)
        #expect(outcome.errors.contains("warning: 40 calibration tokens for 40 features, 1.0 per feature"))
    }
}

@Suite("cola-convert dense-to-lowrank")
struct ConversionToolTests {
    let workplace: Workplace

    init() throws { workplace = try .forConversion() }

    @Test("What the report says of the result is what the other tools find", arguments: ["silu", "identity"])
    func report(_ activation: String) throws {
        let report = try workplace.convert(
            "out.h5", "--keep", "0.6", "--activation", activation, "--evaluate", "test.txt", "text.txt")
        #expect(workplace.contents.contains("out.layers.csv"))
        let written = try JSONValue(parsing: workplace.text("out.report.json"))
        #expect(written["losses"] == report["losses"] && written["after"] == report["after"])
        let losses = try #require(report["losses"]?.arrayValue)
        #expect(losses.map { $0["text"]?.stringValue } == ["test.txt", "text.txt"])
        for row in losses {
            let text = try #require(row["text"]?.stringValue)
            for (key, checkpoint) in [("before", "own.h5"), ("after", "out.h5")] {
                let found = try workplace.perplexity(checkpoint, text)
                #expect(row[key]?["perplexity"]?.doubleValue == found, "\(text) \(key)")
            }
        }
        let facts = try workplace.json(.convert, "inspect", "out.h5")
        #expect(facts["parameters"]?.intValue == report["after"]?["parameters"]?.intValue)
        #expect(facts["kind"]?.stringValue?.hasPrefix("CoLA, ") == true)
        #expect(report["before"]?["parameters"]?.intValue == TinyModel.dense.parameters)
        #expect(report["kept_share"]?.doubleValue.map { $0 <= 0.6 && $0 > 0.55 } == true)
        #expect(report["activation"]?.stringValue == activation && report["method"]?.stringValue == "fisher")
        #expect(report["provenance"]?["source"]?["sha256"] != nil)
        let layers = try Metrics(workplace.text("out.layers.csv"))
        #expect(layers.rows.count == 14)
        for (index, row) in layers.rows.enumerated() where try layers.column("rank")[index] != "" {
            for name in ["relative_error", "relative_error_in_place", "floor_ratio", "relative_error_held_out"] {
                #expect(try Double(layers.column(name)[index]).map { $0 > 0 } == true, "\(name) in \(row)")
            }
            #expect(try Double(layers.column("floor_ratio")[index])! > 1 - 1e-4)
        }
    }

    @Test("A plan and the options that made it give the same factors, and an edited rank counts")
    func plans() throws {
        let ranks = ["ranks", "own.h5", "--text", "text.txt", "--sequence-length", "64", "--multiple", "1"]
        let outcome = try workplace.run(
            .analyze, ranks + ["--keep", "0.6", "--out", "plan.json", "--save-moments", "m.h5", "--quiet"])
        try #require(outcome.status == 0, "\(outcome)")
        _ = try workplace.convert("a.h5", "--keep", "0.6")
        _ = try workplace.convert("b.h5", "--plan", "plan.json")
        _ = try workplace.convert("c.h5", "--plan", "plan.json", "--moments", "m.h5")
        let expected = try workplace.logits(of: "a.h5", "--text", "test.txt").data
        for other in ["b.h5", "c.h5"] {
            try expectEqual(workplace.logits(of: other, "--text", "test.txt").data, expected)
        }

        var plan = try #require(try JSONValue(parsing: workplace.text("plan.json")).objectValue)
        var rows = try #require(plan["layers"]?.arrayValue)
        for (index, rank) in [(0, JSONValue.null), (13, 3)] {
            var row = try #require(rows[index].objectValue)
            row["rank"] = rank
            rows[index] = .object(row)
        }
        plan["layers"] = .array(rows)
        try workplace.write(JSONValue.object(plan).text(), "edited.json")
        _ = try workplace.convert("d.h5", "--plan", "edited.json")
        let tensors = try workplace.json(.convert, "inspect", "d.h5")["tensors"]?.arrayValue ?? []
        func shape(_ name: String) -> [Int]? {
            tensors.first { $0["name"]?.stringValue == name }?["shape"]?.arrayValue?.compactMap(\.intValue)
        }
        #expect(shape("model.layers.0.self_attn.q_proj.weight") == [30, 24])
        #expect(shape("model.layers.1.mlp.down_proj.cola_a") == [40, 3])
        _ = try workplace.perplexity("d.h5")
    }

    @Test("Refining on the calibration text brings the model closer to the dense one there, and so does anchoring")
    func refining() throws {
        func divergence(_ name: String, _ options: [String]) throws -> Double {
            let arguments =
                [
                    "dense-to-lowrank", "own.h5", name, "--text", "text.txt", "--sequence-length", "64", "--multiple",
                    "1",
                ]
                + ["--keep", "0.5", "--quiet"] + options
            let outcome = try workplace.run(.convert, arguments)
            try #require(outcome.status == 0, "\(outcome)")
            let (own, dense) = (
                try workplace.logits(of: name, "--text", "text.txt").floats,
                try workplace.logits(of: "own.h5", "--text", "text.txt").floats
            )
            return zip(own, dense).reduce(0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
        }
        let plain = try divergence("a.h5", [])
        let anchored = try divergence("b.h5", ["--anchor"])
        let refined = try divergence("c.h5", ["--anchor", "--refine", "8"])
        #expect(anchored < plain && refined < 0.98 * anchored, "\(plain) \(anchored) \(refined)")
    }

    @Test("Stored in half the bytes, what is reported is measured on what was stored")
    func halfPrecision() throws {
        let report = try workplace.convert("out.h5", "--keep", "0.6", "--dtype", "bf16", "--evaluate", "test.txt")
        let after = report["losses"]?.arrayValue?.first?["after"]?["perplexity"]?.doubleValue
        #expect(try after == workplace.perplexity("out.h5"))
    }

    @Test("Tied embeddings stay tied, and biases stay")
    func tied() throws {
        var model = TinyModel.dense.configured([("tie_word_embeddings", true)])
        model.tensors.removeAll { $0.name == "lm_head.weight" }
        try model.writeCheckpoint(workplace.file("own.h5"))
        _ = try workplace.convert("out.h5", "--rank", "5")
        let names = try workplace.json(.convert, "inspect", "out.h5")["tensors"]?.arrayValue?
            .compactMap { $0["name"]?.stringValue }
        #expect(names?.contains("lm_head.weight") == false)
        #expect(names?.count { $0.hasSuffix(".bias") } == 14)
        _ = try workplace.perplexity("out.h5")
    }

    // MARK: - Export

    @Test("One rank and as many heads of keys as of queries: the paper's layout holds the model, with the same logits")
    func exportsToThePapersLayout() throws {
        try TinyModel.ungrouped.writeCheckpoint(workplace.file("own.h5"))
        _ = try workplace.convert("out.h5", "--rank", "7")
        let expected = try workplace.logits(of: "out.h5", "--text", "test.txt")
        for layout in ["cola", "cola-m"] {
            try workplace.succeed(.convert, "export", "out.h5", layout, "--layout", layout, "--quiet")
            try expectEqual(workplace.logits(of: layout, "--text", "test.txt").data, expected.data)
            let configuration = try JSONValue(parsing: workplace.text("\(layout)/config.json"))
            for (key, value) in [("attention_bias", true), ("mlp_bias", true), ("only_lr_act", false)] {
                #expect(configuration[key]?.boolValue == value, "\(layout), \(key)")
            }
            #expect(configuration["rank"]?.intValue == 7 && configuration["hidden_act"]?.stringValue == "silu")
        }
    }

    @Test("What the paper's layout cannot hold is said: grouped queries, several ranks, dense layers")
    func exportsThatCannotBe() throws {
        _ = try workplace.convert("grouped.h5", "--rank", "5")
        try workplace.refuse(
            65, .convert, ["export", "grouped.h5", "hf", "--layout", "cola", "--quiet"],
            mentions: ["grouped.h5: ", "grouped-query attention"])
        try TinyModel.ungrouped.writeCheckpoint(workplace.file("own.h5"))
        _ = try workplace.convert("ranks.h5", "--keep", "0.5")
        try workplace.refuse(
            65, .convert, ["export", "ranks.h5", "hf", "--layout", "cola", "--quiet"], mentions: ["ranks.h5: "])
    }

    // MARK: - What cannot be used

    @Test("Plans of other models, of no model, and none at all")
    func badPlans() throws {
        let ranks = ["ranks", "own.h5", "--text", "text.txt", "--multiple", "1", "--keep", "0.6", "--quiet"]
        let outcome = try workplace.run(.analyze, ranks + ["--out", "plan.json"])
        try #require(outcome.status == 0, "\(outcome)")
        try TinyModel.dense.changing("model.norm.weight") { $0.values[3] += 0.5 }
            .writeCheckpoint(workplace.file("other.h5"))
        func refuse(_ model: String, _ options: [String], _ mentions: [String], code: Int32 = 65) throws {
            try workplace.refuse(
                code, .convert, ["dense-to-lowrank", model, "out.h5", "--text", "text.txt", "--quiet"] + options,
                mentions: mentions)
        }
        try refuse("other.h5", ["--plan", "plan.json"], ["plan.json: fingerprint: found ", "a plan is for one model"])
        try workplace.write(
            try workplace.text("plan.json").replacing(/"rank": \d+/, with: "\"rank\": 0", maxReplacements: 1),
            "zero.json")
        try refuse("own.h5", ["--plan", "zero.json"], ["zero.json: layers[", "rank of layer 0", "found 0"])
        try workplace.write("{}", "empty.json")
        try refuse("own.h5", ["--plan", "empty.json"], ["empty.json: format"])
        try refuse("own.h5", ["--plan", "gone.json"], ["gone.json: no such file"], code: 66)
        try refuse("own.h5", [], ["Say how to choose ranks"], code: 64)
        try refuse("own.h5", ["--plan", "plan.json", "--keep", "0.5"], ["Say how to choose ranks"], code: 64)
    }

    @Test("A CoLA model is not converted again")
    func again() throws {
        _ = try workplace.convert("out.h5", "--rank", "5")
        try workplace.refuse(
            65, .convert,
            ["dense-to-lowrank", "out.h5", "again.h5", "--rank", "4", "--text", "text.txt", "--quiet"],
            mentions: ["out.h5: 14 of its linear layers are low-rank already", "expected a dense model"])
    }

    @Test("Fewer tokens than features: a warning, and a model that works")
    func singularStatistics() throws {
        let outcome = try workplace.run(
            .convert, "dense-to-lowrank", "own.h5", "out.h5", "--keep", "0.6", "--text", "text.txt", "--max-tokens",
            "12", "--multiple", "1", "--anchor", "--quiet")
        #expect(outcome.status == 0 && outcome.errors.contains("warning: 12 calibration tokens"), "\(outcome)")
        #expect(try workplace.perplexity("out.h5").isFinite)
    }

    @Test("No room, and no text where one is needed")
    func noRoom() throws {
        try workplace.refuse(
            73, .convert,
            ["dense-to-lowrank", "own.h5", "text.txt/out.h5", "--rank", "5", "--text", "text.txt", "--quiet"],
            mentions: ["text.txt/out.h5: "])
        try workplace.refuse(
            64, .convert, ["dense-to-lowrank", "own.h5", "out.h5", "--rank", "5", "--quiet"],
            mentions: ["--activation silu needs the calibration text"])
        try workplace.refuse(
            65, .convert,
            ["dense-to-lowrank", "own.h5", "out.h5", "--rank", "5", "--activation", "identity", "--quiet"],
            mentions: ["no calibration"])
        try workplace.refuse(
            66, .convert,
            ["dense-to-lowrank", "own.h5", "out.h5", "--rank", "5", "--text", "text.txt", "--evaluate", "gone.txt"]
                + ["--quiet"], mentions: ["gone.txt: no such file"])
    }
}
