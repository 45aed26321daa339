import Files
import Foundation
import JSON
import TestSupport
import Testing
import Transformer

@testable import Checkpoints

@Suite("GGUF files") struct GGUFTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func open(_ builder: GGUFBuilder) throws -> any TensorSource {
        try Checkpoint.open(folder.write(builder.bytes, "model.gguf"), architectures: Family.architectures)
    }

    private func configuration(_ builder: GGUFBuilder) throws -> JSONValue {
        try JSONValue(parsing: #require(open(builder).configuration))
    }

    /// `quantized.gguf` was written by GGUFWriter of the Python package gguf 0.19.0: two rows of random blocks (with random
    /// normal half-precision scales) of each type as `blk.N.ffn_up.weight`; `quantized.f32` is what its `dequantize` gives.
    @Test("every type is dequantised to the bits that the gguf package gives")
    func dequantize() throws {
        let source = try Checkpoint.open(fixture("quantized.gguf"), architectures: Family.architectures)
        let expected = try Data(contentsOf: URL(fileURLWithPath: fixture("quantized.f32"))).withUnsafeBytes {
            Array($0.bindMemory(to: Float.self))
        }
        let types = [
            "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "f32", "f16", "bf16", "f64",
        ]
        var start = 0
        for (layer, type) in types.enumerated() {
            let name = "model.layers.\(layer).mlp.up_proj.weight"
            let info = try #require(source.info(name))
            #expect(info.storedType == type)
            #expect(info.shape[0] == 2)
            let end = start + info.count
            expectSameBits(try elements(source, name), expected[start..<end], type)
            expectSameBits(
                try elements(source, name, rows: 1..<2), expected[start + info.shape[1]..<end], "\(type), row 1")
            start = end
        }
        #expect(start == expected.count)
    }

    /// The row of a half-split head that the interleaved one holds at `row`.
    private static let order = [0, 2, 1, 3]

    @Test("rows of q and k come back in half-split order, whole and in part", arguments: [false, true])
    func rotation(biases: Bool) throws {
        let builder = GGUFBuilder.model(biases: biases)
        let source = try open(builder)
        for (name, heads) in [("q", 2), ("k", 1), ("v", 0)] {
            for kind in biases ? ["weight", "bias"] : ["weight"] {
                let stored = try #require(builder.tensors.first { $0.name == "blk.0.attn_\(name).\(kind)" })
                let rows = stored.shape[0]
                let width = stored.values.count / rows
                // By hand: pairs (0, 1), (2, 3) of a head become (0, 2), (1, 3).
                let expected = (0..<rows).flatMap { row -> ArraySlice<Float> in
                    let from = heads == 0 ? row : row / 4 * 4 + Self.order[row % 4]
                    return stored.values[from * width..<(from + 1) * width]
                }
                let canonical = "model.layers.0.self_attn.\(name)_proj.\(kind)"
                expectSameBits(try elements(source, canonical), expected, canonical)
                expectSameBits(
                    try elements(source, canonical, rows: 1..<3), expected[width..<3 * width],
                    "\(canonical), rows 1..<3")
            }
        }
    }

    @Test("qwen2 rows stay as they are")
    func qwen() throws {
        let builder = GGUFBuilder.model(architecture: "qwen2", biases: true)
        let source = try open(builder)
        let stored = try #require(builder.tensors.first { $0.name == "blk.0.attn_q.weight" })
        expectSameBits(try elements(source, "model.layers.0.self_attn.q_proj.weight"), stored.values)
        let json = try configuration(builder)
        #expect(json["model_type"] == "qwen2")
        #expect(json["architectures"] == ["Qwen2ForCausalLM"])
        #expect(json["attention_bias"] == nil)
    }

    @Test("all names are mapped, and the configuration has Hugging Face's keys")
    func names() throws {
        let source = try open(.model())
        let layer = "model.layers.0."
        #expect(
            Set(source.tensors.map(\.name)) == [
                "model.embed_tokens.weight", "model.norm.weight", layer + "input_layernorm.weight",
                layer + "post_attention_layernorm.weight", layer + "self_attn.q_proj.weight",
                layer + "self_attn.k_proj.weight", layer + "self_attn.v_proj.weight", layer + "self_attn.o_proj.weight",
                layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight", layer + "mlp.down_proj.weight",
            ])
        #expect(source.formatName == "GGUF v3")
        let expected: JSONValue = [
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 8,
            "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 4, "max_position_embeddings": 64, "vocab_size": 5, "rms_norm_eps": 1e-05,
            "rope_theta": 500000.0, "rope_scaling": nil, "tie_word_embeddings": true, "attention_bias": false,
            "mlp_bias": false,
        ]
        #expect(try configuration(.model()) == expected)
    }

    @Test("version 2, other alignments, values of every type and a head of its own")
    func variants() throws {
        var builder = GGUFBuilder.model()
        builder.version = 2
        builder.alignment = 64
        builder.set("general.alignment", .u32(64))
        let values: [GGUFBuilder.Value] = [
            .u8(1), .i8(-1), .u16(2), .i16(-2), .i32(-3), .u64(4), .i64(-4), .f64(0.5), .bool(true), .texts(["a", ""]),
            .i32s([1, 2]), .f32s([1]), .nested([[1, 2], []]),
        ]
        for (index, value) in values.enumerated() { builder.set("x.\(index)", value) }
        builder.set("tokenizer.ggml.bos_token_id", .u32(1))
        builder.set("llama.feed_forward_length", .i32s([6]))
        builder.tensors.append(("output.weight", [5, 8], (0..<40).map { Float($0) }))
        let source = try open(builder)
        #expect(source.formatName == "GGUF v2")
        expectSameBits(try elements(source, "lm_head.weight", rows: 2..<3), (16..<24).map { Float($0) })
        let json = try configuration(builder)
        #expect(json["tie_word_embeddings"] == false)
        #expect(json["bos_token_id"] == 1)
        #expect(json["intermediate_size"] == 6)
    }

    @Test("linear scaling of the rotation")
    func linear() throws {
        var builder = GGUFBuilder.model()
        builder.set("llama.rope.scaling.type", .text("linear"))
        builder.set("llama.rope.scaling.factor", .f32(4))
        #expect(try configuration(builder)["rope_scaling"] == ["rope_type": "linear", "factor": 4.0])
        builder.set("llama.rope.scaling.type", .text("yarn"))
        #expect(throws: CheckpointError.self) { try open(builder) }
    }

    @Test("LLaMA 3's scaling is recovered from its divisors, or refused", arguments: [8.0, 32.0])
    func llama3(factor: Double) throws {
        // Head size 64 and base 500000, as in LLaMA 3.2; the divisors by the formula of its configuration.
        let divisors = (0..<32).map { index -> Float in
            let wavelength = 2 * Double.pi * pow(500000, Double(index) / 32)
            if wavelength < 8192 / 4 { return 1 }
            if wavelength > 8192 { return Float(factor) }
            let smooth = (8192 / wavelength - 1) / 3
            return Float(1 / ((1 - smooth) / factor + smooth))
        }
        var builder = GGUFBuilder.model()
        builder.set("llama.embedding_length", .u32(128))
        builder.tensors = [
            ("token_embd.weight", [2, 128], [Float](repeating: 0, count: 256)), ("rope_freqs.weight", [32], divisors),
        ]
        let expected: JSONValue = [
            "rope_type": "llama3", "factor": .number(factor), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        ]
        #expect(try configuration(builder)["rope_scaling"] == expected)
        #expect(try open(builder).tensors.count == 1)

        builder.tensors[1].values[20] *= 1.001
        #expect(throws: CheckpointError.self) { try open(builder) }
        builder.tensors[1].values = [Float](repeating: 1, count: 32)
        #expect(try configuration(builder)["rope_scaling"] == .null)
        builder.tensors[1] = ("rope_freqs.weight", [16], [Float](repeating: 1, count: 16))
        #expect(throws: CheckpointError.self) { try open(builder) }
    }

    @Test(
        "metadata that no LLaMA has are refused, and the error says where",
        arguments: [
            ("general.architecture", .text("gemma2"), "gemma2"), ("general.architecture", nil, "architecture"),
            ("llama.block_count", nil, "block_count"), ("llama.embedding_length", .u32(0), "embedding_length"),
            ("llama.embedding_length", .text("8"), "embedding_length"), ("llama.attention.head_count", .u32(3), "head"),
            ("llama.attention.head_count_kv", .i32s([1, 2]), "head_count_kv"),
            ("llama.attention.head_count_kv", .u32(4), "attn_k"), ("llama.rope.dimension_count", .u32(2), "dimension"),
            ("llama.attention.layer_norm_rms_epsilon", nil, "epsilon"), ("llama.expert_count", .u32(8), "experts"),
            ("llama.rope.freq_base", .f32(.nan), "freq_base"), ("split.count", .u16(3), "split.no"),
            ("general.alignment", .u32(48), "alignment"),
        ] as [(String, GGUFBuilder.Value?, String)])
    func metadata(key: String, value: GGUFBuilder.Value?, word: String) throws {
        var builder = GGUFBuilder.model()
        builder.set(key, value)
        #expect { try open(builder) } throws: { ($0 as? CheckpointError)?.description.contains(word) ?? false }
    }

    @Test("tensors without elements, of types that are not read and of other models are listed under their names")
    func others() throws {
        var builder = GGUFBuilder.model()
        builder.tensors.insert(("blk.0.marker", [0], []), at: 0)
        builder.tensors.insert(("blk.0.ffn_gate_inp.weight", [1, 8], [Float](repeating: 2, count: 8)), at: 4)
        builder.tensors.append(("later", [3, 8], [Float](repeating: 1, count: 24)))
        builder.tensors.append(("half", [8, 4], [Float](repeating: 1, count: 9)))
        builder.tensors.append(("blk.0.nothing", [5, 0], []))
        builder.types = ["later": 99, "half": 39, "blk.0.nothing": 99, "blk.0.marker": 20]
        let source = try open(builder)
        let names = ["blk.0.marker", "blk.0.ffn_gate_inp.weight", "later", "half", "blk.0.nothing"]
        let found = names.compactMap { source.info($0) }
        #expect(found.map(\.storedType) == ["IQ4_NL", "f32", "type 99", "MXFP4", "type 99"])
        #expect(found.map(\.shape) == [[0], [1, 8], [3, 8], [8, 4], [5, 0]])
        // A tensor of an unknown type reaches to the next one, or to the end.
        #expect(found.map(\.storedBytes) == [0, 32, 96, 64, 0])
        expectSameBits(try elements(source, names[1]), [Float](repeating: 2, count: 8))
        for name in ["later", "half"] { #expect { try source.read(name) } throws: { "\($0)".contains(name) } }
        for (name, values) in [
            ("output_norm.weight", "model.norm.weight"), ("token_embd.weight", "model.embed_tokens.weight"),
        ] {
            let expected = try #require(builder.tensors.first { $0.name == name }).values
            expectSameBits(try elements(source, values), expected, name)
        }
    }

    @Test("extents whose product does not fit are refused, also where one is 0", arguments: [0, 1, 99] as [UInt32])
    func extents(type: UInt32) throws {
        for shape in [[1 << 62, 1 << 62, 0], [0, 1 << 62, 1 << 62], [1 << 62, 16], [1 << 61]] {
            var builder = GGUFBuilder.model()
            builder.tensors.append(("x", shape, [1, 2, 3]))
            builder.types = ["x": type]
            #expect(throws: CheckpointError.self) { try open(builder) }
        }
    }

    @Test("values of the architecture that have no key of Hugging Face's keep their own")
    func otherValues() throws {
        var builder = GGUFBuilder.model()
        builder.set("llama.attention.scale", .f32(0.25))
        builder.set("llama.attention.causal", .bool(true))
        builder.set("llama.expert_used_count", .u32(0))
        builder.set("llama.rope.dimension_sections", .i32s([1, 2]))
        builder.set("general.file_type", .u32(1))
        let values = try configuration(builder)
        #expect(values["llama.attention.scale"] == 0.25 && values["llama.attention.causal"] == true)
        #expect(values["llama.expert_used_count"] == 0)
        #expect(values["llama.rope.dimension_sections"] == "an array of 2 values")
        #expect(values["general.file_type"] == nil && values["llama.block_count"] == nil)
    }

    @Test("tensors that stand twice or overlap are refused")
    func directory() throws {
        var builder = GGUFBuilder.model()
        builder.tensors.append(builder.tensors[0])
        #expect { try open(builder) } throws: { "\($0)".contains("second time") }
        // The offset of the second tensor stands behind its name, one extent and its type.
        var bytes = GGUFBuilder.model().bytes
        let name = Array("blk.0.attn_norm.weight".utf8)
        let place = try #require(bytes.indices.first { bytes[$0...].starts(with: name) }) + name.count + 4 + 8 + 4
        for (byte, word) in [(UInt8(0), "ends"), (16, "multiple")] {
            bytes[place] = byte
            let path = try folder.write(bytes, "model.gguf")
            #expect { try GGUFFile(path: path, architectures: Family.architectures) } throws: { "\($0)".contains(word) }
        }
        bytes[place - 4] = 16
        bytes[place] = 160
        let path = try folder.write(bytes, "model.gguf")
        #expect(
            try GGUFFile(path: path, architectures: Family.architectures).info("model.layers.0.input_layernorm.weight")?
                .storedType == "IQ2_XXS")
    }

    @Test("absurd counts are refused without memory for them")
    func counts() throws {
        let bytes = GGUFBuilder.model().bytes
        for place in [8, 16] {
            for count in [UInt64.max, UInt64(Int.max), 1 << 40] {
                let damaged = bytes[..<place] + littleEndian([count]) + bytes[(place + 8)...]
                let path = try folder.write(Array(damaged), "model.gguf")
                #expect(throws: CheckpointError.self) { try GGUFFile(path: path, architectures: Family.architectures) }
            }
        }
        let swapped = try folder.write(Array("GGUF".utf8) + [0, 0, 0, 3] + [UInt8](repeating: 0, count: 64), "big")
        #expect { try GGUFFile(path: swapped, architectures: Family.architectures) } throws: {
            "\($0)".contains("big-endian")
        }
    }

    @Test("damaged files never trap, and no file cut short is accepted")
    func damage() throws {
        var builder = GGUFBuilder.model(biases: true)
        GGUFTokenizerTests.addByteLevel(&builder, pre: "smollm")
        // The last tensor fills its alignment, so that every byte of the file counts.
        #expect(builder.tensors.last?.values.count == 8)
        let bytes = builder.bytes
        let result = try fuzz(bytes, name: "model.gguf", rounds: 4000, seed: 3) {
            try GGUFFile(path: $0, architectures: Family.architectures)
        }
        #expect(result.truncationsAccepted == 0)
        #expect(result.refused > 1500)
    }
}
