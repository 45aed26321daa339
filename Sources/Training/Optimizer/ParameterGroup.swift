import CKernels
import Transformer

/// Parameters that are updated differently from the others, chosen by name.
public struct ParameterGroup: Equatable, Sendable {
    /// A checkpoint name in which each `*` stands for any characters or none.
    public var pattern: String
    /// What the learning rate is multiplied by, decay's included; 0 leaves the parameters as they are.
    public var learningRateFactor: Double
    /// Weight decay in place of the optimiser's own.
    public var weightDecay: Double?
    /// u: the parameter is trained as w/u. Its gradients count u times as large, also in the norm that is clipped, and a
    /// step moves it u times as far; decay takes the same part of it. A later group that gives no unit leaves it.
    public var unit: Double?

    public init(
        pattern: String, learningRateFactor: Double = 1, weightDecay: Double? = nil, unit: Double? = nil
    ) {
        self.pattern = pattern
        self.learningRateFactor = learningRateFactor
        self.weightDecay = weightDecay
        self.unit = unit
    }

    /// The usual exception from weight decay: norms and, where the model has any, biases.
    public static func withoutDecayOfVectors(in weights: ModelWeights) -> [ParameterGroup] {
        let names = weights.parameters.filter { $0.weight.shape.count == 1 }.map(\.name)
        return ["*norm.weight", "*.norms.*.weight", "*.bias"].map { ParameterGroup(pattern: $0, weightDecay: 0) }
            .filter { group in names.contains(where: group.contains) }
    }

    /// Each low-rank factor in a unit in which its root mean square is `reference`, a usual size of weights.
    ///
    /// Factors of a converted layer differ in size by orders of magnitude. A step of AdamW, which is as long as the learning
    /// rate whatever the gradient, would be nothing for one and destroy the other; the gradient of the small one would be
    /// all of the norm; and that of the large one would vanish beside ε. In units of their own, c·A and B/c are trained
    /// alike for any c.
    public static func bySize(of weights: ModelWeights, reference: Double = 0.02) -> [ParameterGroup] {
        weights.parameters.filter { $0.role.isFactor && $0.weight.precision == .f32 }.map { parameter in
            let count = parameter.weight.count
            let sum = parameter.weight.withElements(0..<count) { ck_sum_of_squares($0, count) }
            let size = (sum / Double(max(1, count))).squareRoot()
            return ParameterGroup(pattern: parameter.name, unit: size > 0 ? size / reference : nil)
        }
    }

    /// Whether the pattern matches the whole of a parameter's name.
    public func contains(_ name: String) -> Bool {
        let pieces = pattern.split(separator: "*", omittingEmptySubsequences: false)
        guard let first = pieces.first, let last = pieces.last, pieces.count > 1 else { return pattern == name }
        guard name.hasPrefix(first), name.dropFirst(first.count).hasSuffix(last) else { return false }
        var rest = name.dropFirst(first.count).dropLast(last.count)
        // The earliest place of each piece leaves the most for those that follow.
        for piece in pieces.dropFirst().dropLast() where !piece.isEmpty {
            guard let place = rest.firstRange(of: piece) else { return false }
            rest = rest[place.upperBound...]
        }
        return true
    }
}
