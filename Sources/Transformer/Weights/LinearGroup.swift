import Tensors

/// The parameters of one linear layer, dense or in CoLA's form (arXiv 2502.10940), the factors in the orientation of the
/// paper's code.
public enum LinearWeights: Sendable {
    /// W, `[out, in]`, and a bias `[out]`.
    case dense(Dense)
    /// A, `[in, rank]`, B, `[rank, out]`, and a bias `[out]`.
    case lowRank(LowRank)

    public struct Dense: Sendable {
        public let weight: Weight
        public let bias: Weight?
    }

    public struct LowRank: Sendable {
        public let a: Weight
        public let b: Weight
        public let bias: Weight?
        /// Whether σ = silu stands between the factors.
        public let isActivated: Bool

        public var rank: Int { a.columns }
    }

    public var bias: Weight? {
        switch self {
        case .dense(let dense): dense.bias
        case .lowRank(let lowRank): lowRank.bias
        }
    }

    /// Width of the bottleneck, if there is one.
    public var rank: Int? {
        if case .lowRank(let lowRank) = self { lowRank.rank } else { nil }
    }

    /// Features that leave it.
    public var outputs: Int {
        switch self {
        case .dense(let dense): dense.weight.rows
        case .lowRank(let lowRank): lowRank.b.columns
        }
    }
}

/// The linear layers of a block that read one stream, their weights side by side, so that what is common to them is one
/// product: x·Wᵀ of the dense ones, x·A of the others.
///
/// Their outputs stand side by side as well, first those of the dense ones; so do the bottlenecks.
public struct LinearGroup: Sendable {
    public let layers: [LinearLayer]
    public let members: [LinearWeights]
    /// The matrices of all dense members, one below the other, `[Σ out, in]`.
    let dense: Weight?
    /// The factors A of all others, one beside the other, `[in, Σ rank]`.
    let factors: Weight?
    /// The columns of each member's output among those of the group.
    let outputs: [Range<Int>]
    /// The columns of each member's bottleneck; empty for a dense one.
    let bottlenecks: [Range<Int>]

    /// Parameters of these layers whose elements are not yet set.
    init(_ layers: [LinearLayer], precision: Precision?, in arena: Arena) {
        self.layers = layers
        (outputs, bottlenecks) = Self.columns(of: layers)
        let inputs = layers.first?.inputs ?? 0
        let denseOutputs = layers.reduce(0) { $0 + ($1.isLowRank ? 0 : $1.outputs) }
        let ranks = layers.reduce(0) { $0 + ($1.rank ?? 0) }
        let dense = denseOutputs > 0 ? Weight(shape: [denseOutputs, inputs], precision: precision, in: arena) : nil
        let factors = ranks > 0 ? Weight(shape: [inputs, ranks], precision: precision, in: arena) : nil
        self.dense = dense
        self.factors = factors
        members = zip(layers, zip(outputs, bottlenecks)).map { layer, columns in
            let bias =
                layer.hasBias
                ? Weight(shape: [layer.outputs], precision: precision.map { _ in .f32 }, in: arena) : nil
            if let dense, !layer.isLowRank { return .dense(.init(weight: dense.rows(columns.0), bias: bias)) }
            guard let bottleneck = layer.bottleneck, let factors else { preconditionFailure("a layer without weights") }
            return .lowRank(
                .init(
                    a: factors.columns(columns.1),
                    b: Weight(shape: [bottleneck.rank, layer.outputs], precision: precision, in: arena), bias: bias,
                    isActivated: bottleneck.isActivated))
        }
    }

    /// A group of one.
    init(of member: LinearWeights) {
        layers = []
        members = [member]
        outputs = [0..<member.outputs]
        bottlenecks = [0..<(member.rank ?? 0)]
        switch member {
        case .dense(let own): (dense, factors) = (own.weight, nil)
        case .lowRank(let own): (dense, factors) = (nil, own.a)
        }
    }

    static func columns(of layers: [LinearLayer]) -> (outputs: [Range<Int>], bottlenecks: [Range<Int>]) {
        var (output, bottleneck) = (0, 0)
        var (outputs, bottlenecks) = (layers.map { _ in 0..<0 }, layers.map { _ in 0..<0 })
        for isLowRank in [false, true] {
            for (index, layer) in layers.enumerated() where layer.isLowRank == isLowRank {
                outputs[index] = output..<output + layer.outputs
                output += layer.outputs
                bottlenecks[index] = bottleneck..<bottleneck + (layer.rank ?? 0)
                bottleneck += layer.rank ?? 0
            }
        }
        return (outputs, bottlenecks)
    }

    /// Features that leave all members.
    var width: Int { outputs.map(\.upperBound).max() ?? 0 }
    /// Width of all bottlenecks.
    var rank: Int { factors?.columns ?? 0 }

    /// The columns of the member with a role.
    func columns(of role: LinearRole) -> Range<Int> {
        layers.firstIndex { $0.role == role }.map { outputs[$0] } ?? 0..<0
    }
}

/// One value for each stream of a block.
struct PerStream<Value> {
    private var values: [Value]

    init(_ value: (Stream) -> Value) { values = Stream.allCases.map(value) }

    subscript(stream: Stream) -> Value {
        get { values[stream.rawValue] }
        set { values[stream.rawValue] = newValue }
    }
}

extension PerStream: Sendable where Value: Sendable {}
