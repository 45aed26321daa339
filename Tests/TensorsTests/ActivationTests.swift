import CKernels
import Foundation
import TestSupport
import Testing

/// Four loops, and what they compute in double precision.
private struct Activation: CustomTestStringConvertible, Sendable {
    typealias In = UnsafePointer<Float>?
    typealias Out = UnsafeMutablePointer<Float>?

    let testDescription: String
    let plain: @Sendable (In, Out, Int) -> Void
    let gated: @Sendable (In, In, Out, Int) -> Void
    let backward: @Sendable (In, Out, Int) -> Void
    let gatedBackward: @Sendable (In, In, Out, Out, Int) -> Void
    /// By its definition.
    let value: @Sendable (Double) -> Double
}

/// x · F(x), where F rises from 0 to 1.
private struct SmoothActivation: CustomTestStringConvertible, Sendable {
    let loops: Activation
    /// F(−|x|), without the cancellation that the definition has.
    let tail: @Sendable (Double) -> Double
    /// F'(x)
    let density: @Sendable (Double) -> Double
    /// z: the exponential's argument, for x ≥ 0.
    let exponent: @Sendable (Double) -> Double

    var testDescription: String { loops.testDescription }

    /// The relative error of the tail: the exponential, whose argument is rounded, and a few roundings.
    private func error(_ x: Double) -> Double { (10 + 5 * exponent(abs(x))) * u }

    /// What the header says that the value may be wrong by.
    func bound(_ x: Double) -> Double { error(x) * abs(x) * tail(x) + (x > 0 ? 2 * u * x : 0) + abs(x) * lost + tiny }

    /// And the derivative, in which the exponential is multiplied with up to 3 · exponent.
    func slopeBound(_ x: Double) -> Double {
        error(x) * (tail(x) + abs(x) * density(x)) + (x > 0 ? 2 * u : 0)
            + (1 + 3 * exponent(abs(x))) * lost
    }
}

/// What the exponential is where it becomes 0.
private let lost = 2e-38
/// The distance between numbers that are smaller than normal ones.
private let tiny = 0x1p-149

/// 2·√(2/π)·(x + 0.044715·x³) and its derivative.
private func cubic(_ x: Double) -> Double { 2 * (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x) }
private func cubicSlope(_ x: Double) -> Double { 2 * (2 / Double.pi).squareRoot() * (1 + 0.134145 * x * x) }

private func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }

private let smooth: [SmoothActivation] = [
    .init(
        loops: .init(
            testDescription: "gelu_tanh", plain: ck_gelu_tanh, gated: ck_gelu_tanh_multiply,
            backward: ck_gelu_tanh_backward, gatedBackward: ck_gelu_tanh_multiply_backward,
            value: { 0.5 * $0 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }),
        tail: { sigmoid(-cubic(abs($0))) },
        density: { sigmoid(cubic($0)) * sigmoid(-cubic($0)) * cubicSlope($0) }, exponent: cubic),
    .init(
        loops: .init(
            testDescription: "gelu", plain: ck_gelu, gated: ck_gelu_multiply, backward: ck_gelu_backward,
            gatedBackward: ck_gelu_multiply_backward, value: { 0.5 * $0 * (1 + erf($0 / 2.0.squareRoot())) }),
        tail: { 0.5 * erfc(abs($0) / 2.0.squareRoot()) },
        density: { exp(-0.5 * $0 * $0) / (2 * Double.pi).squareRoot() }, exponent: { 0.5 * $0 * $0 }),
    .init(
        loops: .init(
            testDescription: "quick_gelu", plain: ck_quick_gelu, gated: ck_quick_gelu_multiply,
            backward: ck_quick_gelu_backward, gatedBackward: ck_quick_gelu_multiply_backward,
            value: { $0 * sigmoid(1.702 * $0) }),
        tail: { sigmoid(-1.702 * abs($0)) }, density: { 1.702 * sigmoid(1.702 * $0) * sigmoid(-1.702 * $0) },
        exponent: { 1.702 * $0 }),
]

private let rectified: [Activation] = [
    .init(
        testDescription: "relu", plain: ck_relu, gated: ck_relu_multiply, backward: ck_relu_backward,
        gatedBackward: ck_relu_multiply_backward, value: { max($0, 0) }),
    .init(
        testDescription: "relu2", plain: ck_relu2, gated: ck_relu2_multiply, backward: ck_relu2_backward,
        gatedBackward: ck_relu2_multiply_backward, value: { max($0, 0) * max($0, 0) }),
]

@Suite("Activations", .everyInstructionSet)
struct ActivationTests {
    private static let sizes = ElementLoopTests.sizes

    /// Numbers of every size, both signs of each, and a dense grid.
    private static let numbers: [Float] = {
        let sizes = (-149...127).flatMap { exponent in
            normals(8, seed: 50).map { Float(sign: .plus, exponent: exponent, significand: 1 + abs($0) / 8) }
        }
        let grid = (0..<20_000).map { Float($0) / 1024 }
        return (sizes + grid).flatMap { [$0, -$0] }
    }()

    @Test("Within their bounds over all sizes of numbers", arguments: smooth)
    private func values(activation: SmoothActivation) {
        let x = Self.numbers
        var (out, slopes) = (x, x.map { _ in Float(1) })
        inPlace(&out) { activation.loops.plain($0, $0, x.count) }
        activation.loops.backward(x, &slopes, x.count)
        let bounds = doubles(x).map(activation.bound)
        let expected = doubles(x).map { x in
            x < 0 ? x * activation.tail(x) : x * (1 - activation.tail(x))
        }
        expectClose(doubles(out), expected, within: bounds)
        // The definition cancels in double precision, and the cube of what is larger is not finite.
        let near = x.indices.filter { abs(x[$0]) < 1e30 }
        expectClose(
            near.map { Double(out[$0]) }, near.map { activation.loops.value(Double(x[$0])) },
            within: near.map { bounds[$0] + 0x1p-51 * abs(Double(x[$0])) }, "by its definition")
        let derivatives = doubles(x).map { x in
            // Far out the tail and the density are 0, also where their parts overflow.
            abs(x) > 1e3 ? (x < 0 ? 0 : 1) : slope(activation, x)
        }
        let slopeBounds = doubles(x).map { abs($0) > 1e3 ? 0 : activation.slopeBound($0) }
        expectClose(doubles(slopes), derivatives, within: slopeBounds, "derivative")
    }

    private func slope(_ activation: SmoothActivation, _ x: Double) -> Double {
        let tail = activation.tail(x)
        return (x < 0 ? tail : 1 - tail) + x * activation.density(x)
    }

    @Test("GELU's error function is within 2·10⁻⁷")
    func errorFunction() {
        let random = normals(50_000, deviation: 2, seed: 51)
        // Where nothing is lost to subnormal numbers in x · Φ(x).
        let x = (Self.numbers + random).filter { abs($0) > 1e-30 }
        var out = x
        inPlace(&out) { ck_gelu($0, $0, x.count) }
        let found = zip(doubles(x), doubles(out)).map { x, y in 2 * y / x - 1 }
        let expected = doubles(x).map { erf($0 / 2.0.squareRoot()) }
        // Φ and the product with x are rounded.
        expectClose(found, expected, within: expected.map { 2e-7 + 2 * u * (1 + $0) })
    }

    @Test("f(x), f(gate) · up, also in place", arguments: smooth, sizes)
    private func forward(activation: SmoothActivation, size: Int) {
        for deviation in [0.1, 3, 40] {
            let (gate, up) = (normals(size, deviation: deviation, seed: 52), normals(size, deviation: 3, seed: 53))
            let values = doubles(gate).map(activation.loops.value)
            let bounds = doubles(gate).map { activation.bound($0) + 0x1p-51 * abs($0) }
            var plain = [Float](repeating: .nan, count: size)
            var gated = plain
            activation.loops.plain(gate, &plain, size)
            expectClose(doubles(plain), values, within: bounds)
            activation.loops.gated(gate, up, &gated, size)
            let products = zip(values, doubles(up)).map { $0 * $1 }
            expectClose(
                doubles(gated), products,
                within: products.indices.map { 1.01 * bounds[$0] * abs(Double(up[$0])) + u * abs(products[$0]) })
            var (overX, overGate, overUp) = (gate, gate, up)
            inPlace(&overX) { activation.loops.plain($0, $0, size) }
            inPlace(&overGate) { activation.loops.gated($0, up, $0, size) }
            inPlace(&overUp) { activation.loops.gated(gate, $0, $0, size) }
            expectEqual(overX, plain)
            expectEqual(overGate, gated)
            expectEqual(overUp, gated)
        }
    }

    @Test("Backward of f(x) and of f(gate) · up", arguments: smooth, sizes)
    private func backward(activation: SmoothActivation, size: Int) {
        for deviation in [0.1, 3, 30] {
            let (gate, up) = (normals(size, deviation: deviation, seed: 54), normals(size, seed: 55))
            let dy = normals(size, seed: 56)
            var (dx, dGate, dUp) = (dy, dy, [Float](repeating: .nan, count: size))
            activation.loops.backward(gate, &dx, size)
            activation.loops.gatedBackward(gate, up, &dGate, &dUp, size)
            for i in 0..<size {
                let (g, w, d) = (Double(gate[i]), Double(up[i]), Double(dy[i]))
                let slope = derivative(at: g, activation.loops.value)
                // The differences: h⁴ and the roundings of double precision by h.
                let error = activation.slopeBound(g) + 1e-11 + 0x1p-40 * abs(g)
                expectClose([Double(dx[i])], [d * slope], within: abs(d) * (error + u * abs(slope)))
                expectClose([Double(dGate[i])], [d * w * slope], within: abs(d * w) * (error + 2.01 * u * abs(slope)))
                let value = activation.loops.value(g)
                expectClose(
                    [Double(dUp[i])], [d * value],
                    within: abs(d) * (1.01 * activation.bound(g) + u * abs(value) + 0x1p-51 * abs(g)))
            }
        }
    }

    @Test("Rectified ones are exact but for the rounding of products", arguments: rectified, sizes)
    private func rectifiers(activation: Activation, size: Int) {
        var (gate, up, dy) = (normals(size, seed: 57), normals(size, seed: 58), normals(size, seed: 59))
        // Zeros, before which the derivative is 0 and after which it is not.
        (gate[size / 2], up[size / 3], dy[size / 4]) = (0, -2, 3)
        let values = gate.map { Float(activation.value(Double($0))) }
        let isSquare = activation.testDescription == "relu2"
        let slopes = gate.map { $0 > 0 ? (isSquare ? 2 * $0 : 1) : Float(0) }
        var (plain, gated, overUp) = (gate, gate, up)
        inPlace(&plain) { activation.plain($0, $0, size) }
        inPlace(&gated) { activation.gated($0, up, $0, size) }
        inPlace(&overUp) { activation.gated(gate, $0, $0, size) }
        expectEqual(plain, values)
        expectEqual(gated, zip(values, up).map { $0 * $1 })
        expectEqual(overUp, gated)
        var (dx, dGate, dUp) = (dy, dy, [Float](repeating: .nan, count: size))
        activation.backward(gate, &dx, size)
        activation.gatedBackward(gate, up, &dGate, &dUp, size)
        expectEqual(dx, zip(dy, slopes).map { $0 * $1 })
        expectEqual(dGate, zip(zip(dy, up), slopes).map { $0.0 * $0.1 * $1 })
        expectEqual(dUp, zip(dy, values).map { $0 * $1 })
    }

    @Test("Zeros, infinities, what is not a number", arguments: smooth.map(\.loops) + rectified)
    private func limits(activation: Activation) {
        let isSquare = activation.testDescription == "relu2"
        let isRectified = isSquare || activation.testDescription == "relu"
        let tiny = Float.leastNonzeroMagnitude, huge = Float.greatestFiniteMagnitude
        // x, f(x), f'(x); of the smallest number half is rounded to even, 0.
        let rows: [(x: Float, value: Float, slope: Float)] = [
            (0, 0, isRectified ? 0 : 0.5), (-0.0, 0, isRectified ? 0 : 0.5),
            (tiny, isRectified && !isSquare ? tiny : 0, isSquare ? 2 * tiny : isRectified ? 1 : 0.5),
            (-tiny, 0, isRectified ? 0 : 0.5),
            (huge, isSquare ? .infinity : huge, isSquare ? .infinity : 1), (-huge, 0, 0),
            (.infinity, .infinity, isSquare ? .infinity : 1), (-.infinity, 0, 0), (.nan, .nan, .nan),
        ]
        // In each lane of a vector, and in what is left over.
        for shift in 0..<rows.count {
            let all = (0..<67).map { rows[($0 + shift) % rows.count] }
            let (x, ones) = (all.map(\.x), all.map { _ in Float(1) })
            var (out, gated, dx, dGate, dUp) = (x, x, ones, ones, ones)
            inPlace(&out) { activation.plain($0, $0, x.count) }
            inPlace(&gated) { activation.gated($0, ones, $0, x.count) }
            activation.backward(x, &dx, x.count)
            activation.gatedBackward(x, ones, &dGate, &dUp, x.count)
            for (found, expected) in [
                (out, all.map(\.value)), (gated, all.map(\.value)), (dUp, all.map(\.value)), (dx, all.map(\.slope)),
                (dGate, all.map(\.slope)),
            ] {
                // As text, in which one NaN is like another and −0 is not told from 0.
                func text(_ x: Float) -> String { x.isNaN ? "NaN" : "\(x == 0 ? 0 : x)" }
                expectEqual(found.map(text), expected.map(text))
            }
        }
    }
}
