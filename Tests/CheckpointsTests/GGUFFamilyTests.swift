import Files
import JSON
import TestSupport
import Testing
import Transformer

@testable import Checkpoints

@Suite("GGUF files of the families") struct GGUFFamilyTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func open(_ builder: GGUFBuilder, _ name: String = "model.gguf") throws -> any TensorSource {
        try openModel(folder.write(builder.bytes, name))
    }

    private func configuration(_ builder: GGUFBuilder) throws -> JSONValue {
        try JSONValue(parsing: #require(open(builder).configuration))
    }

    /// Hidden size 8, two heads of size 4, one layer.
    private static func begun(_ name: String, _ metadata: [(String, GGUFBuilder.Value)]) -> GGUFBuilder {
        let common: [(String, GGUFBuilder.Value)] = [
            ("block_count", .u32(1)), ("context_length", .u32(16)), ("embedding_length", .u32(8)),
            ("feed_forward_length", .u32(6)), ("attention.head_count", .u32(2)),
        ]
        return GGUFBuilder(
            metadata: [("general.architecture", .text(name))] + (common + metadata).map { ("\(name).\($0)", $1) },
            tensors: [])
    }

    private static let gpt2File = {
        var builder = begun("gpt2", [("attention.layer_norm_epsilon", .f32(1e-5))])
        builder.add("token_embd.weight", [5, 8])
        builder.add("position_embd.weight", [16, 8])
        for (name, shape) in [
            ("attn_norm", [8]), ("attn_qkv", [24, 8]), ("attn_output", [8, 8]), ("ffn_norm", [8]), ("ffn_up", [6, 8]),
            ("ffn_down", [8, 6]),
        ] {
            builder.add("blk.0.\(name).weight", shape)
            builder.add("blk.0.\(name).bias", [shape[0]])
        }
        builder.add("output_norm.weight", [8])
        builder.add("output_norm.bias", [8])
        return builder
    }()

    /// Like LLaMA, with norms of heads of size 6, one of keys and values.
    private static func headNorms(_ name: String, _ metadata: [(String, GGUFBuilder.Value)]) -> GGUFBuilder {
        var builder = begun(
            name,
            [
                ("attention.head_count_kv", .u32(1)), ("attention.layer_norm_rms_epsilon", .f32(1e-6)),
                ("attention.key_length", .u32(6)), ("attention.value_length", .u32(6)),
                ("rope.freq_base", .f32(1_000_000)),
            ] + metadata)
        builder.add("token_embd.weight", [5, 8])
        for (name, shape) in [
            ("attn_norm", [8]), ("attn_q", [12, 8]), ("attn_k", [6, 8]), ("attn_v", [6, 8]), ("attn_output", [8, 12]),
            ("attn_q_norm", [6]), ("attn_k_norm", [6]), ("ffn_norm", [8]), ("ffn_gate", [6, 8]), ("ffn_up", [6, 8]),
            ("ffn_down", [8, 6]),
        ] { builder.add("blk.0.\(name).weight", shape) }
        builder.add("output_norm.weight", [8])
        return builder
    }

    private static let gemma3File = {
        var builder = headNorms("gemma3", [("attention.sliding_window", .u32(512))])
        builder.add("blk.0.post_attention_norm.weight", [8])
        builder.add("blk.0.post_ffw_norm.weight", [8])
        return builder
    }()

    /// Loads all weights, which checks every name and shape.
    private func load(_ source: any TensorSource) throws -> ModelWeights {
        try ModelWeights(from: source, ModelDescription(of: source))
    }

    // MARK: - GPT-2

    @Test("GPT-2: q, k and v are rows of one tensor, norms have biases, positions are there")
    func gpt2() throws {
        let builder = Self.gpt2File
        let source = try open(builder)
        let weights = try load(source)
        #expect(weights.description.positionRows == 16 && weights.description.tiesEmbedding)
        for (kind, width) in [("weight", 8), ("bias", 1)] {
            let stored = try #require(builder.values("blk.0.attn_qkv.\(kind)"))
            for (index, part) in ["q", "k", "v"].enumerated() {
                let name = "model.layers.0.self_attn.\(part)_proj.\(kind)"
                let expected = stored[index * 8 * width..<(index + 1) * 8 * width]
                expectSameBits(try elements(source, name), expected, name)
                expectSameBits(
                    try elements(source, name, rows: 3..<5), expected.dropFirst(3 * width).prefix(2 * width), name)
                #expect(source.info(name)?.storedBytes == 32 * width)
            }
        }
        for (own, canonical) in [
            ("position_embd.weight", "model.embed_positions.weight"), ("output_norm.bias", "model.norm.bias"),
            ("blk.0.ffn_norm.bias", "model.layers.0.post_attention_layernorm.bias"),
            ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"),
        ] { expectSameBits(try elements(source, canonical), try #require(builder.values(own)), own) }
        let expected: JSONValue = [
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new", "n_embd": 8,
            "n_inner": 6, "n_layer": 1, "n_head": 2, "n_positions": 16, "vocab_size": 5, "layer_norm_epsilon": 1e-05,
            "tie_word_embeddings": true,
        ]
        #expect(try configuration(builder) == expected)
    }

    @Test("GPT-2: a head that is the embedding once more is tied, another one is not")
    func head() throws {
        var builder = Self.gpt2File
        builder.tensors.append(("output.weight", [5, 8], try #require(builder.values("token_embd.weight"))))
        #expect(try load(open(builder)).description.tiesEmbedding)
        builder.tensors[builder.tensors.count - 1].values[39] += 1
        let source = try open(builder)
        #expect(try !load(source).description.tiesEmbedding)
        #expect(source.warnings.contains { $0.contains("other values than the embedding") })
    }

    // MARK: - Qwen 3 and Gemma 3

    @Test("Qwen 3: norms of heads, heads of their own size, rows as they are")
    func qwen3() throws {
        let builder = Self.headNorms("qwen3", [])
        let source = try open(builder)
        let attention = try load(source).description.blocks[0].attention
        #expect(attention.headSize == 6 && attention.headNorm != nil && attention.rotary?.base == 1e6)
        for (own, canonical) in [("attn_q_norm", "q_norm"), ("attn_k_norm", "k_norm"), ("attn_q", "q_proj")] {
            expectSameBits(
                try elements(source, "model.layers.0.self_attn.\(canonical).weight"),
                try #require(builder.values("blk.0.\(own).weight")), own)
        }
        let json = try configuration(builder)
        #expect(json["model_type"] == "qwen3" && json["architectures"] == ["Qwen3ForCausalLM"])
    }

    @Test("Gemma 3: 1 is taken off the weights of all norms and of nothing else")
    func gemma3() throws {
        let builder = Self.gemma3File
        let source = try open(builder)
        let block = try load(source).description.blocks[0]
        #expect(block.norms.attentionOutput?.offset == 1 && block.attention.window == 512)
        let names = [
            "output_norm": "norm", "blk.0.attn_norm": "layers.0.input_layernorm",
            "blk.0.ffn_norm": "layers.0.post_attention_layernorm",
            "blk.0.post_attention_norm": "layers.0.norms.attention_out",
            "blk.0.post_ffw_norm": "layers.0.norms.mlp_out",
            "blk.0.attn_q_norm": "layers.0.self_attn.q_norm", "blk.0.attn_k_norm": "layers.0.self_attn.k_norm",
        ]
        for (own, canonical) in names {
            let stored = try #require(builder.values(own + ".weight"))
            let name = "model.\(canonical).weight"
            expectSameBits(try elements(source, name), stored.map { $0 - 1 }, name)
            expectSameBits(try elements(source, name, rows: 2..<5), stored[2..<5].map { $0 - 1 }, name)
        }
        for (own, canonical) in [("attn_v", "self_attn.v_proj"), ("ffn_gate", "mlp.gate_proj")] {
            expectSameBits(
                try elements(source, "model.layers.0.\(canonical).weight"),
                try #require(builder.values("blk.0.\(own).weight")), own)
        }
        let expected: JSONValue = [
            "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": 8,
            "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 6, "max_position_embeddings": 16, "vocab_size": 5, "rms_norm_eps": 1e-06,
            "rope_theta": 1_000_000.0, "rope_scaling": nil, "tie_word_embeddings": true,
            "hidden_activation": "gelu_pytorch_tanh", "rope_local_base_freq": 10000.0, "sliding_window": 512,
            "query_pre_attn_scalar": 6, "sliding_window_pattern": 6,
        ]
        #expect(try configuration(builder) == expected)
    }

    @Test("Gemma 3: the scale of the 27B model, and what newer files say by themselves")
    func gemma3Variants() throws {
        var builder = Self.gemma3File
        builder.set("gemma3.block_count", .u32(62))
        #expect(try configuration(builder)["query_pre_attn_scalar"] == 4)
        builder.set("gemma3.block_count", .u32(1))
        builder.set("gemma3.rope.freq_base_swa", .f32(5000))
        builder.set("gemma3.rope.scaling.type", .text("linear"))
        builder.set("gemma3.rope.scaling.factor", .f32(8))
        builder.set("gemma3.attention.sliding_window_pattern", .u32(2))
        builder.set("gemma3.attention.causal", .bool(true))
        var json = try configuration(builder)
        #expect(json["rope_local_base_freq"] == 5000.0 && json["sliding_window_pattern"] == 2)
        #expect(json["rope_scaling"] == ["rope_type": "linear", "factor": 8.0])
        let block = try load(open(builder)).description.blocks[0]
        #expect(
            block.attention.rotary?.base == 5000 && block.attention.rotary?.scaling == RotaryConfiguration.Scaling.none)
        builder.set("gemma3.attention.sliding_window_pattern", .bools([false]))
        json = try configuration(builder)
        #expect(json["layer_types"] == ["full_attention"] && json["sliding_window_pattern"] == nil)
        #expect(try load(open(builder)).description.blocks[0].attention.rotary?.scaling == .linear(factor: 8))
        builder.set("gemma3.attention.causal", .bool(false))
        #expect { try load(open(builder)) } throws: { "\($0)".contains("gemma3.attention.causal") }
    }

    // MARK: - Fused q, k and v

    @Test("In a file of LLaMA that fuses them, q, k and v are what they are one by one")
    func fused() throws {
        let single = GGUFBuilder.model(biases: true)
        var builder = single
        for kind in ["weight", "bias"] {
            let names = ["q", "k", "v"].map { "blk.0.attn_\($0).\(kind)" }
            let values = try names.flatMap { try #require(single.values($0)) }
            builder.tensors.removeAll { names.contains($0.name) }
            builder.tensors.append(("blk.0.attn_qkv.\(kind)", kind == "weight" ? [16, 8] : [16], values))
        }
        let (expected, source) = (try open(single, "single.gguf"), try open(builder))
        #expect(Set(source.tensors.map(\.name)) == Set(expected.tensors.map(\.name)))
        for info in expected.tensors {
            #expect(source.info(info.name) == info)
            expectSameBits(try elements(source, info.name), try elements(expected, info.name), info.name)
        }
        // Beside the parts it is a tensor that such a model does not have.
        builder.tensors.append(try #require(single.tensors.first { $0.name == "blk.0.attn_k.weight" }))
        #expect(try open(builder).info("blk.0.attn_qkv.weight")?.shape == [16, 8])
    }

    @Test("Fused rows that are not those of the heads are refused")
    func fusedShape() throws {
        var builder = Self.gpt2File
        let index = try #require(builder.tensors.firstIndex { $0.name == "blk.0.attn_qkv.weight" })
        builder.tensors[index] = ("blk.0.attn_qkv.weight", [23, 8], [Float](repeating: 0, count: 184))
        #expect { try open(builder) } throws: {
            "\($0)".contains("blk.0.attn_qkv.weight: [23, 8] of f32, expected rows of 8 + 8 + 8 for q, k and v")
        }
    }

    @Test("Damaged files never trap, and no file cut short is accepted", arguments: [gpt2File, gemma3File])
    func damage(builder: GGUFBuilder) throws {
        // The last tensor fills its alignment, so that every byte of the file counts.
        #expect(builder.tensors.last?.values.count == 8)
        let result = try fuzz(builder.bytes, name: "model.gguf", rounds: 1500, seed: 5) { try openModel($0) }
        #expect(result.truncationsAccepted == 0)
        #expect(result.refused > 500)
    }

    @Test("Without the families no architecture is known, which the error says")
    func unknown() throws {
        let path = try folder.write(GGUFBuilder.model().bytes, "model.gguf")
        #expect { try Checkpoint.open(path) } throws: { "\($0)".contains("general.architecture: found llama") }
    }
}
