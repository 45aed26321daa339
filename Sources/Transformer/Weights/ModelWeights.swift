import CKernels
import Tensors

/// The parameters of a norm.
public struct NormWeights: Sendable {
    public let description: NormDescription
    /// `[features]`, without the norm's offset.
    public let weight: Weight
    public let bias: Weight?

    init(_ description: NormDescription, features: Int, vector: (Int) -> Weight) {
        precondition(
            description.kind == .layer ? description.offset == 0 : !description.hasBias,
            "a LayerNorm with an offset, or an RMSNorm with a bias")
        self.description = description
        weight = vector(features)
        bias = description.hasBias ? vector(features) : nil
    }

    fileprivate func parameters(_ path: String) -> [Parameter] {
        let weight = Parameter(name: path + ".weight", role: .norm(description), weight: weight)
        return [weight] + (bias.map { [Parameter(name: path + ".bias", role: .normBias, weight: $0)] } ?? [])
    }
}

extension LinearWeights {
    fileprivate func parameters(of layer: LinearLayer) -> [Parameter] {
        let path = layer.id.path
        let matrices =
            switch self {
            case .dense(let dense): [Parameter(name: path + ".weight", role: .weight(layer), weight: dense.weight)]
            case .lowRank(let lowRank):
                [
                    Parameter(name: path + ".cola_a", role: .factorA(layer), weight: lowRank.a),
                    Parameter(name: path + ".cola_b", role: .factorB(layer), weight: lowRank.b),
                ]
            }
        return matrices + (bias.map { [Parameter(name: path + ".bias", role: .bias(layer), weight: $0)] } ?? [])
    }
}

/// All parameters of one block.
public struct BlockWeights: Sendable {
    public let attentionInput: NormWeights?
    public let attentionOutput: NormWeights?
    public let feedForwardInput: NormWeights?
    public let feedForwardOutput: NormWeights?
    /// Of each head of q and of k.
    public let query: NormWeights?
    public let key: NormWeights?
    private let groups: PerStream<LinearGroup>

    init(_ block: BlockDescription, hiddenSize: Int, precision: Precision?, in arena: Arena, vector: (Int) -> Weight) {
        func norm(_ description: NormDescription?, _ features: Int) -> NormWeights? {
            description.map { NormWeights($0, features: features, vector: vector) }
        }
        attentionInput = norm(block.norms.attentionInput, hiddenSize)
        feedForwardInput = norm(block.norms.feedForwardInput, hiddenSize)
        attentionOutput = norm(block.norms.attentionOutput, hiddenSize)
        feedForwardOutput = norm(block.norms.feedForwardOutput, hiddenSize)
        query = norm(block.attention.headNorm, block.attention.headSize)
        key = norm(block.attention.headNorm, block.attention.headSize)
        groups = PerStream { LinearGroup(block.linears(reading: $0), precision: precision, in: arena) }
    }

    /// The linear layers that read a stream.
    public subscript(stream: Stream) -> LinearGroup { groups[stream] }

    /// The linear layer of this name in the block.
    public subscript(layer: LinearLayer) -> LinearWeights {
        let group = groups[layer.role.stream]
        guard let index = group.layers.firstIndex(where: { $0.id == layer.id }) else {
            preconditionFailure("\(layer.id) is not in this block")
        }
        return group.members[index]
    }

    /// The norms with their names inside the block, in the order of parameters.
    fileprivate var norms: [(name: String, norm: NormWeights)] {
        let all: [(String, NormWeights?)] = [
            ("input_layernorm", attentionInput), ("post_attention_layernorm", feedForwardInput),
            ("norms.attention_out", attentionOutput), ("norms.mlp_out", feedForwardOutput),
            ("self_attn.q_norm", query), ("self_attn.k_norm", key),
        ]
        return all.compactMap { name, norm in norm.map { (name, $0) } }
    }
}

/// All weights of a model.
public struct ModelWeights: Sendable {
    public let description: ModelDescription
    /// `[V, C]`.
    public let embedding: Weight
    /// Learned positions, `[positions, C]`.
    public let positions: Weight?
    public let blocks: [BlockWeights]
    /// The last norm.
    public let norm: NormWeights
    /// `[V, C]`; the embedding itself where they are tied, nil where it was not asked for.
    public let head: Weight?

    /// Weights of the right shapes, of which those in memory start as zeros; without a precision, names and shapes only.
    /// Vectors are in single precision in either case.
    public init(_ description: ModelDescription, precision: Precision?, includingHead: Bool = true) {
        let c = description.hiddenSize
        let arena = Arena()
        func matrix(_ rows: Int, _ columns: Int) -> Weight {
            Weight(shape: [rows, columns], precision: precision, in: arena)
        }
        func vector(_ count: Int) -> Weight {
            Weight(shape: [count], precision: precision.map { _ in .f32 }, in: arena)
        }
        self.description = description
        embedding = matrix(description.vocabularySize, c)
        positions = description.positionRows.map { matrix($0, c) }
        norm = NormWeights(description.finalNorm, features: c, vector: vector)
        head = !includingHead ? nil : description.tiesEmbedding ? embedding : matrix(description.vocabularySize, c)
        blocks = description.blocks.map {
            BlockWeights($0, hiddenSize: c, precision: precision, in: arena, vector: vector)
        }
    }

    /// Zeros of the same names, shapes and tying as another model's weights.
    public init(like other: ModelWeights, precision: Precision) {
        self.init(other.description, precision: precision, includingHead: other.head != nil)
    }

    public subscript(layer: LinearLayer) -> LinearWeights { blocks[layer.block][layer] }

    /// Every parameter in a fixed order: the one list that loading, saving and counting use.
    public var parameters: [Parameter] {
        var all = [Parameter(name: "model.embed_tokens.weight", role: .embedding, weight: embedding)]
        if let positions {
            all.append(Parameter(name: "model.embed_positions.weight", role: .positions, weight: positions))
        }
        for (index, block) in blocks.enumerated() {
            for (name, norm) in block.norms { all += norm.parameters("model.layers.\(index).\(name)") }
            for layer in description.blocks[index].linears { all += block[layer].parameters(of: layer) }
        }
        all += norm.parameters("model.norm")
        if let head, head !== embedding { all.append(Parameter(name: "lm_head.weight", role: .head, weight: head)) }
        return all
    }

    /// Number of parameters; tied ones count once.
    public var parameterCount: Int { parameters.reduce(0) { $0 + $1.weight.count } }

    public var bytes: Int { parameters.reduce(0) { $0 + $1.weight.bytes } }

    /// Sets every element to that of weights of the same description in single precision, rounded where these are in
    /// bfloat16.
    public func assign(_ other: ModelWeights) {
        for (own, source) in zip(parameters, other.parameters) {
            precondition(own.name == source.name, "\(source.name) assigned to \(own.name)")
            own.weight.assign(source.weight)
        }
    }

    /// Sixteen hexadecimal digits that names, shapes and elements in single precision lead to: the same for one model in
    /// any file format, another one for another model.
    public var fingerprint: String {
        let parameters = parameters
        let results = ParallelResults<UInt64>(count: parameters.count)
        results.fill(order: Array(parameters.indices), progress: { _ in }) { index in
            let weight = parameters[index].weight
            func hash(_ elements: UnsafeMutablePointer<Float>) -> UInt64 {
                elements.withMemoryRebound(to: UInt32.self, capacity: weight.count) { ck_hash($0, weight.count) }
            }
            if weight.isContiguous { return hash(weight.view.pointer) }
            let copy = weight.copy()
            return withExtendedLifetime(copy) { hash(copy.pointer) }
        }
        var words: [UInt32] = []
        for (parameter, hash) in zip(parameters, results.values) {
            words += "\(parameter.name) \(parameter.weight.shape)".unicodeScalars.map(\.value)
            words += [UInt32(truncatingIfNeeded: hash), UInt32(hash >> 32)]
        }
        let digits = String(ck_hash(words, words.count), radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
