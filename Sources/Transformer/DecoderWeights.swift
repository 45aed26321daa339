import CKernels
import Checkpoints
import Files
import Tensors

/// Weights of one decoder layer.
public struct DecoderLayer: Sendable {
    /// RMSNorm before attention, `[C]`.
    public let inputNorm: Weight
    /// RMSNorm before the MLP, `[C]`.
    public let postAttentionNorm: Weight
    private let projections: [Projection]

    init(inputNorm: Weight, postAttentionNorm: Weight, projection: (LinearModule) -> Projection) {
        self.inputNorm = inputNorm
        self.postAttentionNorm = postAttentionNorm
        projections = LinearModule.allCases.map(projection)
    }

    public subscript(module: LinearModule) -> Projection {
        projections[LinearModule.allCases.firstIndex(of: module)!]
    }
}

/// All weights of a LLaMA-type decoder.
public struct DecoderWeights: Sendable {
    /// `[V, C]`.
    public let embedding: Weight
    public let layers: [DecoderLayer]
    /// The last RMSNorm, `[C]`.
    public let norm: Weight
    /// `[V, C]`; the embedding itself where they are tied, nil where it was not asked for.
    public let head: Weight?

    /// How a projection is stored: which of its tensors there are, and how wide its bottleneck is.
    public struct ProjectionLayout: Sendable, Equatable {
        public var rank: Int?
        public var hasBias: Bool

        public init(rank: Int? = nil, hasBias: Bool = false) {
            self.rank = rank
            self.hasBias = hasBias
        }
    }

    /// Weights of the right shapes whose elements are not yet set; without a precision, names and shapes only.
    public init(
        _ configuration: DecoderConfiguration, precision: Precision?, includingHead: Bool = true,
        layout: (Int, LinearModule) -> ProjectionLayout
    ) {
        let c = configuration.hiddenSize
        let arena = Arena()
        func matrix(_ rows: Int, _ columns: Int) -> Weight {
            Weight(shape: [rows, columns], precision: precision, in: arena)
        }
        func vector(_ count: Int) -> Weight {
            Weight(shape: [count], precision: precision.map { _ in .f32 }, in: arena)
        }
        embedding = matrix(configuration.vocabularySize, c)
        norm = vector(c)
        head =
            !includingHead
            ? nil : configuration.tiesEmbedding ? embedding : matrix(configuration.vocabularySize, c)
        layers = (0..<configuration.layers).map { layer in
            DecoderLayer(inputNorm: vector(c), postAttentionNorm: vector(c)) { module in
                let (inputs, outputs) = configuration.shape(of: module)
                let layout = layout(layer, module)
                let bias = layout.hasBias ? vector(outputs) : nil
                guard let rank = layout.rank else {
                    return .dense(.init(weight: matrix(outputs, inputs), bias: bias))
                }
                return .lowRank(
                    .init(
                        a: matrix(inputs, rank), b: matrix(rank, outputs), bias: bias,
                        isActivated: configuration.placement.hasInnerActivation(module)))
            }
        }
    }

    /// Zeros of the same names, shapes and tying as another model's weights; vectors are in single precision in either
    /// case.
    public init(like other: DecoderWeights, precision: Precision) {
        let arena = Arena()
        func twin(_ weight: Weight) -> Weight {
            // An arena's memory starts as zeros.
            Weight(shape: weight.shape, precision: weight.shape.count > 1 ? precision : .f32, in: arena)
        }
        let embedding = twin(other.embedding)
        self.embedding = embedding
        norm = twin(other.norm)
        head = other.head.map { $0 === other.embedding ? embedding : twin($0) }
        layers = other.layers.map { layer in
            DecoderLayer(inputNorm: twin(layer.inputNorm), postAttentionNorm: twin(layer.postAttentionNorm)) { module in
                let bias = layer[module].bias.map(twin)
                switch layer[module] {
                case .dense(let dense): return .dense(.init(weight: twin(dense.weight), bias: bias))
                case .lowRank(let lowRank):
                    return .lowRank(
                        .init(a: twin(lowRank.a), b: twin(lowRank.b), bias: bias, isActivated: lowRank.isActivated))
                }
            }
        }
    }

    /// Sets every element to that of weights of the same layout, rounded where these are in bfloat16.
    public func assign(_ other: DecoderWeights) {
        var sources: [Weight] = []
        other.visitParameters { sources.append($1) }
        var index = 0
        visitParameters { name, weight in
            let source = sources[index]
            index += 1
            precondition(source.shape == weight.shape, "\(name): \(source.shape) assigned to \(weight.shape)")
            switch (source.storage, weight.storage) {
            case (.single(let source), .single(let matrix)):
                matrix.pointer.update(from: source.pointer, count: matrix.count)
            case (.single(let source), .bfloat16(let tensor)):
                tensor.pointer.withMemoryRebound(to: UInt16.self, capacity: tensor.count) {
                    ck_f32_to_bf16(source.pointer, $0, tensor.count)
                }
            default: preconditionFailure("\(name): only weights in single precision can be assigned")
            }
        }
    }

    /// Every parameter with its checkpoint name, in a fixed order: the one list that loading, saving and counting use.
    public func visitParameters<E: Error>(_ visit: (String, Weight) throws(E) -> Void) throws(E) {
        try visit("model.embed_tokens.weight", embedding)
        for (index, layer) in layers.enumerated() {
            let prefix = "model.layers.\(index)."
            try visit(prefix + "input_layernorm.weight", layer.inputNorm)
            try visit(prefix + "post_attention_layernorm.weight", layer.postAttentionNorm)
            for module in LinearModule.allCases {
                let path = prefix + module.rawValue
                let projection = layer[module]
                switch projection {
                case .dense(let dense): try visit(path + ".weight", dense.weight)
                case .lowRank(let lowRank):
                    try visit(path + ".cola_a", lowRank.a)
                    try visit(path + ".cola_b", lowRank.b)
                }
                if let bias = projection.bias { try visit(path + ".bias", bias) }
            }
        }
        try visit("model.norm.weight", norm)
        if let head, head !== embedding { try visit("lm_head.weight", head) }
    }

    /// Number of parameters; tied ones count once.
    public var parameterCount: Int {
        var count = 0
        visitParameters { count += $1.count }
        return count
    }

    public var bytes: Int {
        var bytes = 0
        visitParameters { bytes += $1.bytes }
        return bytes
    }

    /// Sixteen hexadecimal digits that names, shapes and elements in single precision lead to: the same for one model in
    /// any file format, another one for another model.
    public var fingerprint: String {
        var (names, matrices): ([String], [Matrix]) = ([], [])
        visitParameters { name, weight in
            guard case .single(let matrix) = weight.storage else {
                preconditionFailure("the fingerprint of weights that are not in single precision")
            }
            names.append("\(name) \(weight.shape)")
            matrices.append(matrix)
        }
        let results = ParallelResults<UInt64>(count: matrices.count)
        results.fill(order: Array(matrices.indices), progress: { _ in }) { index in
            let matrix = matrices[index]
            return matrix.pointer.withMemoryRebound(to: UInt32.self, capacity: matrix.count) {
                ck_hash($0, matrix.count)
            }
        }
        var words: [UInt32] = []
        for (name, hash) in zip(names, results.values) {
            words += name.unicodeScalars.map(\.value) + [UInt32(truncatingIfNeeded: hash), UInt32(hash >> 32)]
        }
        let digits = String(ck_hash(words, words.count), radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

// MARK: - Loading

extension DecoderWeights {
    /// Reads all weights of a checkpoint, without `includingHead` all but the head, which may then be missing.
    ///
    /// Ranks and biases are read off the tensors that are there. Throws `CheckpointError.tensors`, which lists every
    /// tensor that is missing, unexpected, of another shape than the configuration says, or not finite.
    public init(
        from source: any TensorSource, _ configuration: DecoderConfiguration, precision: Precision = .f32,
        includingHead: Bool = true
    ) throws {
        _ = try StoredTensors(of: source, configuration, head: includingHead ? .required : .none)
        self.init(
            configuration, precision: precision, includingHead: includingHead, layout: Self.layouts(of: source))
        var problems: [String] = []
        try visitParameters { name, weight in
            if let problem = try Self.fill(weight, name: name, from: source) { problems.append(problem) }
        }
        guard problems.isEmpty else { throw CheckpointError.tensors(path: source.path, problems: problems) }
    }

    /// Throws what `StoredTensors` throws about a checkpoint that cannot be used.
    public static func checkNames(
        of source: any TensorSource, _ configuration: DecoderConfiguration, head: HeadUse = .required
    ) throws(CheckpointError) {
        _ = try StoredTensors(of: source, configuration, head: head)
    }

    /// Whether a checkpoint has what logits are made with: a head, or an embedding that is one as well.
    public static func hasHead(_ source: any TensorSource, _ configuration: DecoderConfiguration) -> Bool {
        configuration.tiesEmbedding || source.info(StoredTensors.head) != nil
    }

    /// How each projection of a checkpoint is stored, read off the tensors that are there.
    public static func layouts(of source: any TensorSource) -> (Int, LinearModule) -> ProjectionLayout {
        let stored = Dictionary(source.tensors.map { ($0.name, $0) }) { first, _ in first }
        return { layer, module in layout(of: "model.layers.\(layer).\(module.rawValue)", stored) }
    }

    private static func layout(of path: String, _ stored: [String: TensorInfo]) -> ProjectionLayout {
        let factor =
            stored[path + ".cola_a"]
            ?? stored[path + ".cola_b"].map { info in
                TensorInfo(name: "", shape: info.shape.reversed(), storedType: "", storedBytes: 0)
            }
        return ProjectionLayout(
            rank: factor.map { max(1, $0.shape.last ?? 1) }, hasBias: stored[path + ".bias"] != nil)
    }

    /// Names and shapes in the order of `visitParameters`.
    static func expectedShapes(
        _ configuration: DecoderConfiguration, _ stored: [String: TensorInfo]
    ) -> [(name: String, shape: [Int])] {
        var shapes: [(String, [Int])] = []
        let plan = DecoderWeights(configuration, precision: nil) { layer, module in
            var layout = layout(of: "model.layers.\(layer).\(module.rawValue)", stored)
            layout.hasBias = layout.hasBias || configuration.needsBias(module)
            return layout
        }
        plan.visitParameters { shapes.append(($0, $1.shape)) }
        return shapes
    }

    /// Reads one tensor; returns what is wrong with its elements, if anything is.
    private static func fill(_ weight: Weight, name: String, from source: any TensorSource) throws -> String? {
        func problem(_ elements: UnsafeMutableBufferPointer<Float>, firstRow: Int) -> String? {
            let index = ck_first_not_finite(elements.baseAddress!, elements.count)
            guard index < elements.count else { return nil }
            let columns = weight.columns
            let place = weight.shape.count > 1 ? "[\(firstRow + index / columns), \(index % columns)]" : "[\(index)]"
            return "\(name): element \(place) is \(elements[index])"
        }
        switch weight.storage {
        case .single(let matrix):
            try source.read(name, rows: nil, into: matrix.buffer)
            return problem(matrix.buffer, firstRow: 0)
        case .bfloat16(let tensor):
            let block = max(1, (1 << 20) / weight.columns)
            let buffer = Matrix(uninitialized: [min(block, weight.rows), weight.columns])
            for start in stride(from: 0, to: weight.rows, by: block) {
                let rows = start..<min(start + block, weight.rows)
                let elements = UnsafeMutableBufferPointer(start: buffer.pointer, count: rows.count * weight.columns)
                try source.read(name, rows: rows, into: elements)
                if let found = problem(elements, firstRow: start) { return found }
                (tensor.pointer + start * weight.columns).withMemoryRebound(to: UInt16.self, capacity: elements.count) {
                    ck_f32_to_bf16(buffer.pointer, $0, elements.count)
                }
            }
            return nil
        case .none: preconditionFailure("a weight of a plan has no elements")
        }
    }
}
