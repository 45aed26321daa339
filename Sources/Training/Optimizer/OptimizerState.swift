import Transformer

/// What AdamW has come to: running means of each parameter's gradient and of its square, and how often they were moved.
public struct OptimizerState: Sendable {
    /// m of every parameter, the mean of its gradients.
    public let firstMoment: ModelWeights
    /// v of every parameter, the mean of their squares.
    public let secondMoment: ModelWeights
    /// t: how many steps have been taken.
    public internal(set) var step: Int

    /// Both are in single precision and have one layout.
    public init(firstMoment: ModelWeights, secondMoment: ModelWeights, step: Int) {
        precondition(step >= 0, "\(step) steps")
        self.firstMoment = firstMoment
        self.secondMoment = secondMoment
        self.step = step
    }

    /// Zeros, before the first step, for parameters like those of a model.
    public init(like masters: ModelWeights) {
        self.init(
            firstMoment: ModelWeights(like: masters, precision: .f32),
            secondMoment: ModelWeights(like: masters, precision: .f32), step: 0)
    }

    public var bytes: Int { firstMoment.bytes + secondMoment.bytes }
}
