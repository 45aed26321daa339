extension Family {
    /// Mistral: LLaMA with one sliding window for all blocks, or none (`sliding_window` null, from version 0.2 on).
    static let mistral = Family(
        name: "mistral", summary: "as llama, with one sliding window for all blocks",
        modelTypes: ["mistral"],
        describe: { raw throws(TransformerError) in
            try ModelDescription(
                llamaLike: raw, family: "mistral",
                windows: { blocks throws(TransformerError) in
                    // A file that does not name it means the family's own.
                    let window = raw.has("sliding_window") ? try raw.windowSize() : 4096
                    return try raw.windows(window, blocks: blocks) { _ in true }
                }
            ) { _ in false }
        }, classes: ["mistral": "MistralForCausalLM"])
}
