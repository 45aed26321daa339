import Checkpoints
import Files

extension Family {
    /// LLaMA and what is built alike, CoLA's own model types among it: a CoLA model is one of a family with bottlenecks.
    static let llama = Family(
        name: "llama", summary: "RMSNorm, rotary positions, gated SiLU network",
        modelTypes: ["llama", "cola", "cola_m", "colam"],
        describe: { raw throws(TransformerError) in
            let (attention, mlp) = (try raw.flag("attention_bias") ?? false, try raw.flag("mlp_bias") ?? false)
            let windows = try raw.unusedWindow()
            return try ModelDescription(llamaLike: raw, family: "llama", windows: windows) { role in
                [.gate, .up, .down].contains(role) ? mlp : attention
            }
        }, gguf: .llama)
}

extension GGUFArchitecture {
    /// LLaMA and Mistral, of which such files keep no window.
    static let llama = {
        var architecture = GGUFArchitecture("llama") { metadata throws(CheckpointError) in
            var values = try metadata.llama(class: "LlamaForCausalLM", modelType: "llama")
            values["attention_bias"] = .bool(metadata.has("model.layers.0.self_attn.q_proj.bias"))
            values["mlp_bias"] = .bool(metadata.has("model.layers.0.mlp.gate_proj.bias"))
            return values
        }
        architecture.interleavesHeads = true
        return architecture
    }()
}

extension ConfigurationText {
    /// No window, for families that have none. Throws where the configuration asks for one.
    fileprivate func unusedWindow() throws(TransformerError) -> (Int) throws(TransformerError) -> [Int?] {
        if let kinds = try texts("layer_types"), let other = kinds.first(where: { $0 != "full_attention" }) {
            throw error("layer_types", other, "full_attention in all layers")
        }
        let isUsed = try flag("use_sliding_window") ?? true
        _ = value("max_window_layers")
        if let window = try number("sliding_window"), isUsed {
            throw error("sliding_window", "\(window)", "none: attention here sees all earlier tokens")
        }
        return { Array(repeating: nil, count: $0) }
    }
}

extension ModelDescription {
    /// A decoder whose blocks are those of LLaMA: RMSNorm before attention and before a gated network, rotary positions.
    ///
    /// - Parameters:
    ///   - defaults: sizes where the configuration names none.
    ///   - windows: the window of each block, told their number.
    ///   - hasHeadNorm: whether each head of q and of k is normalised, with the model's ε.
    init(
        llamaLike raw: ConfigurationText, family: String, defaults: DecoderSizes.Defaults = .init(),
        windows: (Int) throws(TransformerError) -> [Int?], hasHeadNorm: Bool = false,
        hasBias: (LinearRole) -> Bool
    ) throws(TransformerError) {
        let sizes = try DecoderSizes(raw, .init(), defaults)
        let norm = NormDescription(.rms, epsilon: try raw.epsilon("rms_norm_eps", default: 1e-6))
        let activation = try raw.activation("hidden_act", default: .silu)
        guard activation == .silu else {
            throw raw.error("hidden_act", raw.value("hidden_act")?.stringValue ?? "", "silu")
        }
        let rotary = try RotaryConfiguration(raw)
        try raw.check(rotary, headSize: sizes.headSize)
        let windows = try windows(sizes.blocks)
        var attention = sizes.attention
        attention.rotary = rotary
        attention.headNorm = hasHeadNorm ? norm : nil
        try self.init(raw, family: family, sizes: sizes, finalNorm: norm) { index in
            attention.window = windows[index]
            return BlockDescription(
                index: index, hiddenSize: sizes.hidden,
                norms: .init(attentionInput: norm, feedForwardInput: norm), attention: attention,
                feedForward: FeedForwardDescription(width: sizes.intermediate, activation: activation),
                hasBias: hasBias)
        }
    }
}
