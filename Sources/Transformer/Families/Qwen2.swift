import Checkpoints
import Files

extension Family {
    /// Qwen 2 and 2.5: LLaMA with biases of q, k and v, and a window in the later blocks of some.
    static let qwen2 = Family(
        name: "qwen2", summary: "as llama, with biases of q, k and v; a window in later blocks if used",
        modelTypes: ["qwen2"],
        describe: { raw throws(TransformerError) in
            let (attention, mlp) = (try raw.flag("attention_bias") ?? false, try raw.flag("mlp_bias") ?? false)
            return try ModelDescription(
                llamaLike: raw, family: "qwen2",
                windows: { blocks throws(TransformerError) in try raw.qwenWindows(blocks) }
            ) { role in
                switch role {
                case .query, .key, .value: attention
                case .output: false
                case .gate, .up, .down: mlp
                }
            }
        }, gguf: .qwen2)
}

extension GGUFArchitecture {
    static let qwen2 = GGUFArchitecture("qwen2") { metadata throws(CheckpointError) in
        try metadata.llama(class: "Qwen2ForCausalLM", modelType: "qwen2")
    }
}

extension ConfigurationText {
    /// Of Qwen 2 and 3: a window only where `use_sliding_window` says so, in blocks from `max_window_layers` on.
    func qwenWindows(_ blocks: Int) throws(TransformerError) -> [Int?] {
        let isUsed = try flag("use_sliding_window") ?? false
        let first = try number("max_window_layers") ?? 28
        let window = has("sliding_window") ? try windowSize() : 4096
        return try windows(isUsed ? window : nil, blocks: blocks) { Double($0) >= first }
    }

    /// `sliding_window`, a whole number of tokens; nil for null.
    func windowSize() throws(TransformerError) -> Int? {
        value("sliding_window") == nil ? nil : try size("sliding_window")
    }
}
