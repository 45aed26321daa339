import Files
import JSON
import TestSupport
import Testing
import Transformer

@testable import Checkpoints

@Suite("Tokenizers of GGUF files") struct GGUFTokenizerTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    static func addByteLevel(_ builder: inout GGUFBuilder, pre: String?) {
        builder.set("tokenizer.ggml.model", .text("gpt2"))
        builder.set("tokenizer.ggml.pre", pre.map { .text($0) })
        builder.set("tokenizer.ggml.tokens", .texts(["<|end|>", "a", "b", "ab", "<tool>"]))
        builder.set("tokenizer.ggml.token_type", .i32s([3, 1, 1, 1, 4]))
        builder.set("tokenizer.ggml.merges", .texts(["a b"]))
        builder.set("tokenizer.ggml.bos_token_id", .u32(0))
    }

    private func blob(_ builder: GGUFBuilder) throws -> TokenizerBlob? {
        try GGUFFile(path: folder.write(builder.bytes, "model.gguf"), architectures: Family.architectures).tokenizer()
    }

    private func json(pre: String?, change: (inout GGUFBuilder) -> Void = { _ in }) throws -> JSONValue {
        var builder = GGUFBuilder.model()
        Self.addByteLevel(&builder, pre: pre)
        change(&builder)
        guard case .tokenizerJSON(let text) = try blob(builder)?.content else { return nil }
        return try JSONValue(parsing: text)
    }

    private let gpt2: JSONValue = [
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    ]

    @Test("a byte-level vocabulary becomes a tokenizer.json")
    func vocabulary() throws {
        let json = try json(pre: "gpt-2")
        #expect(json["model"]?["vocab"] == ["<|end|>": 0, "a": 1, "b": 2, "ab": 3, "<tool>": 4])
        #expect(json["model"]?["merges"] == ["a b"])
        #expect(json["model"]?["ignore_merges"] == false)
        #expect(json["added_tokens"]?.arrayValue?.map { $0["id"] } == [0, 4])
        #expect(json["added_tokens"]?.arrayValue?.map { $0["special"] } == [true, false])
        #expect(json["added_tokens"]?[0]?["content"] == "<|end|>")
        #expect(json["pre_tokenizer"] == gpt2)
        #expect(json["post_processor"] == .null)
    }

    @Test("SmolLM cuts single digits off first")
    func smollm() throws {
        let json = try json(pre: "smollm")
        #expect(
            json["pre_tokenizer"] == [
                "type": "Sequence", "pretokenizers": [["type": "Digits", "individual_digits": true], gpt2],
            ])
    }

    @Test("LLaMA 3 and Qwen 2 have their patterns")
    func patterns() throws {
        let llama = try json(pre: "llama-bpe")
        let first = llama["pre_tokenizer"]?["pretokenizers"]?[0]
        #expect(
            first?["pattern"]?["Regex"]
                == #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
        )
        #expect(first?["behavior"] == "Isolated")
        #expect(llama["pre_tokenizer"]?["pretokenizers"]?[1]?["use_regex"] == false)
        #expect(llama["model"]?["ignore_merges"] == true)
        #expect(
            llama["post_processor"]?["processors"]?[1]?["single"] == [
                ["SpecialToken": ["id": "<|end|>", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]],
            ])
        let qwen = try json(pre: "qwen2")
        #expect(qwen["normalizer"] == ["type": "NFC"])
        #expect(
            qwen["pre_tokenizer"]?["pretokenizers"]?[0]?["pattern"]?["Regex"]
                == #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
        )
    }

    @Test("tokens are put around a text where the file says so")
    func template() throws {
        let json = try json(pre: "gpt-2") { $0.set("tokenizer.ggml.add_bos_token", .bool(true)) }
        #expect(json["post_processor"]?["type"] == "TemplateProcessing")
        #expect(
            json["post_processor"]?["special_tokens"] == [
                "<|end|>": ["id": "<|end|>", "ids": [0], "tokens": ["<|end|>"]]
            ])
        let none = try self.json(pre: "llama-bpe") { $0.set("tokenizer.ggml.add_bos_token", .bool(false)) }
        #expect(none["post_processor"]?["type"] == "ByteLevel")
    }

    @Test(
        "a vocabulary that is none is refused",
        arguments: [
            ("tokenizer.ggml.tokens", nil), ("tokenizer.ggml.tokens", .texts(["a", "a", "b", "c", "d"])),
            ("tokenizer.ggml.token_type", .i32s([1])), ("tokenizer.ggml.token_type", .i32s([9, 1, 1, 1, 1])),
            ("tokenizer.ggml.merges", .texts(["ab"])), ("tokenizer.ggml.merges", .texts(["a b c"])),
            ("tokenizer.ggml.merges", nil), ("tokenizer.ggml.tokens", .i32s([1])),
        ] as [(String, GGUFBuilder.Value?)])
    func refused(key: String, value: GGUFBuilder.Value?) throws {
        #expect(throws: CheckpointError.self) { try json(pre: "gpt-2") { $0.set(key, value) } }
    }

    @Test("a sentencepiece vocabulary becomes a sentencepiece model, field by field")
    func sentencepiece() throws {
        var builder = GGUFBuilder.model()
        builder.set("tokenizer.ggml.model", .text("llama"))
        builder.set("tokenizer.ggml.tokens", .texts(["<unk>", "<s>", "</s>", "a b"]))
        builder.set("tokenizer.ggml.token_type", .i32s([2, 3, 3, 4]))
        builder.set("tokenizer.ggml.scores", .f32s([0, 0, 0, -1]))
        builder.set("tokenizer.ggml.bos_token_id", .u32(1))
        builder.set("tokenizer.ggml.eos_token_id", .u32(2))
        builder.set("tokenizer.ggml.add_space_prefix", .bool(false))
        func piece(_ text: String, _ score: [UInt8], _ type: UInt8) -> [UInt8] {
            let body = [0x0A, UInt8(text.utf8.count)] + Array(text.utf8) + [0x15] + score + [0x18, type]
            return [0x0A, UInt8(body.count)] + body
        }
        let minusOne: [UInt8] = Array(repeating: 0xFF, count: 9) + [0x01]
        var trainer: [UInt8] = [0x18, 2, 0x20, 4, 0x98, 0x02, 0]
        trainer += [0xC0, 0x02, 0, 0xC8, 0x02, 1, 0xD0, 0x02, 2, 0xD8, 0x02] + minusOne
        trainer += [0xEA, 0x02, 5] + Array("<unk>".utf8) + [0xF2, 0x02, 3] + Array("<s>".utf8)
        trainer += [0xFA, 0x02, 4] + Array("</s>".utf8)
        let normalizer = [0x0A, 8] + Array("identity".utf8) + [0x18, 0, 0x20, 0, 0x28, 1]
        let zero: [UInt8] = [0, 0, 0, 0]
        let expected =
            piece("<unk>", zero, 2) + piece("<s>", zero, 3) + piece("</s>", zero, 3)
            + piece("a\u{2581}b", [0, 0, 0x80, 0xBF], 4) + [0x12, UInt8(trainer.count)] + trainer
            + [0x1A, UInt8(normalizer.count)] + normalizer
        #expect(try blob(builder) == .sentencepiece(expected))
        builder.set("tokenizer.ggml.add_bos_token", .bool(false))
        #expect(
            try blob(builder)
                == TokenizerBlob(.sentencepiece(expected), settings: TokenizerSettings(addsBOS: false)))

        builder.set("tokenizer.ggml.scores", .f32s([0]))
        #expect(throws: CheckpointError.self) { try blob(builder) }
        builder.set("tokenizer.ggml.scores", .f32s([0, 0, 0, -1]))
        builder.set("tokenizer.ggml.eos_token_id", .u32(4))
        guard case .sentencepiece(let bytes) = try #require(try blob(builder)).content else { return }
        // −1, which takes ten bytes, in place of 2, and no spelling.
        #expect(bytes.count == expected.count + 9 - 7)
    }

    @Test("a sentencepiece vocabulary whose unknown piece is written as a control piece has the one that is named")
    func unknownPiece() throws {
        func blob(types: [Int32], unknown: UInt32?) throws -> TokenizerBlob? {
            var builder = GGUFBuilder.model()
            builder.set("tokenizer.ggml.model", .text("llama"))
            builder.set("tokenizer.ggml.tokens", .texts(["<pad>", "<bos>", "<unk>", "a"]))
            builder.set("tokenizer.ggml.token_type", .i32s(types))
            builder.set("tokenizer.ggml.scores", .f32s([0, 0, 0, -1]))
            if let unknown { builder.set("tokenizer.ggml.unknown_token_id", .u32(unknown)) }
            return try self.blob(builder)
        }
        let expected = try #require(try blob(types: [3, 3, 2, 1], unknown: nil))
        #expect(try blob(types: [3, 3, 3, 1], unknown: 2) == expected)
        // What the pieces say themselves counts for more.
        #expect(try blob(types: [3, 3, 2, 1], unknown: 0) == expected)
        #expect(throws: CheckpointError.self) { try blob(types: [3, 3, 3, 1], unknown: nil) }
        #expect(throws: CheckpointError.self) { try blob(types: [3, 3, 3, 1], unknown: 4) }
    }

    @Test("a vocabulary without a rule waits for one, and a rule makes the tokenizer that a file with it has")
    func pending() throws {
        for pre in [nil, "default", "falcon"] {
            let blob = try {
                var builder = GGUFBuilder.model()
                Self.addByteLevel(&builder, pre: pre)
                builder.set("tokenizer.ggml.add_eos_token", .bool(true))
                builder.set("tokenizer.ggml.eos_token_id", .u32(4))
                return try #require(try self.blob(builder))
            }()
            let vocabulary = try #require(UncutVocabulary(blob))
            #expect(vocabulary.ruleName == pre)
            for name in ["gpt-2", "smollm", "llama3", "qwen2"] {
                let expected = try json(pre: name) {
                    $0.set("tokenizer.ggml.add_eos_token", .bool(true))
                    $0.set("tokenizer.ggml.eos_token_id", .u32(4))
                }
                let made = try JSONValue(parsing: vocabulary.tokenizerJSON(PreTokenizerRule(name)))
                #expect(made == expected, "\(name)")
            }
        }
    }

    @Test(
        "names of llama.cpp for the same rule",
        arguments: [
            ("gpt-2", ["phi-2", "jina-v2-de", "mpt", "olmo", "exaone4", "roberta-bpe"]),
            ("smollm", ["starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"]),
            ("llama-bpe", ["llama3", "llama-v3", "falcon3", "pixtral", "lfm2"]),
            ("qwen2", ["deepseek-r1-qwen", "megrez", "kormo"]),
        ])
    func names(known: String, others: [String]) throws {
        let expected = try json(pre: known)
        #expect(expected["pre_tokenizer"]?["type"] != .string(UncutVocabulary.pending))
        for name in others { #expect(try json(pre: name) == expected, "\(name)") }
    }

    @Test("rules that cut alike, but neither take whole words nor put a BOS in front")
    func relatives() throws {
        for (name, like) in [("dbrx", "llama-bpe"), ("smaug-bpe", "llama-bpe"), ("stablelm2", "qwen2")] {
            let (json, other) = (try json(pre: name), try json(pre: like))
            #expect(json["pre_tokenizer"] == other["pre_tokenizer"], "\(name)")
            #expect(json["model"]?["ignore_merges"] == false)
            #expect(json["normalizer"] == .null)
            #expect(json["post_processor"]?["processors"] == nil)
        }
    }

    @Test("a tokenizer of another kind is none, and the file says so")
    func otherKind() throws {
        var builder = GGUFBuilder.model()
        Self.addByteLevel(&builder, pre: "gpt-2")
        builder.set("tokenizer.ggml.model", .text("bert"))
        let file = try GGUFFile(path: folder.write(builder.bytes, "model.gguf"), architectures: Family.architectures)
        #expect(try file.tokenizer() == nil)
        #expect(file.warnings.count == 1 && file.warnings[0].contains("bert"), "\(file.warnings)")
    }

    @Test(
        "an id that is no token is left out, with a warning that names key and id",
        arguments: [
            ("bos", GGUFBuilder.Value.u32(99999), "99999"), ("bos", .i32(-1), "-1"), ("eos", .i64(-1), "-1"),
            ("padding", .u32(.max), "-1"), ("padding", .u32(5), "5"), ("unknown", .i32(-1), "-1"),
            ("seperator", .u32(7), "7"), ("cls", .i8(-1), "-1"), ("mask", .u64(1 << 40), "1099511627776"),
            ("eot", .text("x"), "x"),
        ])
    func specialIDs(name: String, value: GGUFBuilder.Value, found: String) throws {
        var builder = GGUFBuilder.model()
        Self.addByteLevel(&builder, pre: "llama-bpe")
        builder.set("tokenizer.ggml.eos_token_id", .u32(4))
        let key = "tokenizer.ggml.\(name)_token_id"
        builder.set(key, value)
        let file = try GGUFFile(path: folder.write(builder.bytes, "model.gguf"), architectures: Family.architectures)
        #expect(file.warnings.count == 1, "\(file.warnings)")
        #expect(file.warnings.first?.contains("\(key): found ") == true, "\(file.warnings)")
        #expect(file.warnings.first?.contains(found) == true, "\(file.warnings)")
        let configuration = try #require(file.configurationValues)
        #expect(configuration["bos_token_id"] == (name == "bos" ? nil : 0))
        #expect(configuration["eos_token_id"] == (name == "eos" ? nil : 4))
        #expect(configuration["pad_token_id"] == nil)
        #expect(try file.tokenizer() != nil)
    }

    @Test("a file without a tokenizer has none")
    func none() throws {
        #expect(try blob(.model()) == nil)
    }
}
