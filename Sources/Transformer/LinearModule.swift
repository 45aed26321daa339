import Tensors

/// The seven linear layers of a decoder layer, by their Hugging Face paths.
public enum LinearModule: String, CaseIterable, Sendable, Codable {
    case query = "self_attn.q_proj"
    case key = "self_attn.k_proj"
    case value = "self_attn.v_proj"
    case output = "self_attn.o_proj"
    case gate = "mlp.gate_proj"
    case up = "mlp.up_proj"
    case down = "mlp.down_proj"

    /// The module that stands for all that share its input: q for q, k and v; gate for gate and up.
    public var inputOwner: LinearModule {
        switch self {
        case .query, .key, .value: .query
        case .gate, .up: .gate
        case .output, .down: self
        }
    }

    /// The last part of the path without `_proj`: "q", "gate", …
    public var shortName: String { String(rawValue.split(separator: ".")[1].dropLast(5)) }
}

/// Where activations can be watched during a forward pass; one per matrix that exists in it.
public enum ActivationSite: Hashable, Sendable {
    /// What enters a linear layer, named by its `inputOwner`.
    case input(LinearModule)
    /// What leaves the MLP, before it is added to the residual stream.
    case mlpOutput
    /// σ(A·x) of a low-rank projection that has σ.
    case bottleneck(LinearModule)
    /// The residual stream entering the decoder layer.
    case residualInput
    /// The residual stream leaving the decoder layer.
    case residualOutput
}

/// Watches the activations of a forward pass.
public protocol ActivationObserver: AnyObject {
    /// `activations` is `[tokens, features]` and valid during the call only.
    func observe(_ site: ActivationSite, layer: Int, _ activations: MatrixView<Float>)
}

/// Watches a backward pass.
public protocol GradientObserver: AnyObject {
    /// `gradient` `[tokens, out]` is the loss' derivative by what leaves a linear layer; valid during the call only.
    func observeGradient(of module: LinearModule, layer: Int, _ gradient: MatrixView<Float>)
}
