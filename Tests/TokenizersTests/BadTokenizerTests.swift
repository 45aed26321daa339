import Checkpoints
import JSON
import Tensors
import Testing

@testable import Tokenizers

@Suite("Tokenizers that cannot be used are refused with the reason")
struct BadTokenizerTests {
    private func failure(_ bytes: [UInt8]) -> TokenizerError? {
        do {
            _ = try makeTokenizer(from: .tokenizerJSON(bytes), path: "some.json")
            return nil
        } catch {
            return error
        }
    }

    private func expect(
        _ name: String = "gpt2", says parts: String..., unsupported: Bool = false,
        sourceLocation: SourceLocation = #_sourceLocation, when change: (inout JSONObject) throws -> Void
    ) throws {
        let error = try #require(failure(try Fixture.changed(name, change)), sourceLocation: sourceLocation)
        for part in parts + ["some.json"] {
            #expect("\(error)".contains(part), "\(error)", sourceLocation: sourceLocation)
        }
        if case .unsupported = error {
            #expect(unsupported, "\(error)", sourceLocation: sourceLocation)
        } else {
            #expect(!unsupported, "\(error)", sourceLocation: sourceLocation)
        }
    }

    private func model(_ root: inout JSONObject, _ change: (inout JSONObject) -> Void) throws {
        var model = try #require(root["model"]?.objectValue)
        change(&model)
        root["model"] = .object(model)
    }

    @Test("Unchanged fixtures are accepted: the errors below come from the changes")
    func control() throws { #expect(failure(try Fixture.changed("gpt2") { _ in }) == nil) }

    @Test("A file that was cut short, anywhere")
    func truncated() throws {
        let bytes = try Fixture.bytes("qwen2.json")
        for count in stride(from: 0, to: bytes.count - 2, by: 97) {
            guard case .unreadable = failure(Array(bytes.prefix(count))) else {
                Issue.record("\(count) bytes were accepted")
                continue
            }
        }
    }

    @Test("Another kind of model, with the way out")
    func otherModels() throws {
        for kind in ["Unigram", "WordPiece", "WordLevel"] {
            try expect(says: kind, "tokenizer.model", unsupported: true) { root in
                try model(&root) { $0["type"] = .string(kind) }
            }
        }
        try expect(says: "BPE over characters with byte fallback", "Metaspace", "tokenizer.model", unsupported: true) {
            root in
            root["pre_tokenizer"] = ["type": "Metaspace", "replacement": "▁"]
            try model(&root) { $0["byte_fallback"] = true }
        }
        try expect(says: "pre-tokenizer: none", unsupported: true) { $0["pre_tokenizer"] = .null }
        try expect(says: "end_of_word_suffix", "</w>", unsupported: true) { root in
            try model(&root) { $0["end_of_word_suffix"] = "</w>" }
        }
        try expect(says: "dropout", "0.1", unsupported: true) { root in try model(&root) { $0["dropout"] = 0.1 } }
        try expect(says: "model") { $0["model"] = nil }
    }

    @Test("An unknown expression is quoted")
    func unknownExpression() throws {
        try expect("llama3", says: #"\p{Han}+|\w"#, "Llama 3", unsupported: true) { root in
            root["pre_tokenizer"] = [
                "type": "Sequence",
                "pretokenizers": [
                    ["type": "Split", "pattern": ["Regex": #"\p{Han}+|\w"#], "behavior": "Isolated", "invert": false],
                    ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false],
                ],
            ]
        }
    }

    @Test("An unknown pre-tokenizer, normaliser, post-processor")
    func unknownSteps() throws {
        try expect(says: "Punctuation", unsupported: true) { root in
            root["pre_tokenizer"] = [
                "type": "Sequence", "pretokenizers": [["type": "Punctuation"], ["type": "ByteLevel"]],
            ]
        }
        try expect(says: "last step", unsupported: true) { root in
            root["pre_tokenizer"] = ["type": "Sequence", "pretokenizers": [["type": "ByteLevel"], ["type": "Digits"]]]
        }
        try expect(says: "NFKC", unsupported: true) { $0["normalizer"] = ["type": "NFKC"] }
        try expect(says: "NFKC", unsupported: true) { root in
            root["normalizer"] = ["type": "Sequence", "normalizers": [["type": "NFC"], ["type": "NFKC"]]]
        }
        try expect(says: "PhiProcessing", unsupported: true) { $0["post_processor"] = ["type": "PhiProcessing"] }
        try expect(says: "post_processor.cls") { $0["post_processor"] = ["type": "RobertaProcessing"] }
        try expect(says: "unknown id 70000") { root in
            root["post_processor"] = ["type": "BertProcessing", "cls": ["<s>", 70000], "sep": ["</s>", 0]]
        }
        try expect("llama3", says: "no ids for", "<none>") { root in
            root["post_processor"] = [
                "type": "TemplateProcessing",
                "single": [
                    ["SpecialToken": ["id": "<none>", "type_id": 0]], ["Sequence": ["id": "A", "type_id": 0]],
                ],
                "special_tokens": [:],
            ]
        }
    }

    @Test("Merges of tokens that are not in the vocabulary, or that are no merges")
    func badMerges() throws {
        try expect(says: "model.merges[1]", "qq") { root in
            try model(&root) { $0["merges"] = ["Ġ t", "qq t"] }
        }
        try expect("llama3", says: "model.merges[0]", "\"qz\"") { root in
            try model(&root) { $0["merges"] = [["z", "qz"]] }
        }
        // Both halves are there, what they make is not.
        try expect(says: "model.merges[0]", "zq") { root in try model(&root) { $0["merges"] = ["z q"] } }
        let malformed: [JSONValue] = ["abc", "a b c", ["a"], ["a", 1], 3]
        for merge in malformed {
            try expect(says: "model.merges[0]", "two tokens") { root in
                try model(&root) { $0["merges"] = .array([merge]) }
            }
        }
        try expect(says: "merges") { root in try model(&root) { $0["merges"] = nil } }
    }

    @Test("Ids that are no ids, or that two tokens share")
    func badIDs() throws {
        let wrong: [JSONValue] = [-1, 1.5, "7", 100_000_000]
        for id in wrong {
            try expect(says: "the id of \"a\"", id.text()) { root in
                try model(&root) { $0["vocab"] = .object(["a": id]) }
            }
        }
        try expect(says: "same id 5", "\"a\"", "\"b\"") { root in
            try model(&root) { $0["vocab"] = ["a": 5, "b": 5] }
        }
        try expect(says: "no token for any single byte") { root in
            try model(&root) {
                $0["vocab"] = ["ab": 0]
                $0["merges"] = []
            }
        }
        try expect(says: "\"a\"", "900") { $0["added_tokens"] = [["id": 900, "content": "a"]] }
        try expect(says: "\"xyz\"", "\"uvw\"", "same id 700") { root in
            root["added_tokens"] = [["id": 700, "content": "xyz"], ["id": 700, "content": "uvw"]]
        }
        try expect(says: "added_tokens[0]") { $0["added_tokens"] = [["id": 700]] }
    }

    @Test("Bytes without a token become the unknown token, one each or fused, or vanish")
    func unknownBytes() throws {
        func ids(_ unknown: JSONValue, fuse: Bool) throws -> [UInt32] {
            let bytes = try Fixture.changed("gpt2") { root in
                root["added_tokens"] = []
                try model(&root) {
                    $0["vocab"] = ["a": 0, "b": 1, "?": 2]
                    $0["merges"] = []
                    $0["unk_token"] = unknown
                    $0["fuse_unk"] = .bool(fuse)
                }
            }
            return try makeTokenizer(from: .tokenizerJSON(bytes), path: "").encode("axxbxa")
        }
        #expect(try ids("?", fuse: false) == [0, 2, 2, 1, 2, 0])
        #expect(try ids("?", fuse: true) == [0, 2, 1, 2, 0])
        #expect(try ids(.null, fuse: false) == [0, 1, 0])
    }

    @Test(
        "An unknown token that the vocabulary lacks is missed by those texts only that need it",
        arguments: ["[UNK]", ""])
    func missingUnknown(spelling: String) throws {
        let complete = try Fixture.changed("gpt2") { root in try model(&root) { $0["unk_token"] = .string(spelling) } }
        let tokenizer = try makeTokenizer(from: .tokenizerJSON(complete), path: "")
        #expect(try tokenizer.encode("Ünknown 7") == Fixture.tokenizer("gpt2").encode("Ünknown 7"))
        let bytes = try Fixture.changed("gpt2") { root in
            root["added_tokens"] = []
            try model(&root) {
                $0["vocab"] = ["a": 0, "b": 1]
                $0["merges"] = []
                $0["unk_token"] = .string(spelling)
            }
        }
        let small = try makeTokenizer(from: .tokenizerJSON(bytes), path: "")
        #expect(try small.encode("abba") == [0, 1, 1, 0])
        // Twice: what was remembered of the first time must not count.
        for _ in 0..<2 {
            #expect { try small.encode("axb") } throws: {
                "\($0)".contains("0x78") && "\($0)".contains("\"\(spelling)\"")
            }
        }
        #expect(try small.encode("ab") == [0, 1])
    }

    @Test("RoBERTa's and BERT's post-processors put their tokens around a text")
    func ends() throws {
        for kind in ["RobertaProcessing", "BertProcessing"] {
            let bytes = try Fixture.changed("gpt2") { root in
                root["post_processor"] = [
                    "type": "Sequence",
                    "processors": [
                        ["type": "ByteLevel", "trim_offsets": false],
                        ["type": .string(kind), "cls": ["a", 5], "sep": ["b", 6]],
                    ],
                ]
            }
            let tokenizer = try makeTokenizer(from: .tokenizerJSON(bytes), path: "")
            #expect(tokenizer.prefixIDs == [5])
            #expect(tokenizer.suffixIDs == [6])
            let plain = try tokenizer.encode("a text")
            #expect(try tokenizer.encode("a text", addSpecialTokens: true) == [5] + plain + [6])
        }
    }

    @Test("A vocabulary that waits for a rule is no tokenizer, and the error names the rule")
    func pending() throws {
        for name in [JSONValue.null, "falcon"] {
            let bytes = try Fixture.changed("gpt2") { root in
                root["pre_tokenizer"] = ["type": .string(UncutVocabulary.pending), "name": name]
            }
            #expect(throws: TokenizerError.noRule(path: "m.gguf", found: name.stringValue)) {
                try makeTokenizer(from: .tokenizerJSON(bytes), path: "m.gguf")
            }
        }
    }

    @Test("Damaged sentencepiece models, with the library's words, and never a crash")
    func sentencepiece() throws {
        func failure(_ bytes: [UInt8]) -> TokenizerError? {
            do {
                _ = try makeTokenizer(from: .sentencepiece(bytes), path: "some.model")
                return nil
            } catch {
                return error
            }
        }
        let bytes = try Fixture.bytes("bpe.model")
        #expect(failure(bytes) == nil)
        for damaged in [[], Array(bytes.prefix(1000)), Array("no model".utf8), Array(bytes.dropFirst(3))] {
            let error = try #require(failure(damaged))
            guard case .unreadable(path: "some.model", _) = error else {
                Issue.record("\(error)")
                continue
            }
        }
        var generator = SeededGenerator(seed: 6)
        for _ in 0..<200 {
            var damaged = bytes
            for _ in 0..<3 {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                damaged[place] = .random(in: 0...255, using: &generator)
            }
            if let tokenizer = try? SentencePieceTokenizer(model: damaged, path: "") {
                _ = tokenizer.decode((try? tokenizer.encode("Any text, 北京")) ?? [])
            }
        }
    }

    @Test("Sentencepiece takes NUL, invalid UTF-8 and unknown ids")
    func sentencepieceInput() throws {
        let tokenizer = try Fixture.tokenizer("bpe")
        let withNUL: [UInt8] = [0x61, 0, 0x62]
        #expect(tokenizer.decodeBytes(try tokenizer.encode(withNUL)) == withNUL)
        #expect(tokenizer.decode(try tokenizer.encode([0x61, 0xFF, 0x62])) == "a\u{FFFD}b")
        #expect(tokenizer.decode([5000, .max]) == "")
        #expect(try tokenizer.encode("") == [])
        #expect(try tokenizer.encode("", addSpecialTokens: true) == [1])
    }
}
