import Checkpoints
import Files

extension Family {
    /// GPT-2: LayerNorm, learned positions, a network without a gate, biases everywhere; q, k and v in one matrix, and
    /// matrices stored `[in, out]`.
    static let gpt2 = Family(
        name: "gpt2", summary: "LayerNorm, learned positions, GELU network without gate, biases",
        modelTypes: ["gpt2"],
        describe: { raw throws(TransformerError) in
            let keys = DecoderSizes.Keys(
                hidden: "n_embd", intermediate: "n_inner", blocks: "n_layer", heads: "n_head", keyValueHeads: "n_head")
            let sizes = try DecoderSizes(raw, keys, .init(intermediate: { 4 * $0 }))
            guard sizes.heads * sizes.headSize == sizes.hidden else {
                throw raw.error("n_head", "\(sizes.heads)", "a divisor of n_embd \(sizes.hidden)")
            }
            let norm = NormDescription(
                .layer, epsilon: try raw.epsilon("layer_norm_epsilon", default: 1e-5), hasBias: true)
            let network = FeedForwardDescription(
                width: sizes.intermediate, isGated: false,
                activation: try raw.activation("activation_function", default: .geluTanh))
            let isScaled = try raw.flag("scale_attn_weights") ?? true
            let isScaledByBlock = try raw.flag("scale_attn_by_inverse_layer_idx") ?? false
            // In f32 the order of the operations does not matter.
            _ = raw.value("reorder_and_upcast_attn")
            var model = try ModelDescription(raw, family: "gpt2", sizes: sizes, finalNorm: norm, tiesEmbedding: true) {
                index in
                var attention = sizes.attention
                if !isScaled { attention.scale = 1 }
                if isScaledByBlock { attention.scale /= Float(index + 1) }
                return BlockDescription(
                    index: index, hiddenSize: sizes.hidden,
                    norms: .init(attentionInput: norm, feedForwardInput: norm), attention: attention,
                    feedForward: network
                ) { _ in true }
            }
            let rows = try raw.size("n_positions", default: 1024)
            model.positionRows = rows
            model.maximumPositions = rows
            return model
        }, names: .gpt2, gguf: .gpt2, classes: ["gpt2": "GPT2LMHeadModel"])
}

extension FamilyNames {
    fileprivate static let gpt2 = FamilyNames(
        block: "transformer.h.{}",
        modules: [
            .init(
                "attn.c_attn", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", isTransposed: true),
            .init("attn.c_proj", "self_attn.o_proj", isTransposed: true),
            .init("mlp.c_fc", "mlp.up_proj", isTransposed: true),
            .init("mlp.c_proj", "mlp.down_proj", isTransposed: true),
            .init("ln_1", "input_layernorm"),
            .init("ln_2", "post_attention_layernorm"),
        ],
        ends: [
            .init("transformer.wte", "model.embed_tokens"),
            .init("transformer.wpe", "model.embed_positions"),
            .init("transformer.ln_f", "model.norm"),
        ],
        // Files of the model without a head.
        beginnings: ["h.", "wte.", "wpe.", "ln_f."].map { .init(stored: $0, usual: "transformer." + $0) },
        // The causal mask.
        ignored: [".attn.bias", ".attn.masked_bias"])
}

extension GGUFArchitecture {
    /// Already `[out, in]`; q, k and v stay together.
    fileprivate static let gpt2 = {
        var architecture = GGUFArchitecture("gpt2") { metadata throws(CheckpointError) in
            // Converters write 4 · C whatever it is.
            let written = try metadata.size("feed_forward_length")
            let width = metadata.rows("model.layers.0.mlp.up_proj.weight") ?? written
            return [
                "architectures": ["GPT2LMHeadModel"],
                "model_type": "gpt2",
                "activation_function": "gelu_new",
                "n_embd": .integer(metadata.hiddenSize),
                "n_inner": .integer(width),
                "n_layer": .integer(try metadata.size("block_count")),
                "n_head": .integer(metadata.heads),
                "n_positions": .integer(try metadata.size("context_length")),
                "vocab_size": .integer(try metadata.vocabularySize()),
                "layer_norm_epsilon": .number(try metadata.epsilon("attention.layer_norm_epsilon")),
                // Some files have the embedding once more as a head.
                "tie_word_embeddings": true,
            ]
        }
        architecture.ends["position_embd"] = "model.embed_positions"
        architecture.modules["ffn_gate"] = nil
        architecture.normsHaveBias = true
        architecture.keys = ["attention.layer_norm_epsilon"]
        return architecture
    }()
}
