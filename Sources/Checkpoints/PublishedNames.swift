/// Names of the paper's published code (arXiv 2502.10940): its CoLA model uses this project's canonical
/// names; its CoLA-M model cuts each decoder layer at the bottlenecks and names the factors after the cuts.
public enum PublishedNames {
    private static let prefix = "model.layers."

    /// The CoLA-M name of a canonical one in a model of `layers` decoder layers. Names that CoLA-M leaves alone come
    /// back unchanged. `B_down` of layer i stands in layer i + 1, the last one in its own.
    public static func colaM(_ canonical: String, layers: Int) -> String {
        guard let (layer, module, kind) = factor(of: canonical) else { return canonical }
        let projection = module.last!
        let first = kind == "cola_a"
        let place: String
        var owner = layer
        switch (module[0], projection) {
        case ("self_attn", "o_proj"): place = first ? "self_attn.pre_o_proj" : "post_attn.post_o_proj"
        case ("self_attn", _): place = first ? "pre_attn.pre_\(projection)" : "self_attn.post_\(projection)"
        case ("mlp", "down_proj") where first: place = "self_mlp.pre_down_proj"
        case ("mlp", "down_proj"):
            let isLast = layer == layers - 1
            place = isLast ? "post_mlp.post_down_proj" : "last_layer_post_mlp.post_down_proj"
            owner = isLast ? layer : layer + 1
        case ("mlp", _): place = first ? "pre_mlp.pre_\(projection)" : "self_mlp.post_\(projection)"
        default: return canonical
        }
        return "\(prefix)\(owner).\(place).\(kind)"
    }

    /// The canonical name of a CoLA-M one; any other name comes back unchanged.
    public static func canonical(_ name: String) -> String {
        guard name.hasPrefix(prefix) else { return name }
        let parts = name.dropFirst(prefix.count).split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4, let layer = Int(parts[0]) else { return name }
        let (part, projection, kind) = (parts[1], parts[2], parts[3])
        let owner = part == "last_layer_post_mlp" ? layer - 1 : layer
        let bare =
            projection.hasPrefix("pre_")
            ? projection.dropFirst(4) : projection.hasPrefix("post_") ? projection.dropFirst(5) : ""
        let module: String
        switch (part, bare) {
        case ("pre_attn", "q_proj"), ("pre_attn", "k_proj"), ("pre_attn", "v_proj"): module = "self_attn"
        case ("self_attn", "q_proj"), ("self_attn", "k_proj"), ("self_attn", "v_proj"): module = "self_attn"
        case ("self_attn", "o_proj"), ("post_attn", "o_proj"): module = "self_attn"
        case ("pre_mlp", "gate_proj"), ("pre_mlp", "up_proj"): module = "mlp"
        case ("self_mlp", "gate_proj"), ("self_mlp", "up_proj"), ("self_mlp", "down_proj"): module = "mlp"
        case ("last_layer_post_mlp", "down_proj"), ("post_mlp", "down_proj"): module = "mlp"
        default: return name
        }
        return "\(prefix)\(owner).\(module).\(bare).\(kind)"
    }

    /// Layer, module path and tensor kind of a low-rank projection's tensor.
    private static func factor(of name: String) -> (layer: Int, module: [Substring], kind: Substring)? {
        guard name.hasPrefix(prefix) else { return nil }
        let parts = name.dropFirst(prefix.count).split(separator: ".")
        guard parts.count == 4, let layer = Int(parts[0]) else { return nil }
        guard ["cola_a", "cola_b", "bias"].contains(parts[3]), parts[2].hasSuffix("_proj") else { return nil }
        return (layer, Array(parts[1...2]), parts[3])
    }
}
