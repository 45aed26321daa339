import Foundation
import JSON
import TestSupport
import Testing

@testable import Checkpoints

@Suite("Families: learned positions")
struct PositionTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace(families: ["gpt2"]) }

    private static let limit = "expected at most 32: the model has learned that many positions"

    @Test(
        "Sequences that are longer than GPT-2 has positions are one error, whatever works on them",
        arguments: [
            (
                Tool.analyze, ["spectrum", "gpt2", "--out", "s", "--sequence-length", "33"],
                "tokens.u16: sequences of 33 tokens, "
            ),
            (.analyze, ["logits", "gpt2", "--out", "l.npy"], "a sequence of 400 tokens, "),
            (.analyze, ["perplexity", "gpt2", "--window", "33"], "tokens.u16: sequences of 33 tokens, "),
            (.train, ["gradients", "gpt2", "--out", "g.h5"], "a sequence of 400 tokens, "),
            (
                .train, ["gradients", "gpt2", "--out", "g.h5", "--sequence-length", "33"],
                "tokens.u16: sequences of 33 tokens, "
            ),
            (
                .train, ["pretrain", "--config", "gpt2/config.json", "--out", "run", "--sequence-length", "33"],
                "--sequence-length 33: "
            ),
            (
                .train, ["continue", "gpt2", "--steps", "1", "--out", "run", "--sequence-length", "33"],
                "--sequence-length 33: "
            ),
            (
                .convert, ["dense-to-lowrank", "gpt2", "low.h5", "--keep", "0.6", "--sequence-length", "33"],
                "tokens.u16: sequences of 33 tokens, "
            ),
        ] as [(Tool, [String], String)])
    func tooLong(_ tool: Tool, _ arguments: [String], _ begins: String) throws {
        try workplace.refuse(
            65, tool, arguments + ["--tokens", "tokens.u16", "--quiet"], mentions: [begins + Self.limit])
    }

    @Test("Where nothing else is asked for, sequences are as long as there are positions, or 512 tokens")
    func usualLength() throws {
        func sequences(_ options: String...) throws -> Int? {
            let arguments = ["spectrum", "gpt2", "--tokens", "tokens.u16", "--out", "s", "--modules", "q", "--quiet"]
            let outcome = try workplace.run(.analyze, arguments + options)
            try #require(outcome.status == 0, "\(outcome)")
            return try JSONValue(parsing: workplace.text("s/run.json"))["sequences"]?.intValue
        }
        #expect(try sequences() == 13)
        #expect(try sequences("--sequence-length", "32") == 13)
        #expect(try sequences("--sequence-length", "31") == 13 && sequences("--sequence-length", "30") == 14)
        // The first token of each window is not predicted.
        let text = try workplace.json(.analyze, "perplexity", "gpt2", "--tokens", "tokens.u16", "--quiet")
        #expect(text["tokens"]?.intValue == 400 - 13)
        try workplace.succeed(
            .convert, "dense-to-lowrank", "gpt2", "low.h5", "--tokens", "tokens.u16", "--keep", "0.6", "--multiple",
            "1", "--quiet")
        let report = try JSONValue(parsing: workplace.text("low.report.json"))
        #expect(report["calibration"]?["sequence_length"]?.intValue == 32)

        // A model of the same family with more positions than 512.
        try workplace.configure("gpt2", [("n_positions", 600)])
        let long = learnableIDs(1025, below: FamilyModel.vocabulary).flatMap { littleEndian(UInt16($0)) }
        try workplace.write(long, "tokens.u16")
        try workplace.succeed(
            .train, "pretrain", "--config", "gpt2/config.json", "--model", "dense", "--tokens", "tokens.u16", "--out",
            "run", "--steps", "1", "--sequence-length", "16", "--batch", "1", "--accumulate", "1", "--quiet")
        let far = try workplace.json(
            .analyze, "perplexity", Workplace.checkpoint(1), "--tokens", "tokens.u16", "--quiet")
        #expect(far["tokens"]?.intValue == 1025 - 3)
    }

    @Test("A module that a family does not have is one error that lists those it has")
    func modules() throws {
        for modules in ["gate", "q,mlp.gate_proj"] {
            let name = modules.split(separator: ",").last ?? ""
            try workplace.refuse(
                65, .analyze,
                ["spectrum", "gpt2", "--tokens", "tokens.u16", "--out", "s", "--modules", modules, "--quiet"],
                mentions: [
                    "--modules: '\(name)' is none of q, k, v, o, up, down, residual, the modules of this model"
                ])
        }
    }
}

@Suite("Families: training and conversion")
struct FamilyTrainingTests {
    /// A model, and where its configuration has the text model.
    struct Case: Sendable, CustomTestStringConvertible {
        let model: String
        let type: String
        var textKey: String?
        var testDescription: String { model }
    }

    static let cases = [
        Case(model: "gpt2", type: "gpt2"), Case(model: "mistral-window", type: "mistral"),
        Case(model: "qwen3", type: "qwen3"), Case(model: "gemma3", type: "gemma3_text"),
        Case(model: "gemma3-nested", type: "gemma3", textKey: "text_config"),
    ]

    private static let options: [String] = [
        "--tokens", "tokens.u16", "--out", "run", "--sequence-length", "16", "--batch", "4", "--accumulate", "1",
        "--precision", "f32", "--evaluation-fraction", "0.1", "--seed", "3", "--save-every", "15", "--keep", "9",
        "--quiet",
    ]

    private static func train(_ workplace: Workplace, _ arguments: String...) throws {
        let outcome = try workplace.run(.train, arguments + options)
        try #require(outcome.status == 0 && !outcome.isKilled, "\(outcome)")
        #expect(outcome.errors == "")
    }

    /// Expects that a run of thirty steps in `run` has learnt – its batches are not alike, so that one step says little –, and
    /// that resuming it from its middle comes to the same bits.
    private static func expectLearning(_ workplace: Workplace) throws {
        let losses = try workplace.metrics().numbers("loss")
        let (first, last) = (losses.prefix(5).reduce(0, +), losses.suffix(5).reduce(0, +))
        #expect(losses.count == 30 && last < 0.95 * first, "\(losses)")
        let whole = try workplace.run(at: 30)
        try FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(30)))
        try workplace.resume()
        expectSame(try workplace.run(at: 30), whole)
    }

    @Test("From nothing, dense", arguments: cases)
    func dense(_ family: Case) throws {
        let workplace = try Workplace(families: [family.model])
        let config = "\(family.model)/config.json"
        try Self.train(
            workplace, "pretrain", "--config", config, "--model", "dense", "--steps", "30", "--learning-rate", "0.01")
        let facts = try workplace.json(.convert, "inspect", Workplace.checkpoint(30))
        #expect(facts["supported"] == true && facts["missing"] == [])
        #expect(facts["kind"]?.stringValue?.hasPrefix("dense, ") == true)
        #expect(try facts["config"] == JSONValue(parsing: workplace.text(config)))
        try Self.expectLearning(workplace)
    }

    @Test("From nothing, with bottlenecks: the configuration stays the family's", arguments: cases)
    func cola(_ family: Case) throws {
        let workplace = try Workplace(families: [family.model])
        let config = "\(family.model)/config.json"
        try Self.train(
            workplace, "pretrain", "--config", config, "--model", "cola", "--rank", "3", "--activation", "both",
            "--steps", "30", "--learning-rate", "0.01")
        let facts = try workplace.json(.convert, "inspect", Workplace.checkpoint(30))
        #expect(facts["supported"] == true && facts["missing"] == [])
        let count = try #require(facts["linear_layers"]?.arrayValue?.count)
        #expect(facts["kind"] == .string("CoLA, \(count) low-rank layers, ranks 3"))
        // Nothing but the bottlenecks is told besides what was there.
        var expected = try #require(JSONValue(parsing: workplace.text(config)).objectValue)
        #expect(expected["model_type"] == .string(family.type))
        var text = try #require(family.textKey.map { expected[$0]?.objectValue } ?? expected)
        text["rank"] = 3
        text["cola_activation"] = "both"
        if let key = family.textKey { expected[key] = .object(text) } else { expected = text }
        #expect(facts["config"] == .object(expected))
        try Self.expectLearning(workplace)
    }

    @Test("On from a model of the family's own files", arguments: cases)
    func continues(_ family: Case) throws {
        let workplace = try Workplace(families: [family.model])
        try Self.train(workplace, "continue", family.model, "--steps", "30", "--learning-rate", "0.01")
        #expect(try workplace.configuration(Workplace.checkpoint(30))["model_type"] == .string(family.type))
        try Self.expectLearning(workplace)
        // What was trained goes out under the family's names again.
        try workplace.succeed(.convert, "export", Workplace.checkpoint(30), "out", "--quiet")
        let names = try workplace.safetensors("\(family.model)/model.safetensors").keys
        #expect(try workplace.safetensors("out/model.safetensors").keys.filter { !names.contains($0) } == [])
    }

    @Test(
        "From dense to low-rank, healed with the dense model as teacher",
        arguments: cases.filter { ["gpt2", "gemma3", "gemma3-nested"].contains($0.model) })
    func converts(_ family: Case) throws {
        let workplace = try Workplace(families: [family.model])
        let model = family.model
        let report = try workplace.json(
            .convert, "dense-to-lowrank", model, "low.h5", "--tokens", "tokens.u16", "--sequence-length", "16",
            "--keep",
            "0.6", "--multiple", "1", "--evaluate", "tokens.u16", "--quiet")
        let facts = try workplace.json(.convert, "inspect", "low.h5")
        #expect(facts["supported"] == true && facts["missing"] == [])
        #expect(facts["config"]?["model_type"] == .string(family.type))
        #expect(try workplace.configuration("low.h5", inside: family.textKey)["cola_converted"] == true)
        let ranks = try #require(facts["linear_layers"]?.arrayValue).map { $0["rank"]?.intValue }
        #expect(ranks.contains { $0 != nil })
        // What the report says of the file is what the file gives.
        let losses = try #require(report["losses"]?.arrayValue?.first)
        for (key, path) in [("before", model), ("after", "low.h5")] {
            let text = try workplace.json(.analyze, "perplexity", path, "--tokens", "tokens.u16", "--quiet")
            #expect(losses[key]?["nats_per_token"] == text["nats_per_token"], "\(losses)")
        }

        try Self.train(
            workplace, "continue", "low.h5", "--teacher", model, "--teacher-share", "1", "--steps", "30",
            "--learning-rate", "0.001")
        let healed = try workplace.json(.convert, "inspect", Workplace.checkpoint(30))
        #expect(healed["supported"] == true && healed["config"] == facts["config"])
        #expect(healed["linear_layers"] == facts["linear_layers"])
        try Self.expectLearning(workplace)

        // No library but this one reads it; it goes out under the common names, and computes the same.
        try workplace.succeed(.convert, "export", "low.h5", "out", "--quiet")
        let tokens = Array(try workplace.bytes("tokens.u16").prefix(2 * 31))
        try workplace.write(tokens, "few.u16")
        expectEqual(
            try workplace.logits(of: "out", "--tokens", "few.u16").data,
            try workplace.logits(of: "low.h5", "--tokens", "few.u16").data)
    }
}
