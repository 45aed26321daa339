import Files
import Foundation
import JSON
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

@Suite("What is said about a tokenizer beside it")
struct TokenizerSettingsTests {
    private let folder: TemporaryFolder
    private let byteLevel = #"{"model":{"type":"BPE"},"pre_tokenizer":{"type":"ByteLevel"}}"#

    init() throws {
        folder = try TemporaryFolder()
        _ = try HuggingFaceExporter(provenance: "{}").export(
            MemorySource([("model.norm.weight", [2], [1, 2])], configuration: ["model_type": "llama"]),
            to: folder.file("model"))
    }

    private func settings() throws -> TokenizerSettings? {
        try Checkpoint.open(folder.file("model")).tokenizer()?.settings
    }

    private func refusal(_ text: String) -> String {
        do {
            try folder.write(text, "model/tokenizer_config.json")
            return "\(String(describing: try settings()))"
        } catch { return "\(error)" }
    }

    @Test("tokenizer_config.json first, then special_tokens_map.json; other keys do not matter")
    func files() throws {
        try folder.write(byteLevel, "model/tokenizer.json")
        #expect(try settings() == TokenizerSettings())
        try folder.write(
            #"{"bos_token": {"content": "<b>", "lstrip": false}, "eos_token": "<e>"}"#, "model/special_tokens_map.json")
        #expect(try settings() == TokenizerSettings(bosToken: "<b>", eosToken: "<e>"))
        try folder.write(
            #"{"add_bos_token": false, "eos_token": "</s>", "bos_token": null, "model_max_length": 1000000000000000019884624838656, "pad_token": 7}"#,
            "model/tokenizer_config.json")
        #expect(try settings() == TokenizerSettings(addsBOS: false, bosToken: "<b>", eosToken: "</s>"))
    }

    @Test("A value that is none is refused with file and key")
    func refused() throws {
        try folder.write(byteLevel, "model/tokenizer.json")
        #expect(refusal(#"{"add_bos_token": "yes"}"#).contains("tokenizer_config.json: add_bos_token: found \"yes\""))
        #expect(refusal(#"{"eos_token": 2}"#).contains("tokenizer_config.json: eos_token: found 2"))
        #expect(refusal("{").contains("tokenizer_config.json: not JSON"))
    }

    @Test("A sentencepiece model has what the template beside it has, unless add_bos_token says it")
    func template() throws {
        func tokenizer(_ single: String) -> String {
            #"{"model":{"type":"BPE"},"post_processor":{"type":"Sequence","processors":[{"type":"TemplateProcessing","single":[\#(single)]}]}}"#
        }
        let (text, special) = (#"{"Sequence":{"id":"A"}}"#, #"{"SpecialToken":{"id":"<s>"}}"#)
        try folder.write([1, 2], "model/tokenizer.model")
        #expect(try settings() == TokenizerSettings())
        try folder.write(tokenizer("\(special),\(text)"), "model/tokenizer.json")
        #expect(try settings()?.addsBOS == true)
        try folder.write(tokenizer(text), "model/tokenizer.json")
        #expect(try settings()?.addsBOS == false)
        try folder.write(#"{"add_bos_token": true}"#, "model/tokenizer_config.json")
        #expect(try settings()?.addsBOS == true)
    }

    @Test(
        "They travel with the tokenizer, into HDF5 and out again",
        arguments: [
            TokenizerSettings(), TokenizerSettings(addsBOS: false),
            TokenizerSettings(addsBOS: true, bosToken: "<ä>", eosToken: "</s>"),
        ])
    func roundTrip(_ settings: TokenizerSettings) throws {
        for content in [TokenizerBlob.Content.tokenizerJSON(Array(byteLevel.utf8)), .sentencepiece([1, 2])] {
            let blob = TokenizerBlob(content, settings: settings)
            let path = folder.file("a.h5")
            let writer = try CheckpointWriter(path: path, configuration: "{}", provenance: "{}", tokenizer: blob)
            try writer.write("model.norm.weight", Matrix(shape: [1, 2]))
            try writer.finish()
            #expect(try HDF5Checkpoint(path: path).tokenizer() == blob)

            let source = MemorySource([("model.norm.weight", [2], [1, 2])], configuration: ["model_type": "llama"])
            source.blob = blob
            let target = folder.file(UUID().uuidString)
            _ = try HuggingFaceExporter(provenance: "{}").export(source, to: target)
            var expected = blob
            // A sentencepiece model of which nothing was said is exported as it is read.
            if case .sentencepiece = content { expected.settings.addsBOS = settings.addsBOS ?? true }
            #expect(try Checkpoint.open(target).tokenizer() == expected)
        }
    }

    /// LLaMA has ids 0 to 2 and a space in front of a text, Gemma others and none; to a program that is not told, both are
    /// LLaMA's.
    @Test("What a sentencepiece model says about spaces and special tokens stands beside it where it is exported")
    func sentencepiece() throws {
        let ends: [SentencePieceModel.PieceType] = [.control, .control, .control, .unknown, .normal]
        let pieces = zip(["<pad>", "<eos>", "<bös>", "<unk>", "<s>"], ends).map {
            SentencePieceModel.Piece(text: $0, score: 0, type: $1)
        }
        for (addsSpace, pad) in [(false, 0), (true, nil)] as [(Bool, Int?)] {
            let model = SentencePieceModel(pieces: pieces, addsDummyPrefix: addsSpace, bos: 2, eos: 1, pad: pad)
            let source = MemorySource([("model.norm.weight", [2], [1, 2])], configuration: ["model_type": "llama"])
            source.blob = .sentencepiece(try model.serialized(path: "x"))
            let target = folder.file(UUID().uuidString)
            _ = try HuggingFaceExporter(provenance: "{}").export(source, to: target)
            var expected: JSONObject = [
                "tokenizer_class": "LlamaTokenizer", "add_bos_token": true, "add_eos_token": false,
            ]
            if !addsSpace { expected["add_prefix_space"] = false }
            for (key, token) in [("bos_token", "<bös>"), ("eos_token", "<eos>"), ("unk_token", "<unk>")] {
                expected[key] = .string(token)
            }
            if pad != nil { expected["pad_token"] = "<pad>" }
            expected["clean_up_tokenization_spaces"] = false
            #expect(try MappedFile.json("\(target)/tokenizer_config.json") == .object(expected))
        }
    }

    @Test("A sentencepiece model without ids has the library's, and none of what is damaged")
    func sentencepieceDefaults() {
        let pieces: [UInt8] = ["<unk>", "<s>", "</s>"].flatMap {
            [0x0A, UInt8($0.utf8.count) + 2, 0x0A, UInt8($0.utf8.count)] + Array($0.utf8)
        }
        let summary = SentencePieceSummary(pieces)
        #expect(summary.addsDummyPrefix)
        #expect(summary.specialTokens.map(\.key) == ["bos_token", "eos_token", "unk_token"])
        #expect(summary.specialTokens.map(\.token) == ["<s>", "</s>", "<unk>"])
        #expect(SentencePieceSummary([1, 2]).specialTokens.isEmpty)
    }
}
