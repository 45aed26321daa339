import CommandSupport
import Foundation
import JSON
import TestSupport
import Testing
import Transformer

@testable import Checkpoints

@Suite("cola-train pretrain")
struct PretrainTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace.forTraining() }

    @Test("Ranks are written where they are asked for, in the columns of ranks.csv, and followed on by resume")
    func ranks() throws {
        let options: KeyValuePairs<String, String?> = [
            "model": "cola", "spectrum-every": "3", "spectrum-modules": "q,down", "spectrum-layers": "1",
            "spectrum-sides": "output,bottleneck", "spectrum-alpha": "0.95", "save-every": "4", "keep": "9",
        ]
        try workplace.train("pretrain", options)
        let table = try Metrics(try workplace.text("run/rank-history.csv"))
        #expect(try table.column("step") == [0, 3, 6, 8].flatMap { Array(repeating: "\($0)", count: 4) })
        #expect(try table.column("tokens_seen").last == "512")
        #expect(Set(try table.column("layer")) == ["1"])
        #expect(
            table.rows.prefix(4).map { "\($0[3]) \($0[4])" } == [
                "self_attn.q_proj output", "self_attn.q_proj bottleneck", "mlp.down_proj output",
                "mlp.down_proj bottleneck",
            ])
        #expect(try table.numbers("rank_0.95").allSatisfy { (1...6).contains($0) })
        let whole = try workplace.text("run/rank-history.csv")
        try FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(8)))
        try workplace.resume()
        try expectEqual(workplace.text("run/rank-history.csv"), whole)

        // `cola-analyze spectrum` says the same columns.
        try workplace.succeed(
            .analyze, "spectrum", Workplace.checkpoint(8), "--tokens", "tokens.u16", "--alpha", "0.95", "--out", "s",
            "--quiet")
        let ranks = try workplace.text("s/ranks.csv").split(whereSeparator: \.isNewline)[0].split(separator: ",")
        #expect(table.header.dropFirst(2).elementsEqual(ranks))
    }

    @Test(
        "A run learns, and leaves its newest checkpoints and its metrics", arguments: [("dense", 0.01), ("cola", 0.03)])
    func run(_ model: String, _ rate: Double) throws {
        let result = try workplace.train(
            "pretrain",
            [
                "model": model, "steps": "25", "save-every": "10", "evaluate-every": "5", "learning-rate": "\(rate)",
            ])
        #expect(
            workplace.contents(of: "run") == ["metrics.csv", "metrics.jsonl", "step-00000020.h5", "step-00000025.h5"])
        #expect(result["checkpoint"]?.stringValue == "run/step-00000025.h5")
        #expect(result["steps"]?.intValue == 25 && result["tokens"]?.intValue == 25 * 64)

        let metrics = try workplace.metrics()
        #expect(try metrics.column("step") == (1...25).map { "\($0)" })
        #expect(try metrics.column("tokens") == (1...25).map { "\($0 * 64)" })
        let losses = try metrics.numbers("loss")
        // A model that knows nothing says ln 300; one that knows which ids there are, ln 97; one that knows all, ln 3.
        #expect(abs(losses[0] - log(300)) < 0.1)
        let lastLosses = losses[20...].reduce(0, +) / 5
        #expect(lastLosses < log(97) - 0.05)
        let evaluations = try metrics.column("evaluation_loss")
        #expect(evaluations.indices.filter { evaluations[$0] != "" } == [4, 9, 14, 19, 24])
        let evaluated = evaluations.compactMap { Double($0) }
        #expect(evaluated.last ?? .nan < evaluated[0] - 0.3)
        #expect(result["evaluation_loss"]?.doubleValue == evaluated.last)
        #expect(result["loss"]?.doubleValue == losses.last)
        // Two steps of warm-up, then half a cosine down to a tenth.
        let rates = try metrics.numbers("learning_rate")
        for (found, expected) in [
            (rates[0], 0.5), (rates[1], 1), (rates[13], 0.1 + 0.45 * (1 + cos(.pi * 12 / 23))), (rates[24], 0.1),
        ] { #expect(abs(found / rate - expected) < 1e-12) }
        #expect(try metrics.numbers("gradient_norm").allSatisfy { $0 > 0 && $0 < 100 })
        #expect(try metrics.numbers("tokens_per_second").allSatisfy { $0 > 0 && $0.isFinite })

        let facts = try workplace.json(.convert, "inspect", "run/step-00000025.h5")
        #expect(facts["architecture"]?.stringValue?.hasSuffix(", 2 layers") == true)
        #expect(
            facts["kind"]?.stringValue
                == (model == "dense" ? "dense, 14 linear layers" : "CoLA, 14 low-rank layers, ranks 6"))
        #expect(facts["provenance"]?["seed"]?.stringValue == "3")
        let digest = try Provenance.sha256(workplace.file("tokens.u16"))
        #expect(facts["provenance"]?["data"]?["data_sha256"]?[0]?.stringValue == digest)
        let perplexity = try workplace.json(
            .analyze, "perplexity", "run/step-00000025.h5", "--tokens", "tokens.u16", "--window", "17", "--stride",
            "16", "--quiet")
        // All windows: those trained on and those held out.
        let nats = try #require(perplexity["nats_per_token"]?.doubleValue)
        #expect(perplexity["tokens"]?.intValue == 75 * 16 && nats < log(97) - 0.05)
    }

    @Test("metrics.jsonl says what metrics.csv says")
    func metricsFiles() throws {
        try workplace.train("pretrain", ["evaluate-every": "3"])
        let metrics = try workplace.metrics()
        let lines = try workplace.text("run/metrics.jsonl").split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count == 9 && lines.last == "" && metrics.rows.count == 8)
        for (line, row) in zip(lines, metrics.rows) {
            let members = try #require(try JSONValue(parsing: String(line)).objectValue?.members)
            #expect(members.map(\.key) == metrics.header.map(String.init))
            for (member, field) in zip(members, row) {
                #expect(member.value.isNull ? field == "" : member.value.doubleValue == Double(field), "\(line)")
            }
        }
    }

    @Test("A text with a tokenizer, and the shapes of a preset; the checkpoint reads texts by itself")
    func text() throws {
        try workplace.write(TinyModel.text(400, seed: 9), "other.txt")
        try workplace.train(
            "pretrain",
            [
                "config": nil, "preset": "tiny", "tokens": nil, "text": "text.txt other.txt", "steps": "2",
                "tokenizer": "tokenizer.json", "model": "cola",
            ])
        let path = Workplace.checkpoint(2)
        let facts = try workplace.json(.convert, "inspect", path)
        #expect(facts["kind"]?.stringValue == "CoLA, 28 low-rank layers, ranks 40")
        #expect(facts["config"]?["vocab_size"]?.intValue == TinyModel.pieces.count)
        #expect(facts["config"]?["hidden_size"]?.intValue == 160)
        #expect(facts["config"]?["cola_activation"]?.stringValue == "both")
        #expect(facts["tokenizer"]?.stringValue?.hasPrefix("tokenizer.json, ") == true)
        let files = facts["provenance"]?["data"]?["data_files"]?.arrayValue?.map(\.stringValue)
        #expect(files == ["text.txt", "other.txt"])
        let perplexity = try workplace.json(.analyze, "perplexity", path, "--text", "text.txt", "--quiet")
        #expect(try #require(perplexity["nats_per_token"]?.doubleValue) < 6)
    }

    @Test("A text trains as its tokens do")
    func textAndTokens() throws {
        try TinyModel.dense.writeCheckpoint(workplace.file("own.h5"))
        try workplace.succeed(
            .convert, "tokenize", "text.txt", "--tokenizer", "own.h5", "--out", "text.npy", "--quiet")
        try workplace.train("pretrain", ["out": "a", "tokens": nil, "text": "text.txt", "tokenizer": "tokenizer.json"])
        try workplace.train("pretrain", ["out": "b", "tokens": "text.npy", "tokenizer": "own.h5"])
        let (a, b) = (try workplace.run(at: 8, of: "a"), try workplace.run(at: 8, of: "b"))
        #expect(a.differences(from: b) == [] && a.history == b.history && a.tokenizer == b.tokenizer)
        #expect(a.tokenizer == .tokenizerJSON(TinyModel.tokenizerJSON))
    }

    @Test("The same seed gives the same bits, another one other weights in another order")
    func seeds() throws {
        for (name, seed) in [("a", "3"), ("b", "3"), ("c", "4")] {
            try workplace.train("pretrain", ["out": name, "model": "cola", "seed": seed])
        }
        let runs = try ["a", "b", "c"].map { try workplace.run(at: 8, of: $0) }
        expectSame(runs[1], runs[0])
        #expect(runs[0].tensors.count == 3 * TinyModel.cola.tensors.count)
        #expect(Set(runs[2].differences(from: runs[0])) == Set(runs[0].tensors.keys))
        #expect(runs[0].seed == 3 && runs[2].seed == 4)
    }

    @Test("Groups, decay, β, clipping and schedule all change what is learnt")
    func options() throws {
        try workplace.train("pretrain", ["out": "plain"])
        let plain = try workplace.run(at: 8, of: "plain")
        let changes: [(String, String)] = [
            ("weight-decay", "0.5"), ("beta1", "0.8"), ("beta2", "0.9"), ("clip", "0.1"), ("schedule", "linear"),
            ("floor", "0.5"), ("warmup", "5"),
        ]
        for (name, value) in changes {
            try workplace.train("pretrain", ["out": name, name: value])
            #expect(try workplace.run(at: 8, of: name).differences(from: plain) != [], "\(name)")
        }
        try workplace.train("pretrain", ["out": "group", "group": "model.layers.0.*=0 --group *embed*=1,0.5"])
        // Parameters whose rate is zero keep their first weights: nothing but them is as after the first step.
        let frozen = try workplace.run(at: 8, of: "group")
        try workplace.train("pretrain", ["out": "first", "steps": "1", "learning-rate": "1e-30"])
        let first = try workplace.run(at: 1, of: "first")
        let weights = plain.tensors.keys.filter { !$0.contains(" of ") }
        let kept = weights.filter { frozen.tensors[$0] == first.tensors[$0] }
        #expect(Set(kept) == Set(weights.filter { $0.hasPrefix("model.layers.0.") }))
    }
}

@Suite("cola-train: memory modes, precision and accumulation")
struct TrainingModeTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace.forTraining() }

    /// The loss column of a run of the CoLA model.
    private func losses(_ out: String, _ changes: [(String, String)] = []) throws -> [Double] {
        let arguments = workplace.line("pretrain", ["out": out, "model": "cola", "evaluate-every": "4"])
        var line = arguments
        for (name, value) in changes {
            if let place = line.firstIndex(of: "--\(name)") {
                line[place + 1] = value
            } else {
                line += ["--\(name)", value]
            }
        }
        let outcome = try workplace.run(.train, line + ["--quiet"])
        try #require(outcome.status == 0, "\(outcome)")
        let metrics = try workplace.metrics(of: out)
        return try metrics.numbers("loss") + metrics.column("evaluation_loss").compactMap { Double($0) }
    }

    @Test("What is kept and what is computed again changes no bit in f32, and bf16 is near")
    func memory() throws {
        let plain = try losses("plain")
        let contents = try workplace.run(at: 8, of: "plain")
        for mode in ["checkpoint", "cola-m"] {
            #expect(try losses(mode, [("memory", mode)]) == plain)
            let other = try workplace.run(at: 8, of: mode)
            #expect(other.differences(from: contents) == [] && other.history == contents.history)
        }
        for mode in ["plain", "checkpoint", "cola-m"] {
            let rounded = try losses("bf16-\(mode)", [("memory", mode), ("precision", "bf16")])
            #expect(rounded != plain && rounded.count == plain.count)
            for (a, b) in zip(rounded, plain) { #expect(abs(a / b - 1) < 1e-2, "\(mode): \(a) is not near \(b)") }
        }
    }

    @Test("Two batches of four make the step of one batch of eight")
    func accumulation() throws {
        let one = try losses("one", [("batch", "8")])
        let two = try losses("two", [("accumulate", "2")])
        let half = try losses("half")
        #expect(one.count == two.count && two != half)
        // The same sums in another order, through eight steps.
        for (a, b) in zip(one, two) { #expect(abs(a / b - 1) < 1e-5, "\(a) is not near \(b)") }
        #expect(abs(one[0] / two[0] - 1) < 1e-6)
        #expect(try workplace.metrics(of: "two").column("tokens") == (1...8).map { "\(128 * $0)" })
    }
}

@Suite("cola-train continue")
struct ContinueTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace.forTraining() }

    @Test(
        "The first loss is the checkpoint's, its source is recorded",
        arguments: ["own.h5", "cola.h5", "hf", "model.gguf", "foreign.h5"])
    func sources(_ source: String) throws {
        let model = source == "cola.h5" ? TinyModel.cola : .dense
        switch source {
        case "hf": try model.writeFolder(workplace, "hf")
        case "model.gguf": try workplace.write(model.gguf, source)
        case "foreign.h5":
            let path = try #require(Bundle.module.path(forResource: "Fixtures/foreign.h5", ofType: nil))
            try FileManager.default.copyItem(atPath: path, toPath: workplace.file(source))
        default: try model.writeCheckpoint(workplace.file(source))
        }
        // The vocabulary of the foreign file is 0 to 4.
        let ids = learnableIDs(9 * 17, below: 5).map { UInt16($0) }
        try workplace.write(NumpyArray.file("<u2", shape: [9, 17], ids), "rows.npy")
        let before = try workplace.json(.analyze, "perplexity", source, "--tokens", "rows.npy", "--quiet")
        try workplace.train(
            "continue \(source)",
            [
                "tokens": "rows.npy", "packing": "documents", "batch": "9", "evaluation-fraction": "0",
                "warmup": "0", "steps": "24",
            ])
        let losses = try workplace.metrics().numbers("loss")
        let expected = try #require(before["nats_per_token"]?.doubleValue)
        #expect(abs(losses[0] / expected - 1) < 1e-6)
        #expect(losses[23] < losses[0] - 0.1)
        #expect(try workplace.metrics().column("evaluation_loss").allSatisfy { $0 == "" })

        let facts = try workplace.json(.convert, "inspect", Workplace.checkpoint(24))
        let names = try openModel(workplace.file(source)).tensors.map(\.name)
        #expect(Set(facts["tensors"]?.arrayValue?.compactMap { $0["name"]?.stringValue } ?? []) == Set(names))
        let record = facts["provenance"]?["source"]
        #expect(record?["path"]?.stringValue == source)
        let file = source == "hf" ? "hf/model.safetensors" : source
        let digest = try Provenance.sha256(workplace.file(file))
        let entries = record?["files"]?.arrayValue ?? (record.map { [$0] } ?? [])
        #expect(entries.contains { $0["sha256"]?.stringValue == digest && $0["path"]?.stringValue == file })
        let after = try workplace.json(
            .analyze, "perplexity", Workplace.checkpoint(24), "--tokens", "rows.npy", "--quiet")
        #expect(try #require(after["nats_per_token"]?.doubleValue) < losses[23] + 0.05)
    }

    @Test("Weights without a configuration are continued with --config; a run's checkpoint starts anew")
    func weightsAlone() throws {
        try workplace.write(TinyModel.dense.safetensors(), "weights.safetensors")
        try FileManager.default.moveItem(atPath: workplace.file("config.json"), toPath: workplace.file("shapes.json"))
        let changes: KeyValuePairs<String, String?> = ["config": "shapes.json", "save-every": "4", "out": "first"]
        try workplace.train("continue weights.safetensors", changes)
        try workplace.train("continue first/step-00000004.h5", ["out": "second", "steps": "2"])
        let (first, second) = (try workplace.run(at: 8, of: "first"), try workplace.run(at: 2, of: "second"))
        #expect(first.counters["optimizer_steps"] == 8 && second.counters["optimizer_steps"] == 2)
        #expect(second.counters["step"] == 2 && second.history.count == 2)
        let facts = try workplace.json(.convert, "inspect", Workplace.checkpoint(2, of: "second"))
        // What the source says of itself stays known.
        let origin = facts["provenance"]?["source_provenance"]?["source"]?["path"]?.stringValue
        #expect(origin == "weights.safetensors")
    }
}
