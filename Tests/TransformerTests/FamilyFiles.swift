import Checkpoints
import Files
import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

/// A model file of a family, in its own names and layout, with numbers that tell every element from all others; and which
/// canonical tensors lie where in it, written down by hand and independently of the families' rules.
struct FamilyFile: Sendable, CustomStringConvertible {
    struct Tensor: Sendable {
        let name: String
        let shape: [Int]
        /// Of the first element; the others count on from there.
        let first: Float

        var values: [Float] { (0..<shape.reduce(1, *)).map { first + Float($0) } }
    }

    /// Where a canonical tensor lies.
    struct Part: Sendable {
        let canonical: String
        let shape: [Int]
        let stored: String
        /// Of the rows of the stored tensor, or its columns.
        var first = 0
        var isTransposed = false
    }

    let description: String
    let configuration: String
    private(set) var tensors: [Tensor] = []
    private(set) var parts: [Part] = []

    init(_ description: String, configuration: String) {
        (self.description, self.configuration) = (description, configuration)
    }

    mutating func add(_ name: String, _ shape: [Int]) {
        tensors.append(Tensor(name: name, shape: shape, first: Float(1000 * tensors.count)))
    }

    /// A tensor that is stored as it is.
    mutating func add(_ name: String, _ shape: [Int], as canonical: String) {
        add(name, shape)
        parts.append(Part(canonical: canonical, shape: shape, stored: name))
    }

    /// A module whose matrix is stored `[in, out]`, with a bias; the canonical ones of `outputs` features each.
    mutating func addTransposed(_ name: String, inputs: Int, _ canonical: [String], outputs: Int) {
        add(name + ".weight", [inputs, outputs * canonical.count])
        add(name + ".bias", [outputs * canonical.count])
        for (index, path) in canonical.enumerated() {
            parts.append(
                Part(
                    canonical: path + ".weight", shape: [outputs, inputs], stored: name + ".weight",
                    first: index * outputs, isTransposed: true))
            parts.append(
                Part(canonical: path + ".bias", shape: [outputs], stored: name + ".bias", first: index * outputs))
        }
    }

    /// The elements of a canonical tensor.
    func values(of part: Part) throws -> [Float] {
        let stored = try #require(tensors.first { $0.name == part.stored })
        let width = part.shape.dropFirst().reduce(1, *)
        return (0..<part.shape[0] * width).map { index in
            let (row, column) = (part.first + index / width, index % width)
            return stored.first + Float(part.isTransposed ? column * stored.shape[1] + row : row * width + column)
        }
    }

    mutating func remove(_ name: String) { tensors.removeAll { $0.name == name } }

    mutating func reshape(_ name: String, _ shape: [Int]) throws {
        let index = try #require(tensors.firstIndex { $0.name == name })
        tensors[index] = Tensor(name: name, shape: shape, first: tensors[index].first)
    }

    // MARK: - On disk

    /// Bytes of a safetensors file, by the published layout.
    private static func safetensors(_ tensors: [Tensor]) -> [UInt8] {
        var (entries, data): ([String], [UInt8]) = ([], [])
        for tensor in tensors {
            let start = data.count
            data += tensor.values.withUnsafeBytes { Array($0) }
            entries.append(
                #""\#(tensor.name)":{"dtype":"F32","shape":\#(tensor.shape),"data_offsets":[\#(start),\#(data.count)]}"#
            )
        }
        let header = "{" + entries.joined(separator: ",") + "}"
        return withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) } + Array(header.utf8) + data
    }

    /// A Hugging Face folder, of one file or of two and an index.
    func write(to folder: TemporaryFolder, isSharded: Bool = false) throws -> String {
        try folder.write(configuration, "config.json")
        guard isSharded else {
            try folder.write(Self.safetensors(tensors), "model.safetensors")
            return folder.path
        }
        let halves = [Array(tensors[..<(tensors.count / 2)]), Array(tensors[(tensors.count / 2)...])]
        var entries: [String] = []
        for (name, half) in zip(["model-1.safetensors", "model-2.safetensors"], halves) {
            try folder.write(Self.safetensors(half), name)
            entries += half.map { "\"\($0.name)\":\"\(name)\"" }
        }
        try folder.write(
            "{\"weight_map\":{\(entries.joined(separator: ","))}}", "model.safetensors.index.json")
        return folder.path
    }

    /// A dump of the tensors in HDF5, config.json beside it.
    func writeHDF5(to folder: TemporaryFolder) throws -> String {
        try folder.write(configuration, "config.json")
        let path = folder.file("dump.h5")
        let writer = try GradientWriter(path: path, loss: 0, provenance: "{}")
        for tensor in tensors {
            let matrix = Matrix(uninitialized: tensor.shape)
            for (index, value) in tensor.values.enumerated() { matrix.pointer[index] = value }
            try writer.write(tensor.name, matrix)
        }
        try writer.finish()
        return path
    }
}

extension FamilyFile {
    /// All elements of a tensor of a source, or some rows.
    static func elements(_ source: any TensorSource, _ name: String, rows: Range<Int>? = nil) throws -> [Float] {
        let info = try #require(source.info(name), "\(name)")
        let count = (rows?.count ?? info.shape[0]) * info.shape.dropFirst().reduce(1, *)
        return try [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            try source.read(name, rows: rows, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
            initialized = count
        }
    }

    // MARK: - The files

    static let all = [
        gpt2("transformer."), gpt2(""), gemma3("model.", "lm_head"),
        gemma3("language_model.model.", "language_model.lm_head"), gemma3("model.language_model.", "lm_head"), qwen3,
        mistral,
    ]

    /// Without a prefix as on the hub, with masks.
    static func gpt2(_ prefix: String) -> FamilyFile {
        var file = FamilyFile(
            prefix.isEmpty ? "gpt2-hub" : "gpt2",
            configuration: #"""
                {"architectures":["GPT2LMHeadModel"],"model_type":"gpt2","n_embd":6,"n_head":2,"n_inner":10,"n_layer":2,\#
                "n_positions":5,"vocab_size":7}
                """#)
        file.add(prefix + "wte.weight", [7, 6], as: "model.embed_tokens.weight")
        file.add(prefix + "wpe.weight", [5, 6], as: "model.embed_positions.weight")
        for block in 0..<2 {
            let (own, canonical) = ("\(prefix)h.\(block).", "model.layers.\(block).")
            for (name, norm) in [("ln_1", "input_layernorm"), ("ln_2", "post_attention_layernorm")] {
                for kind in ["weight", "bias"] {
                    file.add("\(own)\(name).\(kind)", [6], as: "\(canonical)\(norm).\(kind)")
                }
            }
            if prefix.isEmpty { file.add(own + "attn.bias", [1, 1, 5, 5]) }
            if prefix.isEmpty { file.add(own + "attn.masked_bias", [1]) }
            let heads = ["q", "k", "v"].map { "\(canonical)self_attn.\($0)_proj" }
            file.addTransposed(own + "attn.c_attn", inputs: 6, heads, outputs: 6)
            file.addTransposed(own + "attn.c_proj", inputs: 6, [canonical + "self_attn.o_proj"], outputs: 6)
            file.addTransposed(own + "mlp.c_fc", inputs: 6, [canonical + "mlp.up_proj"], outputs: 10)
            file.addTransposed(own + "mlp.c_proj", inputs: 10, [canonical + "mlp.down_proj"], outputs: 6)
        }
        for kind in ["weight", "bias"] { file.add("\(prefix)ln_f.\(kind)", [6], as: "model.norm.\(kind)") }
        return file
    }

    /// The linear layers of a block as LLaMA has them, hidden size 6, two heads of size 4, one of keys and values.
    private mutating func addLinears(_ own: String, _ canonical: String) {
        let shapes = [
            ("self_attn.q_proj", [8, 6]), ("self_attn.k_proj", [4, 6]), ("self_attn.v_proj", [4, 6]),
            ("self_attn.o_proj", [6, 8]), ("mlp.gate_proj", [5, 6]), ("mlp.up_proj", [5, 6]),
            ("mlp.down_proj", [6, 5]),
        ]
        for (module, shape) in shapes { add("\(own)\(module).weight", shape, as: "\(canonical)\(module).weight") }
    }

    private static let sizes = #"""
        "hidden_size":6,"intermediate_size":5,"num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,\#
        "head_dim":4,"vocab_size":7,"sliding_window":3
        """#

    /// With a head of its own, and inside a model that sees with other parts.
    static func gemma3(_ prefix: String, _ head: String) -> FamilyFile {
        let isNested = prefix != "model."
        let text = "\(sizes),\"tie_word_embeddings\":false"
        var file = FamilyFile(
            "gemma3 \(prefix)",
            configuration: isNested
                ? #"{"architectures":["X"],"model_type":"gemma3","text_config":{"model_type":"gemma3_text",\#(text)}}"#
                : #"{"architectures":["Gemma3ForCausalLM"],"model_type":"gemma3_text",\#(text)}"#)
        file.add(prefix + "embed_tokens.weight", [7, 6], as: "model.embed_tokens.weight")
        for block in 0..<2 {
            let (own, canonical) = ("\(prefix)layers.\(block).", "model.layers.\(block).")
            for (name, norm) in [
                ("input_layernorm", "input_layernorm"), ("post_attention_layernorm", "norms.attention_out"),
                ("pre_feedforward_layernorm", "post_attention_layernorm"),
                ("post_feedforward_layernorm", "norms.mlp_out"),
            ] { file.add("\(own)\(name).weight", [6], as: "\(canonical)\(norm).weight") }
            for norm in ["self_attn.q_norm", "self_attn.k_norm"] {
                file.add("\(own)\(norm).weight", [4], as: "\(canonical)\(norm).weight")
            }
            file.addLinears(own, canonical)
        }
        file.add(prefix + "norm.weight", [6], as: "model.norm.weight")
        file.add(head + ".weight", [7, 6], as: "lm_head.weight")
        guard isNested else { return file }
        let outer = prefix.hasPrefix("model.") ? "model." : ""
        for name in ["vision_tower.encoder.layers.0.fc.weight", "multi_modal_projector.mm_weight"] {
            file.add(outer + name, [3, 2], as: name)
        }
        return file
    }

    static let qwen3 = llamaLike("qwen3", headNorms: ["self_attn.q_norm", "self_attn.k_norm"], head: false)
    static let mistral = llamaLike("mistral", headNorms: [], head: true)

    private static func llamaLike(_ type: String, headNorms: [String], head: Bool) -> FamilyFile {
        var file = FamilyFile(
            type,
            configuration: #"{"architectures":["Y"],"model_type":"\#(type)","tie_word_embeddings":\#(!head),\#(sizes)}"#
        )
        func same(_ name: String, _ shape: [Int]) { file.add(name, shape, as: name) }
        same("model.embed_tokens.weight", [7, 6])
        for block in 0..<2 {
            let path = "model.layers.\(block)."
            for norm in ["input_layernorm", "post_attention_layernorm"] { same("\(path)\(norm).weight", [6]) }
            for norm in headNorms { same("\(path)\(norm).weight", [4]) }
            file.addLinears(path, path)
        }
        same("model.norm.weight", [6])
        if head { same("lm_head.weight", [7, 6]) }
        return file
    }
}
