import Tensors

/// Where activations can be watched during a forward pass; one per matrix that exists in it.
public enum ActivationSite: Hashable, Sendable {
    /// What enters the linear layers that read a stream.
    case input(Stream)
    /// What leaves down, before it is added to the residual stream.
    case feedForwardOutput
    /// σ(A·x) of a low-rank linear layer that has σ, by its path inside the block.
    case bottleneck(module: String)
    /// The residual stream entering the block.
    case residualInput
    /// The residual stream leaving the block.
    case residualOutput
}

/// Watches the activations of a forward pass.
public protocol ActivationObserver: AnyObject {
    /// `activations` is `[tokens, features]` and valid during the call only.
    func observe(_ site: ActivationSite, block: Int, _ activations: MatrixView<Float>)
}

/// Watches a backward pass.
public protocol GradientObserver: AnyObject {
    /// `gradient` `[tokens, out]` is the loss' derivative by what leaves a linear layer; valid during the call only.
    func observeGradient(of linear: LinearLayer, _ gradient: MatrixView<Float>)
}
