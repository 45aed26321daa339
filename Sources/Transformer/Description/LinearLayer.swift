/// What a linear layer is for in its block.
public enum LinearRole: String, CaseIterable, Sendable, Codable {
    case query, key, value, output, gate, up, down

    /// The canonical path inside a block, which checkpoints and tables use: `self_attn.q_proj`, `mlp.down_proj`, …
    public var module: String {
        switch self {
        case .query: "self_attn.q_proj"
        case .key: "self_attn.k_proj"
        case .value: "self_attn.v_proj"
        case .output: "self_attn.o_proj"
        case .gate: "mlp.gate_proj"
        case .up: "mlp.up_proj"
        case .down: "mlp.down_proj"
        }
    }

    /// What it reads.
    public var stream: Stream {
        switch self {
        case .query, .key, .value: .attentionInput
        case .output: .attended
        case .gate, .up: .feedForwardInput
        case .down: .product
        }
    }
}

/// A matrix of activations that linear layers read, in the order in which a block makes them. Those that read the same one
/// form a group, whose products are one product.
public enum Stream: Int, CaseIterable, Sendable, Codable {
    /// What q, k and v read.
    case attentionInput
    /// The values, weighted by attention: what o reads.
    case attended
    /// What gate and up read.
    case feedForwardInput
    /// act(gate) · up, or act(up) without a gate: what down reads.
    case product
}

/// One linear layer of a model: y = W·x + b, or in CoLA's form y = B·σ(A·x) + b.
public struct LinearLayer: Sendable, Equatable {
    /// Which one: its block, counted from 0, and its canonical path inside.
    public struct ID: Hashable, Sendable, Comparable, CustomStringConvertible {
        public let block: Int
        public let module: String

        public init(block: Int, module: String) {
            self.block = block
            self.module = module
        }

        /// The last part of the path without `_proj`: "q", "gate", …
        public var shortName: String { LinearLayer.shortName(of: module) }

        /// The path of the module in a checkpoint: `model.layers.3.mlp.up_proj`.
        public var path: String { "model.layers.\(block).\(module)" }

        /// "layer 3 mlp.up_proj", as errors name it.
        public var description: String { "layer \(block) \(module)" }

        public static func < (one: ID, other: ID) -> Bool { (one.block, one.module) < (other.block, other.module) }
    }

    /// The narrow middle of CoLA's form.
    public struct Bottleneck: Sendable, Equatable {
        /// R, its width.
        public var rank: Int
        /// Whether σ = silu stands in it; else it is linear.
        public var isActivated: Bool

        public init(rank: Int, isActivated: Bool) {
            self.rank = rank
            self.isActivated = isActivated
        }
    }

    public let id: ID
    public let role: LinearRole
    /// Features that enter and leave.
    public let inputs: Int
    public let outputs: Int
    public var hasBias: Bool
    /// Nil for a dense layer.
    public var bottleneck: Bottleneck?

    public init(block: Int, _ role: LinearRole, inputs: Int, outputs: Int, hasBias: Bool = false) {
        id = ID(block: block, module: role.module)
        self.role = role
        self.inputs = inputs
        self.outputs = outputs
        self.hasBias = hasBias
    }

    public var block: Int { id.block }
    public var module: String { id.module }
    public var rank: Int? { bottleneck?.rank }
    public var isLowRank: Bool { bottleneck != nil }

    /// Parameters of the dense matrix, in · out.
    public var denseParameters: Int { inputs * outputs }
    /// Parameters of both factors, rank · (in + out); 0 for a dense layer.
    public var factorParameters: Int { (rank ?? 0) * (inputs + outputs) }
    /// Parameters of the matrices that are there.
    public var matrixParameters: Int { isLowRank ? factorParameters : denseParameters }
    public var biasParameters: Int { hasBias ? outputs : 0 }

    /// FLOPs of one token: two for each parameter of the matrices.
    public var flops: Int { 2 * matrixParameters }

    /// The last part of a module's path without `_proj`.
    public static func shortName(of module: String) -> String {
        let last = module.split(separator: ".").last.map(String.init) ?? module
        return last.hasSuffix("_proj") ? String(last.dropLast(5)) : last
    }
}
