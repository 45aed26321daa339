import CKernels
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
    /// The share of each head that is rotated, its first features: `partial_rotary_factor`.
    public var share: Double

    /// Features of a head of `size` that are rotated.
    public func rotatedSize(of size: Int) -> Int { Int(Double(size) * share) }

    init(_ raw: ConfigurationText) throws(TransformerError) {
        let values = try RotaryValues(raw)
        base = try values.number("rope_theta") ?? 10000
        guard base > 0 else { throw values.error("rope_theta", "\(base)", "a positive number") }
        share = try values.number("partial_rotary_factor") ?? 1
        guard share > 0, share <= 1 else {
            throw values.error("partial_rotary_factor", "\(share)", "above 0, at most 1")
        }

        func need(_ key: String, default fallback: Double? = nil) throws(TransformerError) -> Double {
            let value = try values.number(key) ?? fallback
            guard let value, value > 0 else {
                throw values.error(key, value.map { "\($0)" } ?? "nothing", "a positive number")
            }
            return value
        }
        switch try values.kind() {
        case "default":
            try values.refuse(except: [])
            scaling = .none
        case "linear":
            try values.refuse(except: ["factor"])
            scaling = .linear(factor: try need("factor"))
        case "llama3":
            try values.refuse(except: ["factor", "low_freq_factor", "high_freq_factor"])
            let positions = try raw.number("max_position_embeddings")
            scaling = .llama3(
                factor: try need("factor"), low: try need("low_freq_factor"), high: try need("high_freq_factor"),
                originalPositions: try need("original_max_position_embeddings", default: positions))
        case let other: throw values.error("rope_type", other, "default, linear or llama3")
        }
    }

    /// Radians per position for each of the `size / 2` pairs of the rotated features of a head, `size` in number.
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

/// Cosines and sines of all positions of a pass, `[positions, R / 2]` each, for R rotated features of a head.
final class RotaryTable: Sendable {
    let cosine: Matrix
    let sine: Matrix
    private let headSize: Int
    private let rotated: Int

    /// For heads of `size` features.
    init(_ configuration: RotaryConfiguration, size: Int, positions: Int) {
        headSize = size
        rotated = configuration.rotatedSize(of: size)
        let frequencies = configuration.frequencies(size: rotated)
        cosine = Matrix(uninitialized: [positions, rotated / 2])
        sine = Matrix(uninitialized: [positions, rotated / 2])
        for position in 0..<positions {
            for (pair, frequency) in frequencies.enumerated() {
                let angle = Double(position) * frequency
                cosine[position, pair] = Float(cos(angle))
                sine[position, pair] = Float(sin(angle))
            }
        }
    }

    /// Rotates the heads of one token in place: `direction` 1 forward, −1 back.
    func rotate(_ row: UnsafeMutablePointer<Float>, heads: Int, position: Int, direction: Float) {
        let (cosine, sine) = (cosine.view.row(position), sine.view.row(position))
        if rotated == headSize {
            ck_rotate_halves(row, heads, headSize, cosine, sine, direction)
        } else {
            for head in 0..<heads { ck_rotate_halves(row + head * headSize, 1, rotated, cosine, sine, direction) }
        }
    }
}
