import LinearAlgebra
import Tensors
import Transformer

/// How far a converted linear layer is from the dense one, over some tokens.
public struct LayerError: Sendable {
    public let layer: Int
    public let module: LinearModule
    /// √(E‖y − ŷ‖² / E‖y‖²) where both read the dense model's activations; nil if y is zero for all tokens.
    public let relative: Double?
    /// The same where the converted layer reads what the converted layers before it made.
    public let inPlace: Double?
    /// E‖y − ŷ‖² over the least that any bottleneck of this rank could leave, the energy beyond the rank of the outputs
    /// with their mean removed (Eckart and Young); nil where it was not asked for, or is nothing.
    public let floorRatio: Double?

    /// Runs the tokens through both models, layer by layer, and compares what leaves each converted linear layer.
    /// `progress` is told the layers done. Throws `LinearAlgebraError`.
    public static func measure(
        dense: Decoder, converted: Decoder, _ tokens: TokenBatch, withFloor: Bool, progress: (Int) -> Void = { _ in }
    ) throws -> [LayerError] {
        let steps = LayerSteps(dense.configuration, tokens)
        // The models differ in where σ stands inside projections, not between them.
        precondition(
            dense.configuration.placement.hasOuterActivation == converted.configuration.placement.hasOuterActivation)
        var (hidden, drifted) = (steps.embed(dense), steps.embed(converted))
        var errors: [LayerError] = []
        // A part of nothing is no number.
        func finite(_ quotient: Double) -> Double? { quotient.isFinite ? quotient : nil }
        for layer in 0..<dense.configuration.layers {
            let (from, to) = (dense.weights.layers[layer], converted.weights.layers[layer])
            func compare(_ modules: [LinearModule], _ x: Matrix, _ y: Matrix) throws -> ([Matrix], [Matrix]) {
                let outputs = modules.map { steps.project(x, from[$0]) }
                let placed = modules.map { steps.project(y, to[$0]) }
                let covariance =
                    withFloor && modules.contains { to[$0].rank != nil } ? InputMoments(x).covariance : nil
                for (index, module) in modules.enumerated() {
                    guard let rank = to[module].rank, case .dense(let dense) = from[module] else { continue }
                    let own = SampleMoments.squaredDistance(outputs[index], steps.project(x, to[module]))
                    let there = SampleMoments.squaredDistance(outputs[index], placed[index])
                    let energy = SampleMoments.squaredDistance(outputs[index], nil)
                    var ratio: Double?
                    if let covariance {
                        let tail = try WeightedFactors.Problem(
                            weight: dense.weight.doubles(), input: covariance, gradient: nil
                        ).energies().dropFirst(rank).reversed().reduce(0, +)
                        ratio = finite(own / Double(tokens.count) / tail)
                    }
                    errors.append(
                        LayerError(
                            layer: layer, module: module,
                            relative: finite((own / energy).squareRoot()),
                            inPlace: finite((there / energy).squareRoot()), floorRatio: ratio))
                }
                return (outputs, placed)
            }
            let (q, p) = try compare(
                [.query, .key, .value], steps.normalize(hidden, from.inputNorm), steps.normalize(drifted, to.inputNorm))
            let (o, u) = try compare(
                [.output], steps.attend(query: q[0], key: q[1], value: q[2]),
                steps.attend(query: p[0], key: p[1], value: p[2]))
            (hidden, drifted) = (steps.add(hidden, o[0]), steps.add(drifted, u[0]))
            let (g, h) = try compare(
                [.gate, .up], steps.normalize(hidden, from.postAttentionNorm),
                steps.normalize(drifted, to.postAttentionNorm))
            let (d, e) = try compare(
                [.down], steps.multiply(gate: g[0], up: g[1]), steps.multiply(gate: h[0], up: h[1]))
            (hidden, drifted) = (steps.add(hidden, d[0]), steps.add(drifted, e[0]))
            progress(layer + 1)
        }
        return errors
    }
}
