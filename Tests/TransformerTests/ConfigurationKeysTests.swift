import Testing

@testable import Transformer

@Suite("Keys of a configuration that are not read")
struct ConfigurationKeysTests {
    private func read(_ key: String, _ value: String) throws(TransformerError) -> ModelDescription {
        try ModelDescription(json: ConfigurationTests.text([key: value]), path: "c.json")
    }

    /// Keys of relatives of the family that change what is computed, each with a value that does.
    static let changingValues: [(String, String)] = [
        ("final_logit_softcapping", "30.0"), ("attn_logit_softcapping", "50"), ("logit_cap", "30"),
        ("embedding_multiplier", "12"), ("residual_multiplier", "0.22"), ("attention_multiplier", "0.0078125"),
        ("attention_multiplier", "1.0"), ("logits_scaling", "8"), ("logit_scale", "0.0625"), ("scale_emb", "12"),
        ("scale_depth", "1.4"), ("dim_model_base", "256"), ("embedding_scale", "4.0"), ("normalize_embedding", "true"),
        ("query_pre_attn_scalar", "256"), ("clip_qkv", "8.0"), ("clip_qkv", "0"), ("use_qk_norm", "true"),
        ("qk_layernorm", "true"), ("norm_eps", "1e-3"), ("norm_type", #""layernorm""#), ("rope_interleaved", "true"),
        ("rope_local_base_freq", "10000"), ("rotary_pct", "0.25"), ("rotary_emb_base", "500"),
        ("no_rope_layers", "[1, 1, 0]"), ("use_parallel_residual", "true"), ("num_experts", "8"),
        ("num_local_experts", "8"), ("attention_chunk_size", "8192"), ("attn_temperature_tuning", "true"),
        ("is_causal", "false"), ("use_bidirectional_attention", "true"), ("alibi", "true"),
        ("hidden_activation", #""gelu""#),
        ("use_logn_attn", "true"), ("use_dynamic_ntk", "true"), ("position_embedding_type", #""absolute""#),
        ("add_cross_attention", "true"), ("scale_attn_by_inverse_layer_idx", "true"), ("attention_sinks", "true"),
        ("quantization_config", #"{"quant_method": "bitnet"}"#), ("dual_chunk_attention_config", #"{"chunk_size": 4}"#),
        ("scale_attn_weights", "false"), ("mup_width_multiplier", "2"), ("swiglu_limit", "7.0"),
        ("query_pre_attn_scalar", "NaN"), ("embedding_multiplier", "Infinity"), ("llama.attention.scale", "0.1"),
        ("llama.attention.causal", "false"), ("llama.logit_scale", "8"),
        ("layers_block_type", #"["attention", "mamba"]"#), ("attention_output_gate", "true"),
    ]

    @Test("One that changes the arithmetic is refused by name", arguments: changingValues)
    func refused(key: String, value: String) {
        do throws(TransformerError) {
            _ = try read(key, value)
            Issue.record("read \(key) \(value)")
        } catch {
            guard case .configuration("c.json", key, _, _) = error else {
                Issue.record("\(key) \(value): \(error)")
                return
            }
        }
    }

    /// The same keys with values that change nothing: heads have four features here, ε is 1e-5.
    static let neutralValues: [(String, String)] = [
        ("final_logit_softcapping", "null"), ("attn_logit_softcapping", "0.0"), ("embedding_multiplier", "1.0"),
        ("residual_multiplier", "1"), ("attention_multiplier", "0.5"), ("logits_scaling", "1.0"),
        ("query_pre_attn_scalar", "4"), ("clip_qkv", "null"), ("use_qk_norm", "false"), ("norm_eps", "1e-5"),
        ("norm_type", #""rmsnorm""#), ("rope_interleaved", "false"), ("rotary_pct", "1.0"), ("rotary_dim", "4"),
        ("rotary_emb_base", "10000"), ("num_experts", "0"), ("attention_chunk_size", "null"), ("is_causal", "true"),
        ("hidden_activation", #""silu""#), ("position_embedding_type", #""rope""#), ("quantization_config", "null"),
        ("quantization_config", "{}"), ("pruned_heads", "{}"), ("scale_attn_weights", "true"),
        ("llama.attention.causal", "true"), ("no_rope_layers", "[]"), ("scale_emb", "1"), ("dim_model_base", "24"),
        ("layers_block_type", #"["attention", "attention"]"#), ("attention_bias", "true"),
    ]

    @Test("A value that changes nothing is none", arguments: neutralValues)
    func neutral(key: String, value: String) throws { _ = try read(key, value) }

    /// What transformers and others write beside, some of it as Python's JSON that is no JSON.
    static let harmlessValues: [(String, String)] = [
        ("torch_dtype", #""bfloat16""#), ("attention_dropout", "0.1"), ("resid_pdrop", "0.1"),
        ("initializer_range", "0.02"), ("pretraining_tp", "2"), ("use_cache", "true"), ("temperature", "0.7"),
        ("router_aux_loss_coef", "0.01"), ("id2label", #"{"0": "x"}"#), ("chunk_size_feed_forward", "0"),
        ("transformers.js_config", #"{"dtype": "q4"}"#), ("_attn_implementation", #""eager""#), ("is_decoder", "false"),
        ("auto_map", #"{"AutoModel": "m.M"}"#), ("qkv_bias", "true"), ("eos_token_id", "[1, 2]"), ("properties", "3"),
        ("activation_checkpointing", "true"), ("my_note", "NaN"), ("max_loss", "-Infinity"), ("huge", "1e999"),
        ("label_smoothing", "Infinity"), ("cache_scale", "2"), ("guidance_scale", "3"),
    ]

    @Test("Everything else is left alone, numbers that are not finite included", arguments: harmlessValues)
    func harmless(key: String, value: String) throws { _ = try read(key, value) }

    @Test("A number that is not finite in a key that is read is an error of that key")
    func notFinite() {
        for (key, value) in [("rope_theta", "NaN"), ("rms_norm_eps", "Infinity"), ("vocab_size", "-Infinity")] {
            do throws(TransformerError) {
                _ = try read(key, value)
                Issue.record("read \(key) \(value)")
            } catch {
                guard case .configuration("c.json", key, value, _) = error else {
                    Issue.record("\(error)")
                    continue
                }
            }
        }
        #expect(throws: TransformerError.self) { try read("rope_scaling", #"{"type": "linear", "factor": NaN}"#) }
    }
}
