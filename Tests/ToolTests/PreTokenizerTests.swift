import Foundation
import JSON
import Testing

@Suite("GGUF models: vocabularies without a rule for cutting text, special ids, several files")
struct PreTokenizerTests {
    let workplace: Workplace

    init() throws {
        workplace = try Workplace(textBytes: 600)
        try workplace.write(TinyModel.dense.gguf(without: ["tokenizer.ggml.pre"]), "old.gguf")
        try workplace.write(TinyModel.dense.gguf, "new.gguf")
        try workplace.succeed(.convert, "tokenize", "text.txt", "--tokenizer", "new.gguf", "--out", "t.npy", "--quiet")
    }

    private func nats(_ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) throws -> JSONValue? {
        let outcome = try workplace.run(.analyze, ["perplexity"] + arguments + ["--json", "--quiet"])
        try #require(outcome.status == 0, "\(outcome)", sourceLocation: sourceLocation)
        return try JSONValue(parsing: outcome.output)["nats_per_token"]
    }

    @Test("Text is refused with the ways out, by every command that splits it")
    func refused() throws {
        let train = ["--steps", "1", "--sequence-length", "8", "--batch", "1", "--precision", "f32", "--out", "run"]
        let commands: [(Tool, [String])] = [
            (.analyze, ["perplexity", "old.gguf", "--text", "text.txt"]),
            (.analyze, ["spectrum", "old.gguf", "--text", "text.txt", "--out", "s"]),
            (.analyze, ["ranks", "old.gguf", "--keep", "0.5", "--text", "text.txt", "--out", "plan.json"]),
            (.convert, ["tokenize", "text.txt", "--tokenizer", "old.gguf", "--out", "x.npy"]),
            (.train, ["continue", "old.gguf", "--text", "text.txt"] + train),
            (.train, ["pretrain", "--like", "old.gguf", "--text", "text.txt"] + train),
        ]
        for (tool, arguments) in commands {
            try workplace.refuse(
                65, tool, arguments + ["--quiet"],
                mentions: ["old.gguf: tokenizer.ggml.pre", "--pre-tokenizer", "--tokenizer"])
        }
    }

    @Test("A rule or another tokenizer makes the right ids; token ids need neither")
    func completed() throws {
        let right = try nats("new.gguf", "--text", "text.txt")
        #expect(try nats("old.gguf", "--tokens", "t.npy") == right)
        #expect(try nats("old.gguf", "--text", "text.txt", "--pre-tokenizer", "phi-2") == right)
        for tokenizer in ["new.gguf", "own.h5"] {
            #expect(try nats("old.gguf", "--text", "text.txt", "--tokenizer", tokenizer) == right)
        }
        #expect(
            try nats("new.gguf", "--text", "text.txt", "--tokenizer", "old.gguf", "--pre-tokenizer", "gpt-2") == right)
        try workplace.succeed(
            .convert, "tokenize", "text.txt", "--tokenizer", "old.gguf", "--pre-tokenizer", "gpt-2", "--out", "x.npy",
            "--quiet")
        #expect(try workplace.bytes("x.npy") == workplace.bytes("t.npy"))
        try workplace.succeed(
            .train, "continue", "old.gguf", "--text", "text.txt", "--pre-tokenizer", "gpt-2", "--steps", "1",
            "--sequence-length", "8", "--batch", "1", "--precision", "f32", "--out", "run", "--quiet")
        // The run has the rule from its checkpoint.
        try workplace.succeed(.train, "resume", "run", "--quiet")
    }

    @Test("Import brings the vocabulary along, with a warning and without a rule, or with the one that is given")
    func imported() throws {
        let outcome = try workplace.run(.convert, "import", "old.gguf", "plain.h5", "--quiet")
        #expect(outcome.status == 0 && outcome.errors.contains("warning: old.gguf: tokenizer.ggml.pre"), "\(outcome)")
        try workplace.refuse(
            65, .analyze, ["perplexity", "plain.h5", "--text", "text.txt", "--quiet"], mentions: ["--pre-tokenizer"])
        let right = try nats("new.gguf", "--text", "text.txt")
        #expect(try nats("plain.h5", "--text", "text.txt", "--pre-tokenizer", "gpt-2") == right)
        try workplace.succeed(.convert, "import", "old.gguf", "ruled.h5", "--pre-tokenizer", "gpt-2", "--quiet")
        #expect(try nats("ruled.h5", "--text", "text.txt") == right)
        let shown = try workplace.succeed(.convert, "inspect", "old.gguf")
        #expect(shown.contains("without a rule for cutting text"), "\(shown)")

        let export = try workplace.run(.convert, "export", "plain.h5", "plain", "--quiet")
        #expect(export.status == 0 && export.errors.contains("warning: plain.h5: "), "\(export)")
        #expect(!workplace.contents.contains("plain/tokenizer.json"))
        try workplace.succeed(.convert, "export", "plain.h5", "ruled", "--pre-tokenizer", "gpt-2", "--quiet")
        #expect(try nats("ruled", "--text", "text.txt") == nats("new.gguf", "--text", "text.txt"))
    }

    @Test("A rule that nothing needs, or that nobody knows")
    func misuse() throws {
        try workplace.refuse(
            65, .analyze, ["perplexity", "new.gguf", "--text", "text.txt", "--pre-tokenizer", "smollm", "--quiet"],
            mentions: ["--pre-tokenizer smollm", "new.gguf"])
        try workplace.refuse(
            64, .analyze, ["perplexity", "old.gguf", "--tokens", "t.npy", "--pre-tokenizer", "gpt-2"],
            mentions: ["--pre-tokenizer"])
        for name in ["default", "falcon"] {
            try workplace.refuse(
                64, .analyze, ["perplexity", "old.gguf", "--text", "text.txt", "--pre-tokenizer", name],
                mentions: [name])
        }
    }

    @Test("A model in several files is one model, of which the record has every file")
    func parts() throws {
        let names = (1...3).map { "m-0000\($0)-of-00003.gguf" }
        for (number, name) in names.enumerated() {
            try workplace.write(TinyModel.dense.ggufPart(number, of: 3), name)
        }
        #expect(try nats(names[1], "--text", "text.txt") == nats("new.gguf", "--text", "text.txt"))
        try workplace.succeed(
            .convert, "tokenize", "text.txt", "--tokenizer", names[2], "--out", "x.npy", "--quiet")
        #expect(try workplace.bytes("x.npy") == workplace.bytes("t.npy"))
        let record = try workplace.json(.convert, "import", names[2], "whole.h5", "--quiet")
        let files = record["source"]?["files"]?.arrayValue ?? []
        #expect(files.map { $0["path"] } == names.map { .string($0) })
        #expect(Set(files.compactMap { $0["sha256"]?.stringValue }).count == 3)
        let train = ["--steps", "1", "--sequence-length", "8", "--batch", "1", "--precision", "f32", "--quiet"]
        let teacher = ["continue", "own.h5", "--teacher", names[0], "--text", "text.txt", "--out", "run"]
        let outcome = try workplace.run(.train, teacher + train)
        #expect(outcome.status == 0, "\(outcome)")
        try workplace.refuse(
            73, .convert, ["import", names[0], names[1], "--quiet"], mentions: [names[1], "read from"])
        unlink(workplace.file(names[1]))
        try workplace.refuse(
            66, .analyze, ["perplexity", names[0], "--text", "text.txt", "--quiet"],
            mentions: ["\(names[1]): no such file"])
    }

    @Test("Special ids that are no tokens do not stop anything, and import names key and id")
    func specialIDs() throws {
        let ids: [(String, Int32)] = [("tokenizer.ggml.bos_token_id", 99999), ("tokenizer.ggml.padding_token_id", -1)]
        try workplace.write(TinyModel.dense.gguf(numbers: ids), "ids.gguf")
        let outcome = try workplace.run(.convert, "import", "ids.gguf", "ids.h5", "--quiet")
        #expect(outcome.status == 0, "\(outcome)")
        for (key, id) in ids { #expect(outcome.errors.contains("\(key): found \(id),"), "\(outcome)") }
        try workplace.succeed(.convert, "inspect", "ids.gguf")
        try workplace.succeed(.convert, "tokenize", "text.txt", "--tokenizer", "ids.gguf", "--out", "x.npy", "--quiet")
        #expect(try workplace.bytes("x.npy") == workplace.bytes("t.npy"))
        #expect(try nats("ids.h5", "--text", "text.txt") == nats("new.gguf", "--text", "text.txt"))
    }
}
