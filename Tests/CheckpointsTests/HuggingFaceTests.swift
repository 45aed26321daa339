import Files
import TestSupport
import Testing

@testable import Checkpoints

@Suite("Hugging Face folders") struct HuggingFaceTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }
    private let first: [(name: String, shape: [Int], values: [Float])] = [("model.norm.weight", [2], [1, 2])]
    private let second: [(name: String, shape: [Int], values: [Float])] = [
        ("lm_head.weight", [3, 2], [1, 2, 3, 4, 5, 6])
    ]

    @Test("a folder with one file")
    func single() throws {
        _ = try folder.write(#"{"model_type": "llama"}"#, "config.json")
        _ = try folder.write(safetensors(first + second), "model.safetensors")
        let source = try Checkpoint.open(folder.path)
        #expect(source.formatName == "safetensors")
        #expect(source.configuration == #"{"model_type": "llama"}"#)
        #expect(source.tensors.map(\.name) == ["model.norm.weight", "lm_head.weight"])
        expectSameBits(try elements(source, "lm_head.weight", rows: 1..<3), [3, 4, 5, 6])
        #expect(try source.tokenizer() == nil)
        #expect(throws: CheckpointError.self) { try source.read("model.layers.0.mlp.up_proj.weight") }
    }

    @Test("a single file takes config.json from beside it, or the one that is named")
    func file() throws {
        let path = try folder.write(safetensors(first), "any.safetensors")
        #expect(try Checkpoint.open(path).configuration == nil)
        _ = try folder.write("{}", "config.json")
        #expect(try Checkpoint.open(path).configuration == "{}")
        let other = try folder.write(#"{"a":1}"#, "other.json")
        #expect(try Checkpoint.open(path, configurationPath: other).configuration == #"{"a":1}"#)
        #expect(throws: CheckpointError.missing(path: "nowhere.json")) {
            try Checkpoint.open(path, configurationPath: "nowhere.json")
        }
    }

    private func shards(_ map: String) throws {
        _ = try folder.write("{}", "config.json")
        _ = try folder.write(safetensors(first), "model-00001-of-00002.safetensors")
        _ = try folder.write(safetensors(second), "model-00002-of-00002.safetensors")
        _ = try folder.write(#"{"weight_map":{\#(map)}}"#, "model.safetensors.index.json")
    }

    @Test("shards are found through the index")
    func sharded() throws {
        try shards(
            #""model.norm.weight":"model-00001-of-00002.safetensors","lm_head.weight":"model-00002-of-00002.safetensors""#
        )
        let source = try Checkpoint.open(folder.path)
        #expect(source.formatName == "safetensors, 2 shards")
        expectSameBits(try elements(source, "model.norm.weight"), [1, 2])
        expectSameBits(try elements(source, "lm_head.weight"), [1, 2, 3, 4, 5, 6])
    }

    @Test(
        "an index that does not fit its shards is refused",
        arguments: [
            #""model.norm.weight":"../model-00001-of-00002.safetensors""#, #""model.norm.weight":"gone.safetensors""#,
            #""model.norm.weight":3"#, "",
        ])
    func badIndex(map: String) throws {
        try shards(map)
        #expect(throws: CheckpointError.self) { try Checkpoint.open(folder.path) }
    }

    @Test("what an index and its shards say differently is said of each tensor")
    func contradictions() throws {
        let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
        try shards(#""model.norm.weight":"\#(two)","x":"\#(one)","y":"\#(two)""#)
        let source = try Checkpoint.open(folder.path)
        #expect(source.contradictions.map(\.name) == ["model.norm.weight", "x", "y", "lm_head.weight"])
        let words = ["but in \(folder.path)/\(one)", "nor in another", "nor in another", "but not in the index"]
        for (contradiction, word) in zip(source.contradictions, words) {
            #expect(contradiction.problem.contains(word), "\(contradiction)")
        }
        #expect(source.warnings == source.contradictions.map { "\(folder.path): \($0.problem)" })
    }

    @Test("a shard that is not there is one only if something is in it that is needed")
    func missingShard() throws {
        let (one, gone) = ("model-00001-of-00002.safetensors", "model-00003-of-00003.safetensors")
        try shards(#""model.norm.weight":"\#(one)","lm_head.weight":"\#(gone)""#)
        #expect(throws: CheckpointError.missing(path: "\(folder.path)/\(gone)")) { try Checkpoint.open(folder.path) }
        _ = try folder.write(#"{"tie_word_embeddings": true}"#, "config.json")
        #expect(try Checkpoint.open(folder.path).contradictions.map(\.name) == ["lm_head.weight"])
    }

    @Test("names of CoLA-M become canonical, and two tensors for one name are an error")
    func published() throws {
        _ = try folder.write("{}", "config.json")
        let published: [(name: String, shape: [Int], values: [Float])] = [
            ("model.layers.1.last_layer_post_mlp.post_down_proj.cola_b", [1, 2], [5, 6])
        ]
        _ = try folder.write(safetensors(published), "model.safetensors")
        let source = try Checkpoint.open(folder.path)
        expectSameBits(try elements(source, "model.layers.0.mlp.down_proj.cola_b"), [5, 6])
        let both = published + [("model.layers.0.mlp.down_proj.cola_b", [1, 2], [5, 6])]
        _ = try folder.write(safetensors(both), "model.safetensors")
        #expect(throws: CheckpointError.self) { try Checkpoint.open(folder.path) }
    }

    @Test("pickled weights are refused with a way out, an empty folder with what is missing")
    func pickled() throws {
        _ = try folder.write("{}", "config.json")
        #expect { try Checkpoint.open(folder.path) } throws: { "\($0)".contains("model.safetensors") }
        _ = try folder.write("x", "pytorch_model.bin")
        #expect { try Checkpoint.open(folder.path) } throws: { "\($0)".contains("save_pretrained") }
    }

    @Test("byte-level tokenizer.json first, then tokenizer.model, then any tokenizer.json")
    func tokenizers() throws {
        _ = try folder.write("{}", "config.json")
        _ = try folder.write(safetensors(first), "model.safetensors")
        let source = try Checkpoint.open(folder.path)
        let plain = #"{"model":{"type":"BPE"},"decoder":{"type":"Sequence","decoders":[{"type":"Fuse"}]}}"#
        let byteLevel =
            #"{"model":{"type":"BPE"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"}]}}"#
        _ = try folder.write(plain, "tokenizer.json")
        #expect(try source.tokenizer() == .tokenizerJSON(Array(plain.utf8)))
        _ = try folder.write([1, 2], "tokenizer.model")
        #expect(try source.tokenizer() == .sentencepiece([1, 2]))
        _ = try folder.write(byteLevel, "tokenizer.json")
        #expect(try source.tokenizer() == .tokenizerJSON(Array(byteLevel.utf8)))
        _ = try folder.write("{", "tokenizer.json")
        #expect(throws: CheckpointError.self) { try source.tokenizer() }
    }

    @Test("what is no checkpoint is refused by name of what it is")
    func unknown() throws {
        #expect(throws: CheckpointError.missing(path: "\(folder.path)/gone")) {
            try Checkpoint.open("\(folder.path)/gone")
        }
        for (bytes, word) in [
            ([], "empty"), (Array("PK\u{3}\u{4}xxxx".utf8), "pickled"),
            (Array("hello world, this is text".utf8), "GGUF"),
            ([0x32, 0x34, 0x6B, 0x61, 1, 0, 0, 0], "version"),
            (Array("version https://git-lfs.github.com".utf8), "git-lfs"),
        ] as [([UInt8], String)] {
            let path = try folder.write(bytes, "file")
            #expect { try Checkpoint.open(path) } throws: { "\($0)".contains(word) }
        }
    }
}
