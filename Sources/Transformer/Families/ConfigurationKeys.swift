import JSON

/// The keys of a configuration: which are read, which say nothing about the arithmetic of a decoder of the LLaMA type, and
/// which value of the others changes nothing.
///
/// A key that would change the arithmetic and is not read is refused by name. A key that nobody has heard of is judged by
/// its words: what sounds like a scale, a cap, a norm, a rotation is refused, anything else is left alone. A key whose
/// value is null is as good as absent.
enum ConfigurationKeys {
    /// An error for every key that changes the arithmetic and is not read.
    static func obstacles(_ raw: ConfigurationText, _ model: ModelDescription) -> [TransformerError] {
        raw.members.compactMap { key, value in
            guard !value.isNull, !isUsed(raw, key), !isHarmless(key) else { return nil }
            // Values of a GGUF file that have no other key stand behind the name of its architecture.
            let plain = key.firstIndex(of: ".").map { String(key[key.index(after: $0)...]) }
            if let rule = rules[key] ?? plain.flatMap({ rules[$0] }) {
                return rule.isNeutral(value, model) ? nil : raw.error(key, brief(value), rule.expected(model))
            }
            guard changesArithmetic(key), !isOff(key, value) else { return nil }
            return raw.error(
                key, brief(value), "nothing: it would change what the model computes, and is not supported")
        }
    }

    /// Whether a family or a reader of checkpoints has taken the key into account.
    private static func isUsed(_ raw: ConfigurationText, _ key: String) -> Bool {
        raw.wasRead(key) || usedElsewhere.contains(key)
    }

    /// What says how linear layers are stored: the tensors themselves say it.
    private static let usedElsewhere: Set<String> = ["lr_act_type", "cola_converted", "rank", "ranks", "model_type"]

    // MARK: - Keys that say nothing about the arithmetic

    /// Documentation, generation, training, and what concerns programs rather than models – those that sound like more.
    private static let harmless: Set<String> = [
        "temperature", "is_llama_config", "num_logits_to_keep", "logits_to_keep", "output_logits",
        "output_router_logits",
        "chunk_size_feed_forward", "renormalize_logits", "logits_processor", "guidance_scale", "sliding_window_pattern",
        "normalize_gradients", "max_grad_norm", "gradient_clipping", "context_window", "context_window_size",
        "max_context_window", "use_swiglu",
        // Biases are taken where they are stored.
        "qkv_bias", "use_bias", "bias", "no_bias", "use_qkv_bias", "attention_qkv_bias", "attn_qkv_bias",
        "attention_out_bias", "add_bias_linear", "add_qkv_bias", "use_attention_bias", "use_mlp_bias", "lm_head_bias",
    ]

    /// Words of keys that concern training and caches, whatever else is in them.
    private static let harmlessWords: Set<Substring> = [
        "dropout", "drop", "pdrop", "layerdrop", "init", "initializer", "initialization", "std", "loss", "coef",
        "coeff",
        "cache", "jitter", "checkpointing", "offload",
    ]

    private static func isHarmless(_ key: String) -> Bool {
        key.hasPrefix("_") || harmless.contains(key) || words(key).contains { harmlessWords.contains($0) }
    }

    // MARK: - Keys with a value that changes nothing

    private struct Rule: Sendable {
        let isNeutral: @Sendable (JSONValue, ModelDescription) -> Bool
        let expected: @Sendable (ModelDescription) -> String

        /// One of these values.
        static func values(_ values: JSONValue...) -> Rule {
            Rule(
                isNeutral: { value, _ in values.contains(value) },
                expected: { _ in values.map { $0.text() }.joined(separator: " or ") })
        }

        /// The number that follows from the configuration, to single precision.
        static func number(_ expected: @escaping @Sendable (ModelDescription) -> Double) -> Rule {
            Rule(
                isNeutral: { value, configuration in
                    guard let value = value.doubleValue else { return false }
                    let expected = expected(configuration)
                    return abs(value - expected) <= 1e-6 * abs(expected)
                }, expected: { "\(expected($0))" })
        }

        static let none = Rule(
            isNeutral: { value, _ in value.objectValue?.members.isEmpty == true },
            expected: { _ in "none: weights are computed with as they are stored" })
    }

    private static let attentionScale = Rule.number { 1 / Double($0.attention.headSize).squareRoot() }
    private static let epsilon = Rule.number { Double($0.finalNorm.epsilon) }
    private static let silu = Rule.values("silu", "swish", "swiglu")
    private static let isTrue = Rule.values(true)

    private static let rules: [String: Rule] = [
        // These replace 1/√D; 1 is not neutral.
        "attention_multiplier": attentionScale, "attention_scale": attentionScale, "attn_scale": attentionScale,
        "softmax_scale": attentionScale, "attention_scaling": attentionScale,
        "attention.scale": attentionScale,
        "query_pre_attn_scalar": .number { Double($0.attention.headSize) }, "scale_attn_weights": isTrue,
        "rotary_dim": .number { Double($0.attention.rotary?.rotatedSize(of: $0.attention.headSize) ?? 0) },
        "rotary_pct": .number { $0.attention.rotary?.share ?? 0 },
        "rotary_percent": .number { $0.attention.rotary?.share ?? 0 },
        "rotary_emb_base": .number { $0.attention.rotary?.base ?? 0 },
        "rotary_base": .number { $0.attention.rotary?.base ?? 0 },
        "norm_eps": epsilon, "norm_epsilon": epsilon, "rms_norm_epsilon": epsilon, "layer_norm_eps": epsilon,
        "layer_norm_epsilon": epsilon, "layernorm_epsilon": epsilon, "rmsnorm_eps": epsilon,
        "norm_type": .values("rms", "rmsnorm", "rms_norm", "RMSNorm"), "use_rmsnorm": isTrue, "rmsnorm": isTrue,
        "normalization": .values("rms", "rmsnorm", "rms_norm", "RMSNorm"),
        "position_embedding_type": .values("rope", "rotary"), "pos_embed_type": .values("rope", "rotary"),
        "use_rope": isTrue, "use_rotary": isTrue, "use_rotary_embeddings": isTrue,
        "hidden_activation": silu, "activation_function": silu, "activation": silu, "mlp_activation": silu,
        "is_causal": isTrue, "causal": isTrue, "causal_attention": isTrue, "use_causal_mask": isTrue,
        "attention.causal": isTrue,
        "is_encoder_decoder": .values(false), "add_cross_attention": .values(false),
        "layers_block_type": Rule(
            isNeutral: { value, _ in value.arrayValue?.allSatisfy { $0.stringValue == "attention" } == true },
            expected: { _ in "attention in all layers" }),
        "quantization_config": .none, "quantization": .none, "compression_config": .none, "pruned_heads": .none,
        "dim_model_base": .number { Double($0.hiddenSize) },
        "scale_depth": .number { Double($0.blocks.count).squareRoot() },
    ]

    // MARK: - Keys by their words

    /// Parts of the keys that change what is computed, in the families that there are.
    private static let parts = [
        "scal", "multiplier", "softcap", "logit", "clip", "clamp", "norm", "rotary", "window", "bias", "expert", "moe",
        "router", "alibi", "theta", "sliding", "chunk", "causal", "bidirectional", "activation", "residual", "yarn",
        "temperature", "position_embedding", "cross_attention", "hyper_connection", "parallel_attn", "parallel_block",
        "kv_shared", "swiglu_",
    ]
    private static let arithmeticWords: Set<Substring> = [
        "cap", "caps", "capping", "eps", "epsilon", "mup", "ntk", "logn", "sink", "sinks", "act", "mla", "altup",
        "gate", "gated", "gating", "nope",
    ]

    private static func changesArithmetic(_ key: String) -> Bool {
        let key = key.lowercased()
        return parts.contains { key.contains($0) }
            || words(key).contains { arithmeticWords.contains($0) || $0.hasPrefix("rope") || $0.hasSuffix("rope") }
    }

    private static func brief(_ value: JSONValue) -> String {
        let text = value.text(writesNonFinite: true)
        return text.count > 80 ? text.prefix(80) + "…" : text
    }

    private static func words(_ key: String) -> [Substring] { key.split { $0 == "_" || $0 == "." } }

    /// Whether a value says that there is no such thing: false, nothing, a factor of 1, a cap or a number of things of 0.
    private static func isOff(_ key: String, _ value: JSONValue) -> Bool {
        if case .bool(let flag) = value { return !flag }
        if let text = value.stringValue { return text.isEmpty || text == "none" }
        if let list = value.arrayValue { return list.isEmpty }
        if let object = value.objectValue { return object.members.isEmpty }
        guard let number = value.doubleValue else { return false }
        let isFactor = ["scal", "multiplier", "factor", "temperature"].contains { key.contains($0) }
        let isLimit = key.contains("clip") || key.contains("clamp")
        return isFactor ? number == 1 : number == 0 && !isLimit
    }
}

extension ModelDescription {
    /// Of the first block, for keys that concern all.
    fileprivate var attention: AttentionDescription {
        blocks.first?.attention ?? AttentionDescription(heads: 1, keyValueHeads: 1, headSize: 1)
    }
}
