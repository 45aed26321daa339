import Files
import JSON

/// Which tensors an export writes under which names, and the configuration that goes with them.
struct ExportPlan {
    let items: [SafetensorsWriter.Item]
    let configuration: JSONValue

    private static let projections = [
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
        "mlp.down_proj",
    ]

    /// Throws `CheckpointError` if the layout cannot express the model.
    init(
        _ source: any TensorSource, tensors: Set<String>?, layout: HuggingFaceExporter.Layout, type: ElementType,
        architectures: [String: String]
    ) throws {
        guard let text = source.configuration else {
            throw CheckpointError.unreadable(path: source.path, reason: "has no configuration; give a config.json")
        }
        let parsed = try MappedFile.json(
            Array(text.utf8), path: source.path, place: "config", allowsNonFinite: true)
        guard var object = parsed.objectValue, !source.tensors.isEmpty else {
            throw CheckpointError.unreadable(path: source.path, reason: "has no tensors")
        }
        object["torch_dtype"] = .string(type == .f32 ? "float32" : type == .f16 ? "float16" : "bfloat16")
        object["dtype"] = nil
        let layers = object["num_hidden_layers"]?.intValue ?? 0
        let modelType = object["model_type"]?.stringValue ?? "llama"
        switch layout {
        case .dense: try Self.makeDense(&object, source, architectures)
        case .cola where !Self.published.contains(modelType): try Self.checkFactors(source)
        case .colaM where !Self.published.contains(modelType):
            throw CheckpointError.invalid(
                path: source.path, place: "--layout \(layout.rawValue)", found: "model_type \(modelType)",
                expected: "llama or qwen2, whose low-rank form the published code has; use --layout cola")
        case .cola, .colaM: try Self.makeCoLA(&object, source, layers: layers, layout: layout)
        }
        configuration = .object(object)
        let written = source.tensors.filter { info in
            tensors?.contains(info.name) ?? (info.obstacle == nil && info.count > 0)
        }
        items = written.map { info in
            let name = layout == .colaM ? PublishedNames.colaM(info.name, layers: layers) : info.name
            return SafetensorsWriter.Item(source: info.name, name: name, shape: info.shape)
        }
    }

    private static func makeDense(
        _ object: inout JSONObject, _ source: any TensorSource, _ architectures: [String: String]
    ) throws {
        if let factor = factor(in: source) {
            throw CheckpointError.tensors(
                path: source.path,
                problems: ["\(factor.name): a low-rank factor, which the dense layout cannot hold; use --layout cola"])
        }
        let type = object["model_type"]?.stringValue
        if let type, let architecture = plain[type] {
            object["architectures"] = [.string(architecture)]
            return
        }
        guard let type, let architecture = architectures[type] else {
            throw CheckpointError.invalid(
                path: source.path, place: "config, model_type", found: type ?? "nothing",
                expected: (plain.keys.sorted() + architectures.keys.sorted()).joined(separator: " or "))
        }
        // What is there may be more than the language model.
        if object["architectures"]?.arrayValue?.isEmpty ?? true { object["architectures"] = [.string(architecture)] }
    }

    /// Models that are exported as a language model whatever they were before.
    private static let plain = ["llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"]
    /// `model_type` of models whose low-rank form the published code has.
    private static let published: Set = ["llama", "qwen2", "cola", "cola_m", "colam"]

    private static func factor(in source: any TensorSource) -> TensorInfo? {
        source.tensors.first { $0.name.hasSuffix(".cola_a") || $0.name.hasSuffix(".cola_b") }
    }

    /// Of other families nobody but this toolkit reads factors: canonical names, and the configuration as it is.
    private static func checkFactors(_ source: any TensorSource) throws {
        guard factor(in: source) == nil else { return }
        throw CheckpointError.tensors(
            path: source.path, problems: ["no low-rank factors, for which --layout cola is; use --layout dense"])
    }

    /// The published code has one rank for all layers, no grouped-query attention and no dense projection, and takes its
    /// activation from `hidden_act`.
    private static func makeCoLA(
        _ object: inout JSONObject, _ source: any TensorSource, layers: Int, layout: HuggingFaceExporter.Layout
    ) throws {
        let place = "--layout \(layout.rawValue)"
        func refuse(_ found: String, _ expected: String) -> CheckpointError {
            .invalid(path: source.path, place: place, found: found, expected: expected)
        }
        guard layers > 0, layers <= source.tensors.count else {
            throw refuse("num_hidden_layers \(layers)", "the number of decoder layers")
        }
        let heads = object["num_attention_heads"]?.intValue ?? 0
        let keyValueHeads = object["num_key_value_heads"]?.intValue ?? heads
        guard heads == keyValueHeads else {
            throw refuse(
                "grouped-query attention in layers 0 to \(layers - 1) (\(heads) heads, \(keyValueHeads) of keys and values)",
                "as many heads of keys and values, which is all that the published code knows")
        }
        if let size = object["head_dim"]?.intValue, let hidden = object["hidden_size"]?.intValue, size * heads != hidden
        {
            throw refuse("\(heads) heads of \(size)", "heads that make up the hidden size \(hidden)")
        }
        switch object["cola_activation"]?.stringValue {
        case nil: break
        case "both": object["only_lr_act"] = false
        case "inner": object["only_lr_act"] = true
        case let other?:
            throw refuse(
                "cola_activation \(other)", "both or inner, the placements of σ that the published code knows")
        }
        object["cola_activation"] = nil
        let activation = object["hidden_act"]?.stringValue ?? "silu"
        if let inner = object["lr_act_type"]?.stringValue, inner != activation {
            throw refuse("lr_act_type \(inner)", "\(activation), because the published code takes hidden_act for it")
        }

        let shapes = Dictionary(source.tensors.map { ($0.name, $0.shape) }, uniquingKeysWith: { first, _ in first })
        var ranks: [Int: [String]] = [:]
        var dense: [String] = []
        for layer in 0..<layers {
            for projection in projections {
                let name = "model.layers.\(layer).\(projection)"
                if let a = shapes["\(name).cola_a"], let b = shapes["\(name).cola_b"], a.count == 2, b.count == 2,
                    a[1] == b[0]
                {
                    ranks[a[1], default: []].append("layer \(layer) \(projection)")
                } else {
                    dense.append("layer \(layer) \(projection): no pair of low-rank factors")
                }
            }
        }
        guard dense.isEmpty else {
            throw CheckpointError.tensors(
                path: source.path, problems: dense + ["\(place) needs all seven projections of each layer low-rank"])
        }
        let common = ranks.max { ($0.value.count, $1.key) < ($1.value.count, $0.key) }
        guard let rank = common?.key, ranks.count == 1 else {
            let others = ranks.filter { $0.key != common?.key }.sorted { $0.key < $1.key }
            throw CheckpointError.tensors(
                path: source.path,
                problems: others.flatMap { rank, names in
                    names.map { "\($0): rank \(rank) beside \(common?.key ?? 0); \(place) has one rank for all layers" }
                })
        }
        // Which modules have biases the code learns from the configuration, for attention and MLP as a whole.
        for (key, part) in [("attention_bias", "self_attn."), ("mlp_bias", "mlp.")] {
            let names = (0..<layers).flatMap { layer in
                projections.filter { $0.hasPrefix(part) }.map { "model.layers.\(layer).\($0)" }
            }
            let without = names.filter { shapes["\($0).bias"] == nil }
            guard without.isEmpty || without.count == names.count else {
                throw CheckpointError.tensors(
                    path: source.path,
                    problems: without.map {
                        "\($0): no bias beside others with one; \(place) has \(key) for all or none"
                    })
            }
            object[key] = .bool(without.isEmpty)
        }
        object["model_type"] = "cola"
        object["architectures"] = [layout == .cola ? "ColaForCausalLM" : "ColaMForCausalLM"]
        object["rank"] = .integer(rank)
        object["ranks"] = nil
        object["lr_act_type"] = .string(activation)
    }
}
