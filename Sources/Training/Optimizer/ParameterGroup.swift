import CKernels
import Tensors
import Transformer

/// Parameters that are updated differently from the others, chosen by name.
public struct ParameterGroup: Codable, Equatable, Sendable {
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
    public static func withoutDecayOfVectors(in weights: DecoderWeights) -> [ParameterGroup] {
        let names = ParameterBlocks(weights).names
        return ["*norm.weight", "*.bias"].map { ParameterGroup(pattern: $0, weightDecay: 0) }
            .filter { group in names.contains(where: group.contains) }
    }

    /// Each low-rank factor in a unit in which its root mean square is `reference`, a usual size of weights.
    ///
    /// Factors of a converted layer differ in size by orders of magnitude. A step of AdamW, which is as long as the learning
    /// rate whatever the gradient, would be nothing for one and destroy the other; the gradient of the small one would be
    /// all of the norm; and that of the large one would vanish beside ε. In units of their own, c·A and B/c are trained
    /// alike for any c.
    public static func bySize(of weights: DecoderWeights, reference: Double = 0.02) -> [ParameterGroup] {
        var groups: [ParameterGroup] = []
        weights.visitParameters { name, weight in
            guard name.hasSuffix(".cola_a") || name.hasSuffix(".cola_b"), case .single(let matrix) = weight.storage
            else { return }
            let size = (ck_sum_of_squares(matrix.pointer, matrix.count) / Double(max(1, matrix.count))).squareRoot()
            groups.append(ParameterGroup(pattern: name, unit: size > 0 ? size / reference : nil))
        }
        return groups
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
