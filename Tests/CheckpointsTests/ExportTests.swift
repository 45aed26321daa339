import Files
import JSON
import TestSupport
import Testing

@testable import Checkpoints

@Suite("Export to Hugging Face folders") struct ExportTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func values(_ shape: [Int], _ start: Int) -> [Float] {
        (0..<shape.reduce(1, *)).map { Float($0 + start) * 0.37 - 3 }
    }

    private func dense() -> MemorySource {
        let shapes: [(String, [Int])] = [
            ("model.embed_tokens.weight", [7, 4]), ("model.norm.weight", [4]),
            ("model.layers.0.self_attn.q_proj.weight", [4, 4]),
        ]
        return MemorySource(
            shapes.enumerated().map { ($1.0, $1.1, values($1.1, 100 * $0)) },
            configuration: ["model_type": "llama", "max_position_embeddings": 9, "bos_token_id": 1, "dtype": "float32"])
    }

    /// Two layers, hidden 4, MLP 6, of the given rank, but for one layer's gate.
    private func cola(rank: Int = 2, other: Int? = nil, change: (inout JSONObject) -> Void = { _ in }) -> MemorySource {
        var tensors: [(name: String, shape: [Int], values: [Float])] = [("model.norm.weight", [4], values([4], 0))]
        for layer in 0..<2 {
            for (module, input, output) in [
                ("self_attn.q_proj", 4, 4), ("self_attn.k_proj", 4, 4), ("self_attn.v_proj", 4, 4),
                ("self_attn.o_proj", 4, 4), ("mlp.gate_proj", 4, 6), ("mlp.up_proj", 4, 6), ("mlp.down_proj", 6, 4),
            ] {
                let rank = layer == 1 && module == "mlp.gate_proj" ? other ?? rank : rank
                let name = "model.layers.\(layer).\(module)"
                tensors.append(("\(name).cola_a", [input, rank], values([input, rank], 3 * tensors.count)))
                tensors.append(("\(name).cola_b", [rank, output], values([rank, output], 5 * tensors.count)))
            }
        }
        var configuration: JSONObject = [
            "model_type": "llama", "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "hidden_act": "silu", "ranks": [:], "only_lr_act": false,
        ]
        change(&configuration)
        return MemorySource(tensors, configuration: .object(configuration))
    }

    /// To the nearest number of seven fraction bits, ties to even.
    private func rounded(_ value: Float) -> Float {
        let bits = value.bitPattern
        return Float(bitPattern: (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000)
    }

    @Test("weights, configuration and tokenizer read back", arguments: [ElementType.f32, .f16, .bf16])
    func roundTrip(type: ElementType) throws {
        let source = dense()
        let tokenizer =
            #"{"added_tokens":[{"id":1,"content":"<s>"}],"model":{"type":"BPE","vocab":{}},"decoder":{"type":"ByteLevel"}}"#
        source.blob = .tokenizerJSON(Array(tokenizer.utf8))
        let target = "\(folder.path)/out"
        let written = try HuggingFaceExporter(type: type, provenance: #"{"tool":"test"}"#).export(source, to: target)
        #expect(
            written
                == ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"].map {
                    "\(target)/\($0)"
                })
        let copy = try Checkpoint.open(target)
        #expect(copy.tensors.map(\.name) == source.tensors.map(\.name))
        #expect(copy.tensors.map(\.shape) == source.tensors.map(\.shape))
        #expect(copy.provenance == #"{"tool":"test"}"#)
        #expect(
            try copy.tokenizer()
                == TokenizerBlob(.tokenizerJSON(Array(tokenizer.utf8)), settings: TokenizerSettings(bosToken: "<s>")))
        for info in copy.tensors {
            #expect(info.storedType == type.rawValue)
            let expected = try elements(source, info.name).map { value -> Float in
                switch type {
                case .f16: Float(Float16(value))
                case .bf16: rounded(value)
                default: value
                }
            }
            expectSameBits(try elements(copy, info.name), expected, info.name)
        }
        let json = try JSONValue(parsing: #require(copy.configuration))
        let names: [ElementType: JSONValue] = [.f32: "float32", .f16: "float16", .bf16: "bfloat16"]
        #expect(json["torch_dtype"] == names[type])
        #expect(json["dtype"] == nil)
        #expect(json["architectures"] == ["LlamaForCausalLM"])
        let settings = try JSONValue(parsing: MappedFile.contents("\(target)/tokenizer_config.json"))
        #expect(settings["bos_token"] == "<s>")
        #expect(settings["model_max_length"] == 9)
    }

    @Test("large models are cut into shards with an index")
    func shards() throws {
        let target = "\(folder.path)/out"
        let source = dense()
        try HuggingFaceExporter(type: .f32, maximumShardBytes: 100).export(source, to: target)
        let index = try MappedFile.json("\(target)/model.safetensors.index.json")
        #expect(index["metadata"]?["total_size"] == 192)
        #expect(index["weight_map"]?["model.norm.weight"] == "model-00002-of-00002.safetensors")
        let copy = try Checkpoint.open(target)
        #expect(copy.formatName == "safetensors, 2 shards")
        for info in source.tensors { expectSameBits(try elements(copy, info.name), try elements(source, info.name)) }
    }

    @Test("the published layouts keep names and orientation", arguments: [HuggingFaceExporter.Layout.cola, .colaM])
    func published(layout: HuggingFaceExporter.Layout) throws {
        let target = "\(folder.path)/out"
        let source = cola()
        try HuggingFaceExporter(layout: layout, type: .f32).export(source, to: target)
        let file = try SafetensorsFile(path: "\(target)/model.safetensors")
        let name =
            layout == .cola
            ? "model.layers.0.mlp.down_proj.cola_b" : "model.layers.1.last_layer_post_mlp.post_down_proj.cola_b"
        #expect(file.tensors.first { $0.name == name }?.shape == [2, 4])
        let copy = try Checkpoint.open(target)
        for info in source.tensors { expectSameBits(try elements(copy, info.name), try elements(source, info.name)) }
        let json = try JSONValue(parsing: #require(copy.configuration))
        #expect(json["model_type"] == "cola")
        #expect(json["architectures"] == [layout == .cola ? "ColaForCausalLM" : "ColaMForCausalLM"])
        #expect(json["rank"] == 2)
        #expect(json["ranks"] == nil)
        #expect(json["only_lr_act"] == false)
        #expect(json["lr_act_type"] == "silu")
    }

    @Test("Factors of families that the published code does not have keep names and configuration")
    func otherFactors() throws {
        let target = "\(folder.path)/out"
        let source = cola(other: 3) {
            $0["model_type"] = "gpt2"
            $0["num_key_value_heads"] = nil
        }
        try HuggingFaceExporter(layout: .cola, type: .f32).export(source, to: target)
        let copy = try Checkpoint.open(target)
        #expect(copy.tensors.map(\.name) == source.tensors.map(\.name))
        for info in source.tensors { expectSameBits(try elements(copy, info.name), try elements(source, info.name)) }
        var expected = try #require(source.configurationValues)
        expected["torch_dtype"] = "float32"
        #expect(copy.configurationValues == expected)
        #expect(error(cola { $0["model_type"] = "qwen3" }, .init(layout: .colaM)).contains("model_type qwen3"))
        let other = MemorySource([("a", [1], [1])], configuration: ["model_type": "gpt2"])
        #expect(error(other, .init(layout: .cola)).contains("use --layout dense"))
    }

    @Test("Further families keep the class that they came with, and have their own where none is named")
    func classes() throws {
        for (index, (stored, expected)) in [("Other", "Other"), (nil, "GPT2LMHeadModel")].enumerated() {
            var configuration: JSONObject = ["model_type": "gpt2"]
            if let stored { configuration["architectures"] = [.string(stored)] }
            var exporter = HuggingFaceExporter(type: .f32)
            exporter.architectures = ["gpt2": "GPT2LMHeadModel"]
            let target = "\(folder.path)/out\(index)"
            try exporter.export(MemorySource([("a", [1], [1])], configuration: .object(configuration)), to: target)
            #expect(try Checkpoint.open(target).configurationValues?["architectures"] == [.string(expected)])
        }
    }

    private func error(_ source: MemorySource, _ exporter: HuggingFaceExporter) -> String {
        do {
            try exporter.export(source, to: "\(folder.path)/out")
            return "none"
        } catch {
            return "\(error)"
        }
    }

    @Test("what a layout cannot express is refused by name, and nothing is written")
    func refused() throws {
        #expect(error(cola(), .init(layout: .dense)).contains("--layout cola"))
        #expect(error(dense(), .init(layout: .cola)).contains("num_hidden_layers"))
        let unequal = error(cola(other: 3), .init(layout: .cola))
        #expect(unequal.contains("layer 1 mlp.gate_proj: rank 3 beside 2"))
        #expect(!unequal.contains("layer 0"))
        let grouped = cola { $0["num_key_value_heads"] = 1 }
        #expect(error(grouped, .init(layout: .colaM)).contains("grouped-query attention in layers 0 to 1"))
        #expect(error(cola { $0["lr_act_type"] = "gelu" }, .init(layout: .cola)).contains("lr_act_type gelu"))
        #expect(error(cola { $0["num_hidden_layers"] = 3 }, .init(layout: .cola)).contains("layer 2 self_attn.q_proj"))
        #expect(error(dense(), .init(type: .f64)).contains("f64"))
        #expect(error(MemorySource([("a", [1], [1])], configuration: nil), .init()).contains("config"))
        #expect(error(MemorySource([("a", [1], [1])], configuration: ["model_type": "gpt2"]), .init()).contains("gpt2"))
        #expect(folder.contents.isEmpty)
    }

    @Test("values that are not finite, or not in the narrower type, are refused and leave no file")
    func range() throws {
        let configuration: JSONValue = ["model_type": "llama"]
        let nan = MemorySource([("a", [2], [0, .nan])], configuration: configuration)
        #expect(error(nan, .init(type: .f32)).contains("a: element 1 is not a finite number"))
        let large = MemorySource([("a", [3], [65504, 0, -65520])], configuration: configuration)
        #expect(error(large, .init(type: .f16)).contains("a: element 2 is beyond the range of f16"))
        #expect(folder.contents == [])
        #expect(throws: CheckpointError.self) { try Checkpoint.open("\(folder.path)/out") }
        #expect(error(large, .init(type: .bf16)) == "none")
    }

    @Test("a folder that holds something is kept unless it may be replaced")
    func replacing() throws {
        let target = "\(folder.path)/out"
        try HuggingFaceExporter(type: .f32, maximumShardBytes: 100).export(dense(), to: target)
        #expect(error(dense(), .init()).contains("not empty"))
        #expect(try Checkpoint.open(target).formatName == "safetensors, 2 shards")
        try HuggingFaceExporter(type: .f16, replacesExisting: true).export(dense(), to: target)
        #expect(try Checkpoint.open(target).formatName == "safetensors")
        #expect(try Checkpoint.open(target).tensors[0].storedType == "f16")
        let own = try Checkpoint.open(target)
        #expect { try HuggingFaceExporter(replacesExisting: true).export(own, to: target) } throws: {
            "\($0)".contains("read from")
        }
        _ = try folder.write("x", "file")
        #expect(throws: CheckpointError.self) { try HuggingFaceExporter().export(dense(), to: "\(folder.path)/file") }
        #expect(throws: CheckpointError.self) { try HuggingFaceExporter().export(dense(), to: "\(folder.path)/file/b") }
    }
}
