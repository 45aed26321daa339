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

    init(_ raw: ConfigurationText) throws(TransformerError) {
        // One object holds base and scaling in files since transformers 5; before, the base stood outside.
        let parameters = try raw.object("rope_parameters")
        let older = try raw.object("rope_scaling")
        let scaling = parameters ?? older
        let outerBase = try raw.number("rope_theta")
        base = try parameters?.number("rope_theta") ?? outerBase ?? 10000
        guard base > 0 else { throw raw.error("rope_theta", "\(base)", "a positive number") }

        func need(_ key: String, default fallback: Double? = nil) throws(TransformerError) -> Double {
            let value = try scaling?.number(key) ?? fallback
            guard let value, value > 0 else {
                throw (scaling ?? raw).error(key, value.map { "\($0)" } ?? "nothing", "a positive number")
            }
            return value
        }
        let olderKind = try scaling?.string("type")
        switch try scaling?.string("rope_type") ?? olderKind ?? "default" {
        case "default": self.scaling = .none
        case "linear": self.scaling = .linear(factor: try need("factor"))
        case "llama3":
            let positions = try raw.number("max_position_embeddings")
            self.scaling = .llama3(
                factor: try need("factor"), low: try need("low_freq_factor"), high: try need("high_freq_factor"),
                originalPositions: try need("original_max_position_embeddings", default: positions))
        case let other: throw (scaling ?? raw).error("rope_type", other, "default, linear or llama3")
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
