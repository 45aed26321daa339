import Checkpoints
import Files

/// What the toolkit can do with a checkpoint, and what exactly it lacks for the rest. Reads no weights.
public struct Support: Sendable {
    /// `model_type` of the configuration, if there is one.
    public let modelType: String?
    public let family: Family?
    /// What was understood; nil if the configuration cannot be used.
    public let description: ModelDescription?
    /// Everything that stands in the way, each a sentence or a key with what was found and expected; none for a model that
    /// works.
    public let obstacles: [String]

    public var isSupported: Bool { obstacles.isEmpty }

    public init(of source: any TensorSource) {
        var obstacles: [String] = []
        var (modelType, family): (String?, Family?)
        var description: ModelDescription?
        do throws(TransformerError) {
            let raw = try ModelDescription.text(of: source)
            modelType = try raw.string("model_type") ?? Family.llama.name
            family = modelType.flatMap(Family.named)
            if family == nil { obstacles += Self.missing(modelType ?? "", raw) }
            if family != nil {
                let found = try ModelDescription.reading(raw)
                obstacles += found.obstacles.map(\.withoutPath)
                if found.obstacles.isEmpty { description = found.description.completed(by: source) }
            }
        } catch {
            obstacles.append(error.withoutPath)
        }
        if let description {
            do throws(CheckpointError) {
                _ = try StoredTensors(of: source, description, head: .ifStored)
            } catch {
                if case .tensors(_, let problems) = error {
                    obstacles += problems
                } else {
                    obstacles.append("\(error)")
                }
            }
        }
        (self.modelType, self.family, self.description) = (modelType, family, description)
        self.obstacles = obstacles
    }

    /// What a family that is not built has and the toolkit lacks: by its name, and by the keys of its configuration.
    private static func missing(_ modelType: String, _ raw: ConfigurationText) -> [String] {
        var missing = ["model_type \(modelType) is not among \(Family.supportedModelTypes.joined(separator: ", "))"]
        if let known = unbuilt.first(where: { $0.modelTypes.contains(modelType) }) { missing.append(known.lacks) }
        for (key, lacks) in telling where raw.value(key).map({ $0 != false && $0 != 0 }) == true {
            missing.append("\(key): \(lacks)")
        }
        return missing
    }

    /// Families that exist and are not built.
    private static let unbuilt: [(modelTypes: [String], lacks: String)] = [
        (["gpt_neox", "gptj", "phi", "cohere", "cohere2", "falcon"], "attention and network side by side in a block"),
        (["opt"], "learned positions that are counted from 2, and in one size norms after the addition"),
        (["gemma", "gemma2"], "caps of scores and logits, and a rule of its own for the activation's name"),
        (["phi3"], "fused gate and up, and rotations by length (longrope)"),
        (["olmo", "olmo2", "olmo3"], "norms on outputs alone, or of the whole width of q and k"),
        (["smollm3"], "blocks without rotation by a list"),
        (["granite"], "factors of embeddings, residual sums, scores and logits"),
        (["starcoder2", "stablelm"], "LayerNorm together with rotation"),
        (
            ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "phimoe", "dbrx", "llama4", "llama4_text"],
            "mixtures of experts"
        ),
        (["deepseek_v2", "deepseek_v3", "kimi_k2"], "multi-head latent attention (MLA), and mixtures of experts"),
        (["qwen3_next", "qwen3_5", "qwen3_5_text"], "gated delta nets in place of attention in most blocks"),
        (["lfm2", "lfm2_moe"], "short convolutions in place of attention in some blocks"),
        (["mamba", "mamba2", "falcon_mamba", "jamba", "granitemoehybrid", "bamba", "zamba2"], "state-space blocks"),
        (["gpt_oss"], "attention sinks, biased experts and a clamped activation"),
        (["gemma3n", "gemma3n_text", "gemma4", "gemma4_text"], "embeddings for each block and shared keys and values"),
        (["bert", "roberta", "distilbert", "electra", "modernbert"], "attention in both directions (encoders)"),
        (["t5", "mt5", "bart"], "an encoder and a decoder"),
    ]

    /// Keys that say by themselves what a model has.
    private static let telling: [(key: String, lacks: String)] = [
        ("num_experts", "mixtures of experts"), ("num_local_experts", "mixtures of experts"),
        ("n_routed_experts", "mixtures of experts"), ("kv_lora_rank", "multi-head latent attention"),
        ("linear_conv_kernel_dim", "gated delta nets"), ("conv_L_cache", "short convolutions"),
        ("use_parallel_residual", "attention and network side by side in a block"),
        ("parallel_attn", "attention and network side by side in a block"), ("alibi", "positions as biases of scores"),
        ("is_encoder_decoder", "an encoder and a decoder"),
        ("attn_logit_softcapping", "caps of scores"), ("final_logit_softcapping", "caps of logits"),
    ]
}

extension TransformerError {
    /// The error without the path that the reader knows.
    fileprivate var withoutPath: String {
        if case .configuration(_, let key, let found, let expected) = self {
            return "\(key): found \(found), expected \(expected)"
        }
        return "\(self)"
    }
}
