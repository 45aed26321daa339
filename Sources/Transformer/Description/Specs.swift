/// A norm over features: x̂ ∘ (offset + weight) + bias. Only RMSNorm may have an offset, only LayerNorm a bias.
public struct NormDescription: Sendable, Equatable {
    public enum Kind: String, Sendable, Codable {
        /// x̂ = x / √(mean(x²) + ε).
        case rms
        /// x̂ = (x − mean(x)) / √(var(x) + ε), with the biased variance.
        case layer
    }

    public var kind: Kind
    /// ε, inside the root.
    public var epsilon: Float
    /// What is added to the weight: 1 in Gemma's norms, else 0.
    public var offset: Float
    public var hasBias: Bool

    public init(_ kind: Kind, epsilon: Float, offset: Float = 0, hasBias: Bool = false) {
        self.kind = kind
        self.epsilon = epsilon
        self.offset = offset
        self.hasBias = hasBias
    }
}

/// The function inside a feed-forward network.
public enum Activation: String, Sendable, CaseIterable, Codable {
    /// None: the network is down(gate · up), or down(up).
    case identity
    /// x · sigmoid(x).
    case silu
    /// ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
    case geluTanh = "gelu_tanh"
    /// ½x(1 + erf(x/√2)).
    case gelu
    case relu
    /// relu(x)².
    case relu2
    /// x · sigmoid(1.702x).
    case quickGELU = "quick_gelu"

    /// By the names that configurations use.
    public init?(configured name: String) {
        switch name {
        case "silu", "swish", "swiglu": self = .silu
        case "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_tanh": self = .geluTanh
        case "gelu": self = .gelu
        case "relu": self = .relu
        case "relu2": self = .relu2
        case "quick_gelu": self = .quickGELU
        default: return nil
        }
    }
}

/// Attention of a block: who sees whom, and how scores arise.
public struct AttentionDescription: Sendable, Equatable {
    /// H query heads share K key/value heads, H / K neighbours each.
    public var heads: Int
    public var keyValueHeads: Int
    /// D, features of a head.
    public var headSize: Int
    /// What q·k is multiplied by, 1/√D unless the family says otherwise.
    public var scale: Float
    /// W: a token sees the last W tokens, itself included; all earlier ones where it is nil.
    public var window: Int?
    /// How q and k are rotated by their positions; nil for a block without rotation.
    public var rotary: RotaryConfiguration?
    /// The norm of each head of q and of k before the rotation, if there is one.
    public var headNorm: NormDescription?

    public init(heads: Int, keyValueHeads: Int, headSize: Int) {
        self.heads = heads
        self.keyValueHeads = keyValueHeads
        self.headSize = headSize
        scale = 1 / Float(headSize).squareRoot()
    }

    /// H · D.
    public var queryWidth: Int { heads * headSize }
    /// K · D.
    public var keyValueWidth: Int { keyValueHeads * headSize }

    /// FLOPs of one sequence's q·kᵀ and P·v, over the pairs of tokens that see each other.
    public func flops(sequenceLength length: Int) -> Double {
        let window = min(window ?? length, length)
        let full = Double(window) * Double(window + 1) / 2 + Double(length - window) * Double(window)
        return 4 * Double(queryWidth) * full
    }
}

/// The feed-forward network of a block: down(act(gate(x)) · up(x)), or down(act(up(x))) without a gate.
public struct FeedForwardDescription: Sendable, Equatable {
    /// F.
    public var width: Int
    public var isGated: Bool
    public var activation: Activation

    public init(width: Int, isGated: Bool = true, activation: Activation = .silu) {
        self.width = width
        self.isGated = isGated
        self.activation = activation
    }
}

/// Where σ stands in a model with bottlenecks (the ablation in arXiv 2502.10940).
public enum ActivationPlacement: String, Codable, Sendable, CaseIterable {
    /// σ in every bottleneck, and the original activation of the feed-forward network: `only_lr_act = false`.
    case both
    /// σ in every bottleneck only: `only_lr_act = true`.
    case inner
    /// σ only in the bottleneck in front of which the dense model had one: the gate's, or up's where there is no gate.
    case reduced
    /// Linear bottlenecks B·A; the original activation stays.
    case original

    /// Whether the feed-forward network has its own activation.
    public var hasOuterActivation: Bool { self == .both || self == .original }

    /// Whether σ stands between A and B of a linear layer.
    public func hasInnerActivation(_ role: LinearRole, isGated: Bool) -> Bool {
        switch self {
        case .both, .inner: true
        case .reduced: role == (isGated ? .gate : .up)
        case .original: false
        }
    }
}
