import Foundation
import JSON
import TestSupport
import Testing

@testable import Checkpoints

@Suite("Families: what is in a checkpoint")
struct FamilyInspectionTests {
    /// What `inspect` must say of a model that is supported.
    struct Case: Sendable, CustomTestStringConvertible {
        let model: String
        let family: String
        let kind: String
        let architecture: String
        /// The paths of the first block's linear layers in the transformers library.
        let sources: [String]
        var testDescription: String { model }
    }

    static let cases = [
        Case(
            model: "gpt2", family: "gpt2", kind: "dense, 12 linear layers", architecture: "gpt2, 2 layers",
            sources: ["attn.c_attn#q", "attn.c_attn#k", "attn.c_attn#v", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
                .map { "transformer.h.0." + $0 }),
        Case(
            model: "gemma3-nested", family: "gemma3", kind: "dense, 21 linear layers",
            architecture: "gemma3_text, 3 layers", sources: gated.map { "model.language_model.layers.0." + $0 }),
        Case(
            model: "qwen3", family: "qwen3", kind: "dense, 14 linear layers", architecture: "qwen3, 2 layers",
            sources: gated.map { "model.layers.0." + $0 }),
    ]

    private static let gated =
        ["q", "k", "v", "o"].map { "self_attn.\($0)_proj" } + ["gate", "up", "down"].map { "mlp.\($0)_proj" }

    @Test("Family, support, and where the transformers library has each linear layer", arguments: cases)
    func supported(_ expected: Case) throws {
        let workplace = try Workplace(families: [expected.model])
        let facts = try workplace.json(.convert, "inspect", expected.model)
        #expect(facts["family"] == .string(expected.family))
        #expect(facts["supported"] == true)
        #expect(facts["missing"] == [])
        #expect(facts["kind"] == .string(expected.kind))
        #expect(facts["architecture"] == .string(expected.architecture))
        let linears = try #require(facts["linear_layers"]?.arrayValue)
        let blocks = Set(linears.compactMap { $0["layer"]?.intValue }).count
        #expect(linears.prefix(linears.count / blocks).compactMap { $0["source"]?.stringValue } == expected.sources)

        let lines = try workplace.succeed(.convert, "inspect", expected.model).split(separator: "\n")
        #expect(lines.contains("family        \(expected.family)"))
        #expect(lines.contains("supported     spectra, ranks, conversion, training, export"))
        #expect(!lines.contains { $0.hasPrefix("missing") })
    }

    @Test("Linear layers of GPT-2 are parts of what its file has, with the shapes that are computed with")
    func fused() throws {
        let workplace = try Workplace(families: ["gpt2"])
        let facts = try workplace.json(.convert, "inspect", "gpt2")
        let rows = try #require(facts["linear_layers"]?.arrayValue).prefix(6).map { row in
            let sizes = ["inputs", "outputs"].map { "\(row[$0]?.intValue ?? -1)" }.joined(separator: " → ")
            return "\(row["module"]?.stringValue ?? "") \(sizes) \(row["bias"] == true ? "bias" : "")"
        }
        #expect(
            rows == [
                "self_attn.q_proj 20 → 20 bias", "self_attn.k_proj 20 → 20 bias", "self_attn.v_proj 20 → 20 bias",
                "self_attn.o_proj 20 → 20 bias", "mlp.up_proj 20 → 80 bias", "mlp.down_proj 80 → 20 bias",
            ])
    }

    // MARK: - What is not supported

    private static let supportedTypes =
        "llama, cola, cola_m, colam, qwen2, mistral, qwen3, gemma3_text, gemma3, gpt2"

    @Test(
        "A family that is not built is named with everything that it would need",
        arguments: [
            ("gpt_neox", ["use_parallel_residual"], ["attention and network side by side in a block"]),
            ("mixtral", ["num_local_experts"], ["mixtures of experts"]),
            (
                "deepseek_v3", ["n_routed_experts", "kv_lora_rank"],
                ["multi-head latent attention (MLA), and mixtures of experts"]
            ),
            ("mamba", [], ["state-space blocks"]), ("unheard_of", [], []),
            ("unheard_of", ["alibi", "num_experts"], []),
        ] as [(String, [String], [String])])
    func unsupported(_ type: String, _ keys: [String], _ lacks: [String]) throws {
        let workplace = try Workplace(families: ["qwen3"])
        try workplace.configure("qwen3", [("model_type", .string(type))] + keys.map { ($0, 8) })
        let reasons = [
            "use_parallel_residual": "attention and network side by side in a block",
            "num_local_experts": "mixtures of experts", "n_routed_experts": "mixtures of experts",
            "num_experts": "mixtures of experts", "kv_lora_rank": "multi-head latent attention",
            "alibi": "positions as biases of scores",
        ]
        let expected =
            ["model_type \(type) is not among \(Self.supportedTypes)"] + lacks
            + keys.map { "\($0): \(reasons[$0] ?? "")" }
        let facts = try workplace.json(.convert, "inspect", "qwen3")
        #expect(facts["family"] == .null)
        #expect(facts["supported"] == false)
        // In which order the keys are told does not matter.
        let missing = try #require(facts["missing"]?.arrayValue).compactMap(\.stringValue)
        #expect(missing.sorted() == expected.sorted())
        #expect(missing.first == expected.first)
        #expect(facts["linear_layers"] == [])

        let lines = try workplace.succeed(.convert, "inspect", "qwen3").split(separator: "\n")
        #expect(lines.contains("family        unknown"))
        for reason in expected { #expect(lines.contains("missing       \(reason)")) }
        #expect(!lines.contains { $0.hasPrefix("supported") })
        try workplace.refuse(
            65, .analyze, ["spectrum", "qwen3", "--tokens", "tokens.u16", "--out", "s", "--quiet"],
            mentions: ["the architecture \(type) is not supported; supported are \(Self.supportedTypes)"])
    }

    @Test("All keys that would change what a LLaMA computes are listed, where other commands stop at the first")
    func keys() throws {
        let workplace = try Workplace(families: ["mistral"])
        try workplace.configure(
            "mistral",
            [
                ("model_type", "llama"), ("sliding_window", nil), ("attn_logit_softcapping", 30.5),
                ("residual_multiplier", 0.25),
            ])
        let nothing = "expected nothing: it would change what the model computes, and is not supported"
        let expected = [
            "attn_logit_softcapping: found 30.5, \(nothing)", "residual_multiplier: found 0.25, \(nothing)",
        ]
        let facts = try workplace.json(.convert, "inspect", "mistral")
        #expect(facts["family"] == "llama" && facts["supported"] == false)
        #expect(try #require(facts["missing"]?.arrayValue).compactMap(\.stringValue) == expected)
        let lines = try workplace.succeed(.convert, "inspect", "mistral").split(separator: "\n")
        #expect(lines.filter { $0.hasPrefix("missing") } == expected.map { "missing       \($0)" })
        try workplace.refuse(
            65, .analyze, ["spectrum", "mistral", "--tokens", "tokens.u16", "--out", "s", "--quiet"],
            mentions: ["mistral: configuration: \(expected[0])"])
    }

    // MARK: - Names and layouts

    @Test("GPT-2's gradients under its own names are the canonical ones, put together and turned round, to the bit")
    func gradientNames() throws {
        let workplace = try Workplace(families: ["gpt2"])
        func gradients(_ names: String, _ length: String) throws -> [String: (shape: [Int], values: [Float])] {
            try workplace.succeed(
                .train, "gradients", "gpt2", "--tokens", "tokens.u16", "--out", "\(names).h5", "--names", names,
                "--sequence-length", length, "--precision", "f32", "--quiet")
            let file = try HDF5Checkpoint(path: workplace.file("\(names).h5"))
            return try Dictionary(
                uniqueKeysWithValues: file.tensors.map { ($0.name, ($0.shape, try file.read($0.name).elements)) })
        }
        let (own, canonical) = (try gradients("own", "19"), try gradients("canonical", "19"))
        // The library's own names, and shapes of weights.
        let stored = try workplace.safetensors("gpt2/model.safetensors").mapValues(\.shape)
        #expect(own.mapValues(\.shape) == stored)
        #expect(canonical.count == 2 + 2 * 16 + 2)

        for block in 0..<2 {
            let (from, to) = ("model.layers.\(block).", "transformer.h.\(block).")
            for (name, parts) in [
                ("attn.c_attn", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
                ("attn.c_proj", ["self_attn.o_proj"]), ("mlp.c_fc", ["mlp.up_proj"]),
                ("mlp.c_proj", ["mlp.down_proj"]),
            ] {
                let biases = try parts.flatMap { try #require(canonical["\(from)\($0).bias"]).values }
                expectEqual(try #require(own["\(to)\(name).bias"]).values, biases, name)
                let weight = try #require(own["\(to)\(name).weight"])
                let rows = try parts.flatMap { try #require(canonical["\(from)\($0).weight"]).values }
                let (inputs, outputs) = (weight.shape[0], weight.shape[1])
                let turned = (0..<inputs * outputs).map { rows[$0 % outputs * inputs + $0 / outputs] }
                expectEqual(weight.values, turned, name)
                #expect(Set(weight.values).count > inputs * outputs / 2, "a gradient of nothing would show nothing")
            }
        }
        expectEqual(
            try #require(own["transformer.wpe.weight"]).values,
            try #require(canonical["model.embed_positions.weight"]).values)
        // Positions beyond the sequences have no gradient, others have: sequences are as long as was asked for.
        let positions = try #require(own["transformer.wpe.weight"]).values
        let used = (0..<32).filter { row in positions[row * 20..<row * 20 + 20].contains { $0 != 0 } }
        #expect(used == Array(0..<18), "a sequence of 19 tokens has 18 that predict one")
    }

    @Test(
        "A model that was imported goes out again as it was: names, shapes and every byte",
        arguments: ["gpt2", "gemma3-nested", "qwen3", "mistral-window"])
    func roundTrip(_ model: String) throws {
        let workplace = try Workplace(families: [model])
        let type = try #require(JSONValue(parsing: workplace.text("\(model)/config.json"))["model_type"])
        try workplace.succeed(.convert, "import", model, "own.h5", "--quiet")
        try workplace.succeed(.convert, "export", "own.h5", "out", "--quiet")
        let (found, expected) = (
            try workplace.safetensors("out/model.safetensors"), try workplace.safetensors("\(model)/model.safetensors")
        )
        #expect(found.keys.sorted() == expected.keys.sorted())
        for (name, tensor) in expected { #expect(found[name] == tensor, "\(name)") }
        #expect(try JSONValue(parsing: workplace.text("out/config.json"))["model_type"] == type)
    }

    @Test("The README's table of families is what the tool says")
    func readme() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../README.md").standardized
        let text = try String(contentsOf: root, encoding: .utf8)
        let parts = text.components(separatedBy: "<!-- families -->\n")
        try #require(parts.count == 2)
        let table = try #require(parts[1].components(separatedBy: "<!-- /families -->").first)
        #expect(try Workplace().succeed(.analyze, "families", "--markdown") == table)
    }
}
