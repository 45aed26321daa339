import Glibc
import Tensors

/// Base and scaling of the rotary position embedding.
public struct RotaryConfiguration: Sendable, Equatable {
    public enum Scaling: Sendable, Equatable {
        case none
        /// All frequencies divided by `factor`.
        case linear(factor: Double)
        /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a smooth passage between.
        case llama3(factor: Double, low: Double, high: Double, originalPositions: Double)
    }

    public var base: Double
    public var scaling: Scaling

    init(_ raw: RawConfiguration, path: String) throws(TransformerError) {
        let parameters = raw.rope_parameters ?? raw.rope_scaling
        base = raw.rope_parameters?.rope_theta ?? raw.rope_theta ?? 10000
        guard base > 0 else {
            throw .configuration(path: path, key: "rope_theta", found: "\(base)", expected: "a positive number")
        }
        func need(_ value: Double?, _ key: String) throws(TransformerError) -> Double {
            guard let value, value > 0 else {
                throw .configuration(
                    path: path, key: "rope_scaling.\(key)", found: value.map { "\($0)" } ?? "nothing",
                    expected: "a positive number")
            }
            return value
        }
        switch parameters?.rope_type ?? parameters?.type ?? "default" {
        case "default": scaling = .none
        case "linear": scaling = .linear(factor: try need(parameters?.factor, "factor"))
        case "llama3":
            scaling = .llama3(
                factor: try need(parameters?.factor, "factor"),
                low: try need(parameters?.low_freq_factor, "low_freq_factor"),
                high: try need(parameters?.high_freq_factor, "high_freq_factor"),
                originalPositions: try need(
                    parameters?.original_max_position_embeddings ?? raw.max_position_embeddings.map(Double.init),
                    "original_max_position_embeddings"))
        case let other:
            throw .configuration(
                path: path, key: "rope_scaling.rope_type", found: other, expected: "default, linear or llama3")
        }
    }

    /// Radians per position for each of the `size / 2` pairs of a head.
    public func frequencies(size: Int) -> [Double] {
        (0..<size / 2).map { pair in
            let frequency = pow(base, -2 * Double(pair) / Double(size))
            switch scaling {
            case .none: return frequency
            case .linear(let factor): return frequency / factor
            case .llama3(let factor, let low, let high, let original):
                let wavelengths = original * frequency / (2 * .pi)
                let kept = min(1, max(0, (wavelengths - low) / (high - low)))
                return frequency * (kept + (1 - kept) / factor)
            }
        }
    }
}

/// Cosines and sines of all positions of a pass, `[positions, D / 2]` each.
final class RotaryTable: Sendable {
    let cosine: Matrix
    let sine: Matrix

    init(_ configuration: RotaryConfiguration, size: Int, positions: Int) {
        let frequencies = configuration.frequencies(size: size)
        cosine = Matrix(uninitialized: [positions, size / 2])
        sine = Matrix(uninitialized: [positions, size / 2])
        for position in 0..<positions {
            for (pair, frequency) in frequencies.enumerated() {
                let angle = Double(position) * frequency
                cosine[position, pair] = Float(cos(angle))
                sine[position, pair] = Float(sin(angle))
            }
        }
    }
}
