import Foundation
import JSON
import Testing

@testable import Checkpoints

@Suite("A BOS in front of texts")
struct BOSTests {
    private let workplace: Workplace
    /// The added token of the tiny tokenizer.
    private static let bos = TinyModel.pieces.count - 1
    private static let token = TinyModel.pieces[bos]
    /// What the tokenizer makes of text.txt.
    private let ids: [Int]

    /// With the dense model in the folder `model`, whose tokenizer's template puts the BOS in front.
    init() throws {
        workplace = try Workplace()
        try Self.model().writeFolder(workplace, "model")
        try workplace.write(TinyModel.text(420), "text.txt")
        try workplace.succeed(
            .convert, "tokenize", "text.txt", "--tokenizer", "model/tokenizer.json", "--out", "ids.u16", "--quiet")
        let bytes = try workplace.bytes("ids.u16")
        ids = stride(from: 0, to: bytes.count, by: 2).map { Int(bytes[$0]) | Int(bytes[$0 + 1]) << 8 }
        try tokens("with.npy", [[Self.bos] + ids])
        try tokens("without.npy", [ids])
    }

    private static func model(inSequence: Bool = false, hasTemplate: Bool = true) throws -> TinyModel {
        let special: JSONValue = ["SpecialToken": ["id": .string(token), "type_id": 0]]
        let ids: JSONValue = ["id": .string(token), "ids": [.integer(bos)], "tokens": [.string(token)]]
        let template: JSONValue = [
            "type": "TemplateProcessing", "single": [special, ["Sequence": ["id": "A", "type_id": 0]]], "pair": [],
            "special_tokens": .object(JSONObject([(token, ids)])),
        ]
        let byteLevel: JSONValue = ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false]
        var json = try #require(try JSONValue(parsing: TinyModel.tokenizerJSON).objectValue)
        if hasTemplate {
            json["post_processor"] =
                inSequence ? ["type": "Sequence", "processors": [byteLevel, template]] : template
        }
        var model = TinyModel.dense
        model.tokenizer = JSONValue.object(json).serialized()
        return model
    }

    private func tokens(_ name: String, _ rows: [[Int]]) throws {
        try workplace.write(
            NumpyArray.file("<u2", shape: [rows.count, rows[0].count], rows.flatMap { $0.map { UInt16($0) } }), name)
    }

    private func nats(_ model: String, _ arguments: String...) throws -> Double {
        let outcome = try workplace.run(.analyze, ["perplexity", model, "--json"] + arguments)
        try #require(outcome.status == 0, "\(outcome)")
        #expect(outcome.errors.contains("bos: "), "\(outcome)")
        return try #require(try JSONValue(parsing: outcome.output)["nats_per_token"]?.doubleValue)
    }

    // MARK: - Who puts one in front

    @Test(
        "The template says it, alone or in a sequence, in a folder, in HDF5 and after an export",
        arguments: [false, true])
    func template(inSequence: Bool) throws {
        let (yes, no) = (try nats("model", "--tokens", "with.npy"), try nats("model", "--tokens", "without.npy"))
        #expect(abs(yes - no) > 1e-4)
        try Self.model(inSequence: inSequence).writeFolder(workplace, "other")
        try workplace.succeed(.convert, "import", "other", "own.h5", "--quiet")
        try workplace.succeed(.convert, "export", "own.h5", "exported", "--quiet")
        for model in ["other", "own.h5", "exported"] {
            #expect(try nats(model, "--text", "text.txt") == yes, "\(model)")
            #expect(try nats(model, "--text", "text.txt", "--bos", "auto") == yes, "\(model)")
            #expect(try nats(model, "--text", "text.txt", "--bos", "always") == yes, "\(model)")
            #expect(try nats(model, "--text", "text.txt", "--bos", "never") == no, "\(model)")
        }
    }

    @Test("add_bos_token of tokenizer_config.json counts for more, and stays with the model", arguments: [false, true])
    func settings(addsBOS: Bool) throws {
        try Self.model(hasTemplate: !addsBOS).writeFolder(workplace, "other")
        let settings: JSONValue = ["add_bos_token": .bool(addsBOS), "bos_token": .string(Self.token)]
        try workplace.write(settings.text(), "other/tokenizer_config.json")
        try workplace.succeed(.convert, "import", "other", "own.h5", "--quiet")
        try workplace.succeed(.convert, "export", "own.h5", "exported", "--quiet")
        try workplace.succeed(
            .convert, "import", "model", "given.h5", "--tokenizer", "other/tokenizer.json", "--quiet")
        let expected = try nats("model", "--tokens", addsBOS ? "with.npy" : "without.npy")
        for model in ["other", "own.h5", "exported", "given.h5"] {
            #expect(try nats(model, "--text", "text.txt") == expected, "\(model)")
            #expect(
                try nats(model, "--text", "text.txt", "--bos", "always") == nats(model, "--tokens", "with.npy"),
                "\(model)")
        }
    }

    @Test("Without a template there is none, unless it is asked for and bos_token_id names it")
    func configuration() throws {
        var model = try Self.model(hasTemplate: false)
        try model.writeFolder(workplace, "plain")
        let no = try nats("plain", "--tokens", "without.npy")
        #expect(try nats("plain", "--text", "text.txt") == no)
        for input in [["--text", "text.txt"], ["--tokens", "without.npy"]] {
            try workplace.refuse(
                65, .analyze, ["perplexity", "plain", "--bos", "always", "--quiet"] + input,
                mentions: ["--bos always", "plain: ", "bos_token_id"])
        }
        model = model.configured([("bos_token_id", .integer(Self.bos))])
        try model.writeFolder(workplace, "named")
        let yes = try nats("named", "--tokens", "with.npy")
        #expect(try nats("named", "--text", "text.txt") == no)
        #expect(try nats("named", "--text", "text.txt", "--bos", "always") == yes)
        // Token files are taken as they are; one that is put in front is not put there twice.
        #expect(try nats("named", "--tokens", "without.npy") == no)
        #expect(try nats("named", "--tokens", "without.npy", "--bos", "always") == yes)
        #expect(try nats("named", "--tokens", "with.npy", "--bos", "always") == yes)
        #expect(try nats("named", "--tokens", "with.npy", "--bos", "never") == yes)
        try model.configured([("bos_token_id", 300)]).writeFolder(workplace, "beyond")
        try workplace.refuse(
            65, .analyze, ["perplexity", "beyond", "--text", "text.txt", "--bos", "always", "--quiet"],
            mentions: ["the BOS 300", "300"])
    }

    // MARK: - Where it stands

    @Test("Windows are cut from the text with its one BOS in front")
    func windows() throws {
        try workplace.write(([Self.bos] + ids).flatMap { littleEndian(UInt16($0)) }, "with.u16")
        for options in [["--window", "16", "--stride", "8"], ["--window", "32"], ["--max-tokens", "40"]] {
            func nats(_ input: [String]) throws -> JSONValue {
                let outcome = try workplace.run(
                    .analyze, ["perplexity", "model", "--json", "--quiet"] + input + options)
                try #require(outcome.status == 0, "\(outcome)")
                return try JSONValue(parsing: outcome.output)
            }
            let (text, stream) = (try nats(["--text", "text.txt"]), try nats(["--tokens", "with.u16"]))
            #expect(
                text["nats_per_token"] == stream["nats_per_token"] && text["tokens"] == stream["tokens"], "\(options)")
            #expect(text["bos"] == ["rule": "auto", "ids": [.integer(Self.bos)]])
            #expect(stream["bos"] == ["rule": "auto", "ids": []])
        }
    }

    /// Rows of 16 tokens as sequences of the text have them.
    private func rows(_ count: Int) -> [[Int]] {
        (0..<count).map { [Self.bos] + ids[$0 * 15..<($0 + 1) * 15] }
    }

    @Test("Spectra and rank plans have one in front of each sequence")
    func sequences() throws {
        try tokens("rows.npy", rows(9))
        let text = ["--text", "text.txt", "--sequence-length", "16", "--max-tokens", "144"]
        for (name, input) in [("a", text), ("b", ["--tokens", "rows.npy"])] {
            let spectrum = try workplace.run(.analyze, ["spectrum", "model", "--out", name] + input)
            #expect(spectrum.status == 0, "\(spectrum)")
            #expect(
                spectrum.errors.contains(
                    name == "a" ? "bos: \(Self.bos) in front of each sequence (--bos auto)" : "bos: none, token files"),
                "\(spectrum)")
            let plan = try workplace.run(
                .analyze,
                ["ranks", "model", "--keep", "0.5", "--multiple", "1", "--out", "\(name).json", "--quiet"] + input)
            #expect(plan.status == 0, "\(plan)")
        }
        #expect(try workplace.text("a/ranks.csv") == workplace.text("b/ranks.csv"))
        #expect(try workplace.table("a/ranks.csv").column("tokens").allSatisfy { $0 == "144" })
        let record = try JSONValue(parsing: workplace.text("a/run.json"))
        #expect(record["bos"] == ["rule": "auto", "ids": [.integer(Self.bos)]])
        let plans = try ["a.json", "b.json"].map { try JSONValue(parsing: workplace.text($0)) }
        #expect(plans[0]["layers"] == plans[1]["layers"])
        #expect(plans[0]["provenance"]?["bos"]?["ids"] == [.integer(Self.bos)])
        try workplace.refuse(
            65, .analyze,
            ["spectrum", "model", "--text", "text.txt", "--sequence-length", "1", "--out", "c", "--quiet"],
            mentions: ["--sequence-length 1: no room behind the BOS"])
    }

    @Test("A conversion calibrates, refines and measures with it")
    func conversion() throws {
        try tokens("rows.npy", rows(9))
        let common = ["--keep", "0.7", "--anchor", "--refine", "1", "--json", "--quiet"]
        var reports: [JSONValue] = []
        for (name, input) in [
            ("a", ["--text", "text.txt", "--sequence-length", "16", "--max-tokens", "144", "--evaluate", "text.txt"]),
            ("b", ["--tokens", "rows.npy", "--evaluate", "with.npy"]),
        ] {
            let outcome = try workplace.run(.convert, ["dense-to-lowrank", "model", "\(name).h5"] + common + input)
            try #require(outcome.status == 0, "\(outcome)")
            reports.append(try JSONValue(parsing: outcome.output))
        }
        #expect(reports[0]["plan"] == reports[1]["plan"])
        let (a, b) = (try Checkpoint.open(workplace.file("a.h5")), try Checkpoint.open(workplace.file("b.h5")))
        #expect(a.tensors == b.tensors)
        // The text's pieces are documents when they are learnt from, the file's rows one stream: all but that is the same.
        let record = reports[0]["provenance"] ?? reports[0]
        #expect(record["bos"]?["ids"] == [.integer(Self.bos)], "\(reports[0].text())")
        #expect(record["evaluation"]?["bos"]?["ids"] == [.integer(Self.bos)])
    }

    @Test("Logits and gradients are those of the text with it")
    func whole() throws {
        try tokens("with.npy", [[Self.bos] + ids])
        let text = try workplace.logits(of: "model", "--text", "text.txt")
        let stream = try workplace.logits(of: "model", "--tokens", "with.npy")
        #expect(text.shape == [1, ids.count + 1, TinyModel.vocabulary])
        let isSame = text.data == stream.data
        #expect(isSame && text.shape == stream.shape)
        func loss(_ option: String, _ input: String) throws -> JSONValue? {
            try workplace.json(
                .train, "gradients", "model", option, input, "--out", "g.h5", "--precision", "f32", "--quiet")["loss"]
        }
        #expect(try loss("--text", "text.txt") == loss("--tokens", "with.npy"))
    }

    @Test("tokenize adds it only when asked to")
    func tokenize() throws {
        func tokens(_ options: String...) throws -> [UInt16] {
            let outcome = try workplace.run(
                .convert,
                ["tokenize", "text.txt", "text.txt", "--tokenizer", "model", "--out", "t.npy", "--quiet"] + options)
            try #require(outcome.status == 0, "\(outcome)")
            return try NumpyArray(workplace.bytes("t.npy")).shorts
        }
        let (plain, with) = (ids.map { UInt16($0) }, ([Self.bos] + ids).map { UInt16($0) })
        #expect(try tokens() == plain + plain)
        #expect(try tokens("--bos", "auto") == with + with)
        #expect(try tokens("--bos", "always") == with + with)
        #expect(try tokens("--special-tokens") == with + with)
        #expect(try tokens("--special-tokens", "--bos", "never") == plain + plain)
    }

    @Test("Texts to train on have it, and a run that is resumed too")
    func training() throws {
        try workplace.write(([Self.bos] + ids).flatMap { littleEndian(UInt16($0)) }, "with.u16")
        for packing in ["packed", "documents"] {
            let options: KeyValuePairs<String, String?> = [
                "tokens": nil, "text": "text.txt", "packing": packing,
                "document-end": packing == "packed" ? nil : "299",
                "out": "text-\(packing)", "evaluation-fraction": "0", "save-every": "5",
            ]
            try workplace.train("continue model", options)
            try workplace.train(
                "continue model",
                [
                    "tokens": "with.u16", "packing": packing, "document-end": packing == "packed" ? nil : "299",
                    "out": "ids-\(packing)", "evaluation-fraction": "0",
                ])
            let losses = try ["text", "ids"].map { try workplace.metrics(of: "\($0)-\(packing)").column("loss") }
            #expect(losses[0] == losses[1], "\(packing)")
            let whole = try workplace.run(at: 8, of: "text-\(packing)")
            try FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(8, of: "text-\(packing)")))
            try workplace.resume("text-\(packing)")
            expectSame(try workplace.run(at: 8, of: "text-\(packing)"), whole)
        }
    }

    @Test("A rule for a text that is not there is refused")
    func unused() throws {
        try workplace.refuse(
            64, .analyze,
            [
                "ranks", "model", "--keep", "0.5", "--weighting", "weight", "--bos", "never", "--out", "p.json",
                "--quiet",
            ],
            mentions: ["--bos never"])
    }
}
