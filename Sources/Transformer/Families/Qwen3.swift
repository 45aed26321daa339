import Checkpoints
import Files

extension Family {
    /// Qwen 3: LLaMA with a norm of each head of q and k before the rotation; heads need not share C among them.
    static let qwen3 = Family(
        name: "qwen3", summary: "as llama, with a norm of each head of q and k; a window in later blocks if used",
        modelTypes: ["qwen3"],
        describe: { raw throws(TransformerError) in
            let hasBias = try raw.flag("attention_bias") ?? false
            return try ModelDescription(
                llamaLike: raw, family: "qwen3", defaults: .init(headSize: 128),
                windows: { blocks throws(TransformerError) in try raw.qwenWindows(blocks) }, hasHeadNorm: true
            ) { [.query, .key, .value, .output].contains($0) && hasBias }
        }, gguf: .qwen3, classes: ["qwen3": "Qwen3ForCausalLM"])
}

extension GGUFArchitecture {
    static let qwen3 = {
        var architecture = GGUFArchitecture("qwen3") { metadata throws(CheckpointError) in
            var values = try metadata.llama(class: "Qwen3ForCausalLM", modelType: "qwen3")
            values["attention_bias"] = .bool(metadata.has("model.layers.0.self_attn.q_proj.bias"))
            return values
        }
        architecture.modules["attn_q_norm"] = "self_attn.q_norm"
        architecture.modules["attn_k_norm"] = "self_attn.k_norm"
        return architecture
    }()
}
