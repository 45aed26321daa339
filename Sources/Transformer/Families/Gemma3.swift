import Checkpoints
import Files

extension Family {
    /// Gemma 3: norms of weight 1 + w before and behind both parts of a block and of each head, a window in all blocks but
    /// every sixth, with rotations of their own, and embeddings times √C. Also inside models that see, whose `text_config`
    /// leaves sizes out that are the family's.
    static let gemma3 = Family(
        name: "gemma3",
        summary: "norms 1 + w before and behind, of heads too; windows by pattern, two rotations, embedding times √C",
        modelTypes: ["gemma3_text", "gemma3"],
        describe: { raw throws(TransformerError) in
            let sizes = try DecoderSizes(raw, .init(), .init(heads: 8, keyValueHeads: 4, headSize: 256))
            let norm = NormDescription(.rms, epsilon: try raw.epsilon("rms_norm_eps", default: 1e-6), offset: 1)
            let network = FeedForwardDescription(
                width: sizes.intermediate, activation: try raw.activation("hidden_activation", default: .geluTanh))
            let hasBias = try raw.flag("attention_bias") ?? false
            let window = raw.has("sliding_window") ? try raw.windowSize() : 4096
            let pattern = try raw.gemmaPattern()
            let windows = try raw.windows(window, blocks: sizes.blocks) { ($0 + 1) % pattern != 0 }
            let (full, local) = try raw.gemmaRotations()
            for rotary in [full, local] { try raw.check(rotary, headSize: sizes.headSize) }
            let scalar = try raw.number("query_pre_attn_scalar") ?? 256
            guard scalar > 0 else { throw raw.error("query_pre_attn_scalar", "\(scalar)", "a positive number") }
            var model = try ModelDescription(raw, family: "gemma3", sizes: sizes, finalNorm: norm, tiesEmbedding: true)
            {
                index in
                var attention = sizes.attention
                attention.scale = Float(1 / scalar.squareRoot())
                attention.window = windows[index]
                attention.rotary = windows[index] == nil ? full : local
                attention.headNorm = norm
                return BlockDescription(
                    index: index, hiddenSize: sizes.hidden,
                    norms: .init(
                        attentionInput: norm, attentionOutput: norm, feedForwardInput: norm, feedForwardOutput: norm),
                    attention: attention, feedForward: network
                ) { [.query, .key, .value, .output].contains($0) && hasBias }
            }
            model.embeddingScale = Float(sizes.hidden).squareRoot()
            return model
        }, names: .gemma3, gguf: .gemma3, textKey: "text_config",
        classes: ["gemma3_text": "Gemma3ForCausalLM", "gemma3": "Gemma3ForConditionalGeneration"])
}

extension FamilyNames {
    fileprivate static let gemma3 = FamilyNames(
        modules: [
            .init("post_attention_layernorm", "norms.attention_out"),
            .init("pre_feedforward_layernorm", "post_attention_layernorm"),
            .init("post_feedforward_layernorm", "norms.mlp_out"),
        ],
        // Inside models that see, whose other parts are kept under their names.
        beginnings: [
            .init(stored: "language_model.model.", usual: "model.", savedBy: ["gemma3"]),
            .init(stored: "language_model.lm_head.", usual: "lm_head.", savedBy: ["gemma3"]),
            .init(stored: "model.language_model.", usual: "model.", pathsOf: ["gemma3"]),
            .init(stored: "model.vision_tower.", usual: "vision_tower."),
            .init(stored: "model.multi_modal_projector.", usual: "multi_modal_projector."),
            .init(stored: "language_model.", usual: "model."),
        ])
}

extension GGUFArchitecture {
    /// Weights of norms as 1 + w. What such files leave out is the family's own.
    fileprivate static let gemma3 = {
        var architecture = GGUFArchitecture("gemma3") { metadata throws(CheckpointError) in
            var values = try metadata.llama(class: "Gemma3ForCausalLM", modelType: "gemma3_text")
            values["hidden_act"] = nil
            values["hidden_activation"] = "gelu_pytorch_tanh"
            values["rope_local_base_freq"] = .number(try metadata.number("rope.freq_base_swa") ?? 10000)
            values["sliding_window"] = try metadata.count("attention.sliding_window").map { .integer($0) } ?? .null
            // Of the 27B model alone another scale.
            let (heads, blocks) = (metadata.heads, try metadata.size("block_count"))
            let scalar = blocks == 62 ? metadata.hiddenSize / heads : metadata.headSize
            values["query_pre_attn_scalar"] = .integer(scalar)
            if metadata.isArray("attention.sliding_window_pattern") {
                let kinds = try metadata.flags("attention.sliding_window_pattern") ?? []
                values["layer_types"] = .array(kinds.map { $0 ? "sliding_attention" : "full_attention" })
            } else {
                values["sliding_window_pattern"] = .integer(try metadata.count("attention.sliding_window_pattern") ?? 6)
            }
            return values
        }
        let names = [
            "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
            "post_attention_norm": "norms.attention_out", "post_ffw_norm": "norms.mlp_out",
        ]
        for (name, module) in names { architecture.modules[name] = module }
        architecture.normOffset = 1
        architecture.hasWindow = true
        architecture.keys = ["rope.freq_base_swa", "attention.sliding_window_pattern"]
        return architecture
    }()
}

extension ConfigurationText {
    /// Every how many blocks one sees all earlier tokens. Files of both kinds of names exist.
    fileprivate func gemmaPattern() throws(TransformerError) -> Int {
        let stored = try size("_sliding_window_pattern", default: 6)
        return try size("sliding_window_pattern", default: stored)
    }

    /// The rotation of blocks that see all earlier tokens, which alone is scaled, and that of those with a window.
    fileprivate func gemmaRotations() throws(TransformerError) -> (
        full: RotaryConfiguration, local: RotaryConfiguration
    ) {
        let full = try RotaryConfiguration(self, .init(base: 1e6))
        let base = try number("rope_local_base_freq") ?? 10000
        guard base > 0 else { throw error("rope_local_base_freq", "\(base)", "a positive number") }
        guard try RotaryValues.areNested(self) else {
            return (full, RotaryConfiguration(base: base, share: full.share))
        }
        return (full, try RotaryConfiguration(self, kind: "sliding_attention", .init(base: base)))
    }
}
