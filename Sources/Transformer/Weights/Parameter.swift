/// What a parameter is to the model.
public enum ParameterRole: Sendable, Equatable {
    /// The token embedding, `[V, C]`.
    case embedding
    /// The table of learned positions, `[positions, C]`.
    case positions
    /// The weight of a norm, `[features]`.
    case norm(NormDescription)
    /// The bias of a norm.
    case normBias
    /// W of a dense linear layer, `[out, in]`.
    case weight(LinearLayer)
    /// A of a low-rank one, `[in, rank]`.
    case factorA(LinearLayer)
    /// B of a low-rank one, `[rank, out]`.
    case factorB(LinearLayer)
    /// The bias of a linear layer, `[out]`.
    case bias(LinearLayer)
    /// The head where it is not the embedding, `[V, C]`.
    case head

    /// Whether it is one of the two factors of a low-rank linear layer.
    public var isFactor: Bool {
        switch self {
        case .factorA, .factorB: true
        default: false
        }
    }

    /// The linear layer that it belongs to.
    public var linear: LinearLayer? {
        switch self {
        case .weight(let layer), .factorA(let layer), .factorB(let layer), .bias(let layer): layer
        default: nil
        }
    }
}

/// A parameter of a model: its canonical name, what it is, and its elements.
public struct Parameter: Sendable {
    public let name: String
    public let role: ParameterRole
    public let weight: Weight
}
