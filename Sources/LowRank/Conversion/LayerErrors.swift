import LinearAlgebra
import Tensors
import Transformer

/// How far a converted linear layer is from the dense one, over some tokens.
public struct LayerError: Sendable {
    public let linear: LinearLayer
    /// √(E‖y − ŷ‖² / E‖y‖²) where both read the dense model's activations; nil if y is zero for all tokens.
    public let relative: Double?
    /// The same where the converted layer reads what the converted layers before it made.
    public let inPlace: Double?
    /// E‖y − ŷ‖² over the least that any bottleneck of this rank could leave, the energy beyond the rank of the outputs
    /// with their mean removed (Eckart and Young); nil where it was not asked for, or is nothing.
    public let floorRatio: Double?

    /// Runs the tokens through both models, stage by stage, and compares what leaves each converted linear layer.
    /// `progress` is told the blocks done. Throws `LinearAlgebraError`.
    public static func measure(
        dense: LanguageModel, converted: LanguageModel, _ tokens: TokenBatch, withFloor: Bool,
        progress: (Int) -> Void = { _ in }
    ) throws -> [LayerError] {
        let (walk, drift) = (BlockWalk(dense, tokens), BlockWalk(converted, tokens))
        var errors: [LayerError] = []
        for (index, block) in dense.description.blocks.enumerated() {
            for stream in Stream.allCases {
                let linears = block.linears(reading: stream)
                let (x, drifted) = (walk.input(of: stream), drift.input(of: stream))
                let outputs = linears.map { BlockWalk.project(x, dense.weights[$0]) }
                let placed = linears.map { BlockWalk.project(drifted, converted.weights[$0]) }
                let isLowRank = linears.contains { converted.weights[$0].rank != nil }
                let covariance = withFloor && isLowRank ? InputMoments(x).covariance : nil
                for (linear, (output, placed)) in zip(linears, zip(outputs, placed)) {
                    let weights = converted.weights[linear]
                    guard let rank = weights.rank, case .dense(let dense) = dense.weights[linear] else { continue }
                    let own = SampleMoments.squaredDistance(output, BlockWalk.project(x, weights))
                    let there = SampleMoments.squaredDistance(output, placed)
                    let energy = SampleMoments.squaredDistance(output, nil)
                    var ratio: Double?
                    if let covariance {
                        let tail = try WeightedFactors.Problem(
                            weight: dense.weight.doubles(), input: covariance, gradient: nil
                        ).energies().dropFirst(rank).reversed().reduce(0, +)
                        ratio = finite(own / Double(tokens.count) / tail)
                    }
                    errors.append(
                        LayerError(
                            linear: linear, relative: finite((own / energy).squareRoot()),
                            inPlace: finite((there / energy).squareRoot()), floorRatio: ratio))
                }
                walk.advance(stream, outputs: outputs)
                drift.advance(stream, outputs: placed)
            }
            progress(index + 1)
        }
        return errors
    }

    /// A part of nothing is not a number.
    private static func finite(_ quotient: Double) -> Double? { quotient.isFinite ? quotient : nil }
}
