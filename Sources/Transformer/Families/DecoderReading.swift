/// The sizes of a decoder, read from a configuration.
struct DecoderSizes {
    /// The keys that they stand under.
    struct Keys {
        var hidden = "hidden_size"
        var intermediate = "intermediate_size"
        var blocks = "num_hidden_layers"
        var heads = "num_attention_heads"
        var keyValueHeads = "num_key_value_heads"
        var headSize = "head_dim"
    }

    /// What a family assumes where a key is missing.
    struct Defaults {
        var heads: Int?
        var keyValueHeads: Int?
        var headSize: Int?
        /// F from C.
        var intermediate: ((Int) -> Int)?
    }

    /// C, F, H, K, D and V.
    let hidden: Int
    let intermediate: Int
    let blocks: Int
    let heads: Int
    let keyValueHeads: Int
    let headSize: Int
    let vocabulary: Int

    init(_ raw: ConfigurationText, _ keys: Keys = Keys(), _ defaults: Defaults = Defaults()) throws(TransformerError) {
        hidden = try raw.size(keys.hidden)
        intermediate = try raw.size(keys.intermediate, default: defaults.intermediate?(hidden))
        blocks = try raw.blocks(keys.blocks)
        heads = try raw.size(keys.heads, default: defaults.heads)
        keyValueHeads = try raw.size(keys.keyValueHeads, default: defaults.keyValueHeads ?? heads)
        vocabulary = try raw.size("vocab_size")
        let quotient = hidden % heads == 0 ? hidden / heads : nil
        headSize = try raw.size(keys.headSize, default: defaults.headSize ?? quotient)
        guard heads % keyValueHeads == 0 else {
            throw raw.error(keys.keyValueHeads, "\(keyValueHeads)", "a divisor of \(keys.heads) \(heads)")
        }
    }

    var attention: AttentionDescription {
        AttentionDescription(heads: heads, keyValueHeads: keyValueHeads, headSize: headSize)
    }
}

extension ConfigurationText {
    /// ε of the norms.
    func epsilon(_ key: String, default fallback: Double) throws(TransformerError) -> Float {
        let epsilon = try number(key) ?? fallback
        guard epsilon >= 0, epsilon < 1 else { throw error(key, "\(epsilon)", "a small number") }
        return Float(epsilon)
    }

    /// The activation of the feed-forward networks.
    func activation(_ key: String, default fallback: Activation) throws(TransformerError) -> Activation {
        guard let name = try string(key) else { return fallback }
        guard let activation = Activation(configured: name) else {
            throw error(key, name, "silu, gelu, gelu_new, gelu_pytorch_tanh, relu, relu2 or quick_gelu")
        }
        return activation
    }

    /// Where σ stands in a model with bottlenecks.
    func placement() throws(TransformerError) -> ActivationPlacement {
        let isInner = try flag("only_lr_act") ?? false
        guard let text = try string("cola_activation") else { return isInner ? .inner : .both }
        guard let placement = ActivationPlacement(rawValue: text) else {
            let known = ActivationPlacement.allCases.map(\.rawValue).joined(separator: ", ")
            throw error("cola_activation", text, "one of \(known)")
        }
        return placement
    }

    /// Throws unless the rotation fits heads of this size.
    func check(_ rotary: RotaryConfiguration, headSize: Int) throws(TransformerError) {
        guard headSize % 2 == 0 else { throw error("head_dim", "\(headSize)", "an even number") }
        let rotated = rotary.rotatedSize(of: headSize)
        guard rotated >= 2, rotated % 2 == 0 else {
            throw error(
                "partial_rotary_factor", "\(rotary.share)",
                "a share of the head size \(headSize) that is an even number of at least 2, not "
                    + "\(Double(headSize) * rotary.share)")
        }
    }

    /// The window of each block, by `layer_types`, else by `isSliding` of the block's index; nil for one that sees all earlier
    /// tokens. `window` is the model's, if it has one.
    func windows(
        _ window: Int?, blocks: Int, isSliding: (Int) -> Bool
    ) throws(TransformerError) -> [Int?] {
        guard let kinds = try texts("layer_types") else {
            return (0..<blocks).map { isSliding($0) ? window : nil }
        }
        guard kinds.count >= blocks else {
            throw error("layer_types", "\(kinds.count) kinds", "one for each of the \(blocks) layers")
        }
        var windows: [Int?] = []
        for kind in kinds.prefix(blocks) {
            switch kind {
            case "full_attention": windows.append(nil)
            case "sliding_attention":
                guard let window else {
                    throw error("layer_types", kind, "full_attention in all layers: there is no window")
                }
                windows.append(window)
            default: throw error("layer_types", kind, "full_attention or sliding_attention")
            }
        }
        return windows
    }
}

extension ModelDescription {
    /// What the configurations of all families say alike. `tiesEmbedding` is what the family means where they say nothing.
    init(
        _ raw: ConfigurationText, family: String, sizes: DecoderSizes, finalNorm: NormDescription,
        tiesEmbedding: Bool = false,
        block: (Int) throws(TransformerError) -> BlockDescription
    ) throws(TransformerError) {
        self.family = family
        modelType = try raw.string("model_type") ?? family
        hiddenSize = sizes.hidden
        vocabularySize = sizes.vocabulary
        self.tiesEmbedding = try raw.flag("tie_word_embeddings") ?? tiesEmbedding
        maximumPositions = try raw.number("max_position_embeddings").map { Int($0) }
        self.finalNorm = finalNorm
        placement = try raw.placement()
        blocks = []
        for index in 0..<sizes.blocks { blocks.append(try block(index)) }
        guard !placement.hasOuterActivation else { return }
        for index in blocks.indices { blocks[index].feedForward.activation = .identity }
    }
}
