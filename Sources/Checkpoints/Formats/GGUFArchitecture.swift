import Files
import JSON

/// How GGUF files have the models of a family: what they call tensors, what they do to them, and which configuration their
/// metadata stand for. The families list theirs; `Checkpoint.open` is told which there are.
public struct GGUFArchitecture: Sendable {
    /// `general.architecture`, with which the keys of its metadata begin as well.
    public let name: String
    /// Canonical paths inside a block by the names of modules.
    public var modules: [String: String] = [
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    ]
    /// Canonical paths outside of all blocks.
    public var ends = ["token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"]
    /// Whether rows of q and k stand in the order of the interleaved rotation.
    public var interleavesHeads = false
    /// Whether norms have a bias.
    public var normsHaveBias = false
    /// What is added to the weights of norms: 1 for those of Gemma, which are 1 + w.
    public var normOffset: Float = 0
    /// Whether its attention may have a window.
    public var hasWindow = false
    /// Keys of metadata, behind the name and a dot, that `configuration` reads beyond those of all architectures.
    public var keys: Set<String> = []
    /// The configuration with the keys of Hugging Face.
    let configuration: @Sendable (GGUFMetadata) throws(CheckpointError) -> JSONObject

    public init(
        _ name: String,
        configuration: @escaping @Sendable (GGUFMetadata) throws(CheckpointError) -> JSONObject
    ) {
        self.name = name
        self.configuration = configuration
    }

    /// The canonical name of a tensor; nil for one that such a model does not have.
    func canonical(_ name: String) -> String? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard let kind = parts.last, kind == "weight" || kind == "bias" else { return nil }
        let path: String
        if parts.count == 2, let end = ends[String(parts[0])] {
            path = end
        } else if parts.count == 4, parts[0] == "blk", let block = Int(parts[1]), block >= 0, "\(block)" == parts[1],
            let module = modules[String(parts[2])]
        {
            path = "model.layers.\(block).\(module)"
        } else {
            return nil
        }
        let hasBias = path.hasSuffix("_proj") || (normsHaveBias && Self.isNorm(path))
        return kind == "bias" && !hasBias ? nil : "\(path).\(kind)"
    }

    static func isNorm(_ path: some StringProtocol) -> Bool { path.contains("norm") }
}
