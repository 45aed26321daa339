import Foundation
import JSON
import Testing

@testable import Checkpoints

@Suite("Where documents end")
struct DocumentEndTests {
    private let workplace: Workplace
    private static let documents: [[Int]] = {
        let ids = learnableIDs(20 * 9, below: 80).map { $0 + 10 }
        return (0..<20).map { Array(ids[$0 * 9..<($0 + 1) * 9]) }
    }()

    /// With documents that end in 2 in docs.u16, ones that end in 2 and 3 in turn in mixed.u16, and as rows in rows.npy.
    init() throws {
        workplace = try Workplace()
        try TinyModel.dense.writeCheckpoint(workplace.file("own.h5"))
        func write(_ name: String, _ ends: [Int]) throws {
            let ids = Self.documents.enumerated().flatMap { $1 + [ends[$0 % ends.count]] }
            try workplace.write(ids.flatMap { littleEndian(UInt16($0)) }, name)
        }
        try write("docs.u16", [2])
        try write("mixed.u16", [2, 3])
        let rows = Self.documents.flatMap { $0.map { UInt16($0) } }
        try workplace.write(NumpyArray.file("<u2", shape: [20, 9], rows), "rows.npy")
    }

    /// Losses of two steps over all documents, in one batch each.
    private func losses(_ model: String, _ tokens: String, _ more: String...) throws -> [Substring] {
        let out = UUID().uuidString
        let outcome = try workplace.run(.train, arguments(model, tokens, out) + more)
        try #require(outcome.status == 0, "\(outcome)")
        return try workplace.metrics(of: out).column("loss")
    }

    private func arguments(_ model: String, _ tokens: String, _ out: String) -> [String] {
        [
            "continue", model, "--tokens", tokens, "--packing", "documents", "--sequence-length", "64", "--batch", "20",
            "--steps", "2", "--warmup", "0", "--precision", "f32", "--evaluation-fraction", "0", "--out", out,
            "--quiet",
        ]
    }

    @Test("In eos_token_id of the configuration, a number or a list, and in what --document-end says")
    func configuration() throws {
        let expected = try losses("own.h5", "rows.npy")
        for (name, value, tokens) in [
            ("number.h5", 2, "docs.u16"), ("list.h5", [7, 2], "docs.u16"), ("both.h5", [3, 2], "mixed.u16"),
        ] as [(String, JSONValue, String)] {
            try TinyModel.dense.configured([("eos_token_id", value)]).writeCheckpoint(workplace.file(name))
            #expect(try losses(name, tokens) == expected, "\(name)")
        }
        #expect(try losses("own.h5", "docs.u16", "--document-end", "2") == expected)
        #expect(try losses("own.h5", "mixed.u16", "--document-end", "2", "3") == expected)
        #expect(try losses("own.h5", "mixed.u16", "--document-end", "3,2") == expected)
        // What is given stands in for what is known.
        #expect(try losses("number.h5", "mixed.u16", "--document-end", "2,3") == expected)
        #expect(try losses("both.h5", "docs.u16", "--document-end", "3", "--pad", "none") != expected)
    }

    @Test("In the tokenizer's end token and the configuration's, each where the other is not")
    func tokenizer() throws {
        let expected = try losses("own.h5", "rows.npy")
        var root = try #require(try JSONValue(parsing: TinyModel.tokenizerJSON).objectValue)
        var vocabulary = try #require(root["model"]?["vocab"]?.objectValue)
        // The byte of the id 2 moves, so that the end token can have it.
        let byte = try #require(vocabulary.members.first { $0.value == 2 }?.key)
        vocabulary[byte] = 270
        root["added_tokens"] = [["id": 2, "content": "<|im_end|>", "special": true, "normalized": false]]
        var model = try #require(root["model"]?.objectValue)
        model["vocab"] = .object(vocabulary)
        root["model"] = .object(model)
        var chat = TinyModel.dense
        chat.tokenizer = JSONValue.object(root).serialized()
        try chat.writeFolder(workplace, "chat")
        try workplace.write(#"{"eos_token": {"content": "<|im_end|>"}}"#, "chat/tokenizer_config.json")
        try workplace.succeed(.convert, "import", "chat", "chat.h5", "--quiet")
        for model in ["chat", "chat.h5"] { #expect(try losses(model, "docs.u16") == expected, "\(model)") }
        try chat.configured([("eos_token_id", 3)]).writeFolder(workplace, "two")
        try workplace.write(#"{"eos_token": "<|im_end|>"}"#, "two/tokenizer_config.json")
        #expect(try losses("two", "mixed.u16") == expected)
    }

    @Test("Without any, documents are refused by name; rows and windows are not")
    func unknown() throws {
        try workplace.write(TinyModel.text(600), "text.txt")
        try workplace.refuse(
            65, .train, arguments("own.h5", "docs.u16", "run"),
            mentions: ["docs.u16", "--document-end", "eos_token_id"])
        var text = arguments("own.h5", "docs.u16", "run")
        text.replaceSubrange(2...3, with: ["--text", "text.txt"])
        try workplace.refuse(65, .train, text, mentions: ["text.txt", "--document-end", "eos_token_id"])
        _ = try losses("own.h5", "rows.npy")
        var packed = arguments("own.h5", "docs.u16", "run")
        packed[5] = "packed"
        #expect(try workplace.run(.train, packed).status == 0)
        try workplace.refuse(
            64, .train, arguments("own.h5", "docs.u16", "other") + ["--packing", "packed", "--document-end", "2"],
            mentions: ["--document-end"])
        try workplace.refuse(
            65, .train, arguments("own.h5", "docs.u16", "other") + ["--document-end", "300"],
            mentions: ["--document-end 300", "300"])
        try TinyModel.dense.configured([("eos_token_id", "two")]).writeCheckpoint(workplace.file("bad.h5"))
        try workplace.refuse(
            65, .train, arguments("bad.h5", "docs.u16", "other"), mentions: ["bad.h5", "eos_token_id", "two"])
    }

    @Test("A run keeps its rules; one of before they were kept goes on as it began")
    func resumed() throws {
        let workplace = try Workplace.forTraining()
        for options in [["packing": "documents", "document-end": "2,5"], ["packing": "packed"]] {
            let out = options["packing"] ?? ""
            var line = workplace.line("pretrain", ["out": out, "save-every": "5", "packing": nil])
            line += options.flatMap { ["--\($0.key)", $0.value] } + ["--quiet"]
            #expect(try workplace.run(.train, line).status == 0)
            let whole = try workplace.run(at: 8, of: out)
            let last = workplace.file(Workplace.checkpoint(8, of: out))
            try FileManager.default.removeItem(atPath: last)
            try workplace.resume(out)
            expectSame(try workplace.run(at: 8, of: out), whole)
            guard out == "packed" else { continue }
            try FileManager.default.removeItem(atPath: last)
            try rewrite(workplace.file(Workplace.checkpoint(5, of: out))) { training in
                var settings = try #require(try JSONValue(parsing: training.settings).objectValue)
                settings["text_rules"] = nil
                training.settings = JSONValue.object(settings).text()
            }
            try workplace.resume(out)
            let again = try workplace.run(at: 8, of: out)
            #expect(again.differences(from: whole) == [] && again.history == whole.history)
        }
    }

    @Test("Rules that were tampered with are the run file's fault")
    func tampered() throws {
        let workplace = try Workplace.forTraining()
        try workplace.train("pretrain", ["save-every": "5"])
        try FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(8)))
        for (name, value) in [
            ("bos", "some"), ("prefix", 1), ("prefix", ["a"]), ("padding", -1), ("document_ends", nil),
            ("separator", "x"),
        ] as [(String, JSONValue)] {
            try rewrite(workplace.file(Workplace.checkpoint(5))) { training in
                var settings = try #require(try JSONValue(parsing: training.settings).objectValue)
                var rules = try #require(settings["text_rules"]?.objectValue)
                let good: JSONObject = [
                    "bos": "auto", "prefix": [], "padding": nil, "padding_ends": [], "document_ends": [],
                    "separator": nil,
                ]
                for member in good.members { rules[member.key] = member.value }
                rules[name] = value
                settings["text_rules"] = .object(rules)
                training.settings = JSONValue.object(settings).text()
            }
            try workplace.refuse(
                65, .train, ["resume", "run", "--quiet"], mentions: ["/training, settings, text_rules, \(name)"])
        }
    }
}
