/// Names that a model's tensors have in files, without what training code wraps around modules.
public enum TensorNames {
    /// Modules that wrap another one and do nothing: compilation, sharding, recomputation, data parallelism, adapters.
    private static let wrappers: Set<Substring> = [
        "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module", "base_layer",
    ]
    /// The same, where a name begins with them.
    private static let outerWrappers: Set<Substring> = ["base_model", "pretrained_model"]

    /// The name without wrappers, wherever they stand in it.
    static func unwrapped(_ name: String) -> String {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.contains(where: { wrappers.contains($0) || outerWrappers.contains($0) }) else { return name }
        let rest = parts.filter { !wrappers.contains($0) }.drop { outerWrappers.contains($0) }
        return rest.isEmpty ? name : rest.joined(separator: ".")
    }

    /// The canonical names of all tensors of a file, in the same order: without wrappers, with the `model.` that the file
    /// of a bare model lacks, CoLA-M names as `PublishedNames` has them.
    ///
    /// - Parameter unwrapsModel: whether a `model.` around the whole model is taken off, too.
    static func canonical(_ names: [String], unwrapsModel: Bool = true) -> [String] {
        var names = names.map(unwrapped)
        while unwrapsModel, names.contains(where: isInModel) {
            names = names.map { $0.hasPrefix("model.") ? String($0.dropFirst("model.".count)) : $0 }
        }
        if names.contains(where: isBare), !names.contains(where: { $0.hasPrefix("model.") && isBare($0.dropFirst(6)) })
        {
            names = names.map { isBare($0) ? "model." + $0 : $0 }
        }
        return names.map(PublishedNames.canonical)
    }

    /// How names of a decoder's tensors begin, in files of all families in use.
    static let beginnings = ["model.", "lm_head.", "language_model.", "transformer.", "wte.", "wpe.", "h.", "ln_f."]

    /// Whether a name is that of an embedding of tokens, in files of all families in use.
    static func isEmbedding(_ name: String) -> Bool {
        [
            "model.embed_tokens.weight", "language_model.model.embed_tokens.weight",
            "model.language_model.embed_tokens.weight", "transformer.wte.weight", "wte.weight",
        ].contains(name)
    }

    /// Whether a name says that a module called model holds the whole model, head included, as Lightning's and those of
    /// adapters do.
    static func isInModel(_ name: String) -> Bool {
        name.hasPrefix("model.model.") || name.hasPrefix("model.lm_head.")
    }

    /// Whether a name is that of a tensor of the decoder, without the `model.` in front.
    static func isBare(_ name: some StringProtocol) -> Bool {
        ["embed_tokens.", "layers.", "norm.", "rotary_emb."].contains { name.hasPrefix($0) }
    }

    /// Tables that follow from the configuration; programs of before kept them beside the weights.
    public static func isRecomputed(_ name: String) -> Bool {
        name.contains("rotary_emb.") || name.hasSuffix("position_ids") || name.hasSuffix(".masked_bias")
    }
}
