import Transformer

/// A stretch of text to learn from: `targets[i]` is the token that follows `inputs[i]`.
public struct TrainingSequence: Sendable, Equatable {
    public let inputs: [UInt32]
    /// As many as inputs.
    public let targets: [UInt32]

    /// - Precondition: at least two tokens.
    init(tokens: [UInt32]) {
        precondition(tokens.count >= 2, "\(tokens.count) tokens have nothing to predict")
        inputs = Array(tokens.dropLast())
        targets = Array(tokens.dropFirst())
    }
}

/// Sequences that go through the model together.
public struct TrainingBatch: Sendable, Equatable {
    /// The inputs, without padding.
    public let tokens: TokenBatch
    /// The token after each input; `nil` where none is to be learnt.
    public let targets: [UInt32?]

    /// - Precondition: as many targets as tokens.
    public init(tokens: TokenBatch, targets: [UInt32?]) {
        precondition(tokens.count == targets.count, "\(targets.count) targets for \(tokens.count) tokens")
        self.tokens = tokens
        self.targets = targets
    }

    public init(_ sequences: [TrainingSequence]) {
        self.init(
            tokens: TokenBatch(ids: sequences.flatMap(\.inputs), lengths: sequences.map(\.inputs.count)),
            targets: sequences.flatMap { sequence in sequence.targets.map { $0 } })
    }
}
