import CKernels
import TestSupport
import Testing

/// One row in double precision, and what single precision may be wrong by.
private struct Row {
    let mean: Double
    /// 1 / √(var + ε).
    let scale: Double
    /// What a sum is wrong by, relatively to the sum of its terms' sizes: each of 32 lanes adds count / 32 of them, that
    /// were rounded up to three times. Then there are a few roundings of the result.
    let roundings: Double
    /// Of the mean: its own rounding, and what adding up the deviations from a first approximation does.
    let meanError: Double
    let normalized: [Double]

    init(_ values: [Double], epsilon: Float) {
        let count = Double(values.count)
        let mean = values.reduce(0, +) / count
        let deviations = values.map { $0 - mean }
        let scale = 1 / (deviations.reduce(0) { $0 + $1 * $1 } / count + Double(epsilon)).squareRoot()
        (self.mean, self.scale) = (mean, scale)
        roundings = (Double(values.count / 32) + 8) * u
        meanError = u * abs(mean) + roundings * deviations.reduce(0) { $0 + abs($1) } / count
        normalized = deviations.map { $0 * scale }
    }

    func output(_ weight: [Double], _ bias: [Double]) -> [Double] {
        zip(normalized, zip(weight, bias)).map { $0 * $1.0 + $1.1 }
    }
}

/// Rows of a deviation that are so far from zero. 3000 deviations leave 12 of 24 bits.
private let distributions: [(deviation: Double, mean: Float)] = [(1e-4, 0), (1, 0), (1, -3000), (1e4, 500)]

private func row(_ size: Int, _ distribution: (deviation: Double, mean: Float)) -> [Float] {
    normals(size, deviation: distribution.deviation, seed: 1).map { $0 + distribution.mean }
}

@Suite("LayerNorm", .everyInstructionSet)
struct LayerNormTests {
    @Test("With and without a bias, also in place", arguments: ElementLoopTests.sizes, distributions)
    func forward(size: Int, distribution: (deviation: Double, mean: Float)) {
        let x = row(size, distribution)
        let (weight, bias) = (normals(size, seed: 2), normals(size, seed: 3))
        let epsilon: Float = 1e-5
        let twin = Row(doubles(x), epsilon: epsilon)
        for bias in [bias, nil] {
            let expected = twin.output(doubles(weight), bias.map(doubles) ?? weight.map { _ in 0 })
            let bounds = zip(zip(twin.normalized, weight), expected).map { pair, y in
                let (normalized, weight) = (pair.0, abs(Double(pair.1)))
                return (twin.meanError * twin.scale + twin.roundings * abs(normalized)) * weight + u * abs(y)
            }
            var out = [Float](repeating: .nan, count: size)
            ck_layer_norm(x, weight, bias, &out, size, epsilon)
            expectClose(doubles(out), expected, within: bounds)
            var copy = x
            inPlace(&copy) { ck_layer_norm($0, weight, bias, $0, size, epsilon) }
            expectEqual(copy, out)
        }
    }

    @Test("Of equal elements only the bias is left", arguments: ElementLoopTests.sizes, [Float(0), 0.1, -4096.3])
    func constant(size: Int, value: Float) {
        let bias = normals(size, seed: 4)
        var out = [Float](repeating: .nan, count: size)
        ck_layer_norm([Float](repeating: value, count: size), normals(size, seed: 5), bias, &out, size, 1e-12)
        expectEqual(out, bias)

        // The first approximation of the mean is wrong by so much, which alone would look like a variance.
        let roundings = Row([Double(value)], epsilon: 1).roundings + Double(size / 32) * u
        let approximation = (roundings + u) * Double(abs(value))
        let epsilon: Float = 1e-8
        var (dx, mean) = ([Float](repeating: 0, count: size), Float.nan)
        let x = [Float](repeating: value, count: size)
        let scale = ck_layer_norm_backward(x, bias, bias, &dx, size, epsilon, &mean)
        #expect(mean == value)
        let error = roundings * approximation * approximation / Double(epsilon) + 4 * u
        expectClose([Double(scale) * Double(epsilon).squareRoot()], [1], within: error)
    }

    @Test("What is not finite spoils the whole row", arguments: [1, 33, 67], [Float.nan, .infinity, -.infinity])
    func notFinite(size: Int, value: Float) {
        for place in [0, size / 2, size - 1] {
            var x = normals(size, seed: 6)
            x[place] = value
            var out = [Float](repeating: 0, count: size)
            ck_layer_norm(x, normals(size, seed: 7), nil, &out, size, 1e-5)
            expectEqual(out.map(\.isNaN), out.map { _ in true })
        }
    }

    @Test("Backward adds to what is there", arguments: [1, 2, 17, 33, 67, 1009], distributions)
    func backward(size: Int, distribution: (deviation: Double, mean: Float)) {
        let x = row(size, distribution)
        let weight = normals(size, seed: 8).map { $0 + 1 }
        let (dy, before) = (normals(size, seed: 9).map { $0 + 1 }, normals(size, seed: 10))
        let epsilon: Float = 1e-5
        let twin = Row(doubles(x), epsilon: epsilon)
        let (scale, roundings, normalized) = (twin.scale, twin.roundings, twin.normalized)
        // In units of the normalised row.
        let shift = twin.meanError * scale
        var (dx, mean) = (before, Float.nan)
        let found = ck_layer_norm_backward(x, weight, dy, &dx, size, epsilon, &mean)
        expectClose([Double(mean)], [twin.mean], within: twin.meanError, "mean")
        expectClose([Double(found)], [scale], within: roundings * scale, "scale")

        let gradients = zip(doubles(weight), doubles(dy)).map { $0 * $1 }
        let sizes = zip(gradients, normalized).map { abs($0) * (1 + abs($1)) }
        let magnitude = sizes.reduce(0, +) / Double(size)
        let product = zip(gradients, normalized).reduce(0) { $0 + $1.0 * $1.1 } / Double(size)
        let noBias = weight.map { _ in 0.0 }
        for i in stride(from: 0, to: size, by: max(1, size / 16)) {
            // In units of the row's deviation, so that the step suits it.
            let expected =
                scale
                * derivative(at: 0) { step in
                    var moved = doubles(x)
                    moved[i] += step / scale
                    let y = Row(moved, epsilon: epsilon).output(doubles(weight), noBias)
                    return zip(y, doubles(dy)).reduce(0) { $0 + $1.0 * $1.1 }
                }
            // Sums of g and of g · x̂ are wrong by their terms' sizes; the mean's error moves the x̂ that is multiplied.
            let terms = abs(gradients[i]) + magnitude * (1 + abs(normalized[i]))
            let bound = scale * (2 * roundings * terms + shift * abs(product))
            let total = Double(before[i]) + expected
            // The differences: h⁴ and the roundings of double precision by h.
            let differences = scale * (1e-10 + 0x1p-40 * abs(twin.mean) * scale) * Double(size)
            expectClose([Double(dx[i])], [total], within: bound + u * abs(total) + differences, "[\(i)]")
        }
    }
}
