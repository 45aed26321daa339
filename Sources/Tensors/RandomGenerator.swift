import Glibc

/// SplitMix64: a small seeded generator whose sequence is the same on every machine.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    public private(set) var state: UInt64

    public init(seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`, with 53 random bits.
    public mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// Standard normal, by the Box–Muller transform.
    public mutating func normal() -> Double {
        let radius = (-2 * log(1 - uniform())).squareRoot()
        return radius * cos(2 * .pi * uniform())
    }
}

extension Tensor<Float> {
    /// Independent normal entries of the given standard deviation.
    public static func normal(shape: [Int], deviation: Double = 1, using generator: inout SeededGenerator) -> Matrix {
        let tensor = Matrix(uninitialized: shape)
        for i in 0..<tensor.count { tensor.pointer[i] = Float(generator.normal() * deviation) }
        return tensor
    }
}
