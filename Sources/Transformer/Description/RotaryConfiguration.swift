import Glibc

/// The rotary position embedding of a block: how fast each pair of features of a head turns from position to position.
public struct RotaryConfiguration: Sendable, Hashable {
    public enum Scaling: Sendable, Hashable {
        case none
        /// All frequencies divided by `factor`.
        case linear(factor: Double)
        /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a smooth passage between.
        case llama3(factor: Double, low: Double, high: Double, originalPositions: Double)
        /// For a sequence of more than `positions` tokens a larger base, by its length ("NTK-aware").
        case dynamic(factor: Double, positions: Double)
        /// Peng et al. 2023 (arXiv 2309.00071): frequencies that turn less than `slow` times in the original context divided
        /// by `factor`, those that turn more than `fast` times kept, a ramp between; its ends are whole pairs if `truncates`.
        case yarn(factor: Double, fast: Double, slow: Double, originalPositions: Double, truncates: Bool)
    }

    /// θ.
    public var base: Double
    public var scaling: Scaling
    /// The share of each head that is rotated, its first features: `partial_rotary_factor`.
    public var share: Double
    /// What cosine and sine are multiplied by, the attention factor of YaRN.
    public var magnitude: Double

    public init(base: Double, scaling: Scaling = .none, share: Double = 1, magnitude: Double = 1) {
        self.base = base
        self.scaling = scaling
        self.share = share
        self.magnitude = magnitude
    }

    /// Features of a head of `size` that are rotated.
    public func rotatedSize(of size: Int) -> Int { Int(Double(size) * share) }

    /// Radians per position for each of the `size / 2` pairs of the rotated features of a head, `size` in number, in a
    /// sequence of `length` tokens.
    public func frequencies(size: Int, length: Int = 1) -> [Double] {
        let base = base(size: size, length: length)
        return (0..<size / 2).map { pair in
            let frequency = pow(base, -2 * Double(pair) / Double(size))
            switch scaling {
            case .none, .dynamic: return frequency
            case .linear(let factor): return frequency / factor
            case .llama3(let factor, let low, let high, let original):
                let wavelengths = original * frequency / (2 * .pi)
                let kept = min(1, max(0, (wavelengths - low) / (high - low)))
                return frequency * (kept + (1 - kept) / factor)
            case .yarn(let factor, _, _, _, _):
                let (first, last) = yarnRamp(size: size)
                let ramp = min(1, max(0, (Double(pair) - first) / (last - first)))
                return frequency / factor * ramp + frequency * (1 - ramp)
            }
        }
    }

    /// The longest sequence that is rotated as a short one is; nil where the length does not matter.
    var longestUnscaledLength: Int? {
        if case .dynamic(_, let positions) = scaling { Int(positions) } else { nil }
    }

    private func base(size: Int, length: Int) -> Double {
        guard case .dynamic(let factor, let positions) = scaling, Double(length) > positions, size > 2 else {
            return base
        }
        let stretch = factor * Double(length) / positions - (factor - 1)
        return base * pow(stretch, Double(size) / Double(size - 2))
    }

    /// The pairs between which YaRN passes from kept frequencies to divided ones.
    private func yarnRamp(size: Int) -> (first: Double, last: Double) {
        guard case .yarn(_, let fast, let slow, let original, let truncates) = scaling else { return (0, 1) }
        /// The pair that turns so many times in the original context.
        func pair(turns: Double) -> Double {
            Double(size) * log(original / (turns * 2 * .pi)) / (2 * log(base))
        }
        var (first, last) = (pair(turns: fast), pair(turns: slow))
        if truncates { (first, last) = (first.rounded(.down), last.rounded(.up)) }
        (first, last) = (max(first, 0), min(last, Double(size - 1)))
        return (first, first == last ? last + 0.001 : last)
    }
}
