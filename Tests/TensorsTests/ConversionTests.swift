import CKernels
import TestSupport
import Testing

@testable import Tensors

/// A 16-bit floating-point format, decoded bit by bit.
private struct Format {
    let exponentBits: Int
    var fractionBits: Int { 15 - exponentBits }
    var bias: Int { 1 << (exponentBits - 1) - 1 }
    var infinity: UInt16 { UInt16((1 << exponentBits - 1) << fractionBits) }

    /// The magnitude, as if exponents went on beyond the largest: what infinity would be is the next finite number.
    func magnitude(_ bits: UInt16) -> Double {
        let fraction = Double(Int(bits) & (1 << fractionBits - 1)) / Double(1 << fractionBits)
        let exponent = Int(bits & 0x7FFF) >> fractionBits
        return exponent == 0
            ? fraction * Double(sign: .plus, exponent: 1 - bias, significand: 1)
            : (1 + fraction) * Double(sign: .plus, exponent: exponent - bias, significand: 1)
    }

    func isNaN(_ bits: UInt16) -> Bool { bits & 0x7FFF > infinity }

    static let bfloat16 = Format(exponentBits: 8)
    static let half = Format(exponentBits: 5)
}

private typealias Widen = (UnsafePointer<UInt16>, UnsafeMutablePointer<Float>, Int) -> Void
private typealias Narrow = (UnsafePointer<Float>, UnsafeMutablePointer<UInt16>, Int) -> Void

@Suite("Conversions between number formats", .everyInstructionSet)
struct ConversionTests {
    private let patterns = (0...UInt16.max).map { $0 }

    private func widened(_ bits: [UInt16], _ convert: Widen) -> [Float] {
        var out = [Float](repeating: -1, count: bits.count)
        convert(bits, &out, bits.count)
        return out
    }

    private func narrowed(_ values: [Float], _ convert: Narrow) -> [UInt16] {
        var out = [UInt16](repeating: 0xDEAD, count: values.count)
        convert(values, &out, values.count)
        return out
    }

    private func expectExhaustive(_ format: Format, widen: Widen, narrow: Narrow) {
        let values = widened(patterns, widen)
        let wrong = patterns.filter { bits in
            let value = values[Int(bits)]
            if format.isNaN(bits) { return !value.isNaN }
            let isNegative = bits & 0x8000 != 0
            if bits & 0x7FFF == format.infinity { return value != (isNegative ? -.infinity : .infinity) }
            return Double(value.magnitude) != format.magnitude(bits) || (value.sign == .minus) != isNegative
        }
        #expect(wrong.isEmpty, "\(wrong.count) patterns read wrong, first \(wrong.first ?? 0)")

        let back = narrowed(values, narrow)
        let changed = patterns.filter { format.isNaN($0) ? !format.isNaN(back[Int($0)]) : back[Int($0)] != $0 }
        #expect(changed.isEmpty, "\(changed.count) patterns do not survive, first \(changed.first ?? 0)")
    }

    /// Around the middle between any two neighbours – the last of them infinity – on both sides of zero.
    private func expectRounding(_ format: Format, narrow: Narrow) {
        for sign in [UInt16(0), 0x8000] {
            var (inputs, expected): ([Float], [UInt16]) = ([], [])
            for low in 0..<format.infinity {
                let middle = Float((format.magnitude(low) + format.magnitude(low + 1)) / 2)
                let even = low & 1 == 0 ? low : low + 1
                inputs += [middle, middle.nextDown, middle.nextUp].map { sign == 0 ? $0 : -$0 }
                expected += [even, low, low + 1].map { $0 | sign }
            }
            let found = narrowed(inputs, narrow)
            let wrong = found.indices.filter { found[$0] != expected[$0] }
            #expect(
                wrong.isEmpty,
                "\(wrong.count) of \(found.count) round wrong, first \(wrong.first.map { "\(inputs[$0])" } ?? "")")
        }
    }

    @Test("All bit patterns of bfloat16 there and back")
    func bfloat16Patterns() {
        expectExhaustive(.bfloat16, widen: ck_bf16_to_f32, narrow: ck_f32_to_bf16)
        // The value is the upper half of a single's bits, signs of NaN included.
        expectEqual(widened(patterns, ck_bf16_to_f32).map(\.bitPattern), patterns.map { UInt32($0) << 16 })
    }

    @Test("All bit patterns of half precision there and back")
    func halfPatterns() { expectExhaustive(.half, widen: ck_f16_to_f32, narrow: ck_f32_to_f16) }

    @Test("bfloat16 rounds to nearest, ties to even, over to infinity")
    func bfloat16Rounding() { expectRounding(.bfloat16, narrow: ck_f32_to_bf16) }

    @Test("Half precision rounds to nearest, ties to even, over to infinity")
    func halfRounding() { expectRounding(.half, narrow: ck_f32_to_f16) }

    @Test("NaN of any payload stays NaN, and what is too large becomes infinite")
    func extremes() {
        let payloads: [UInt32] = [0x7F80_0001, 0x7F80_FFFF, 0x7FBF_FFFF, 0x7FFF_FFFF, 0xFF80_0001, 0xFFFF_FFFF]
        let undefined = payloads.map { Float(bitPattern: $0) }
        #expect(narrowed(undefined, ck_f32_to_bf16).allSatisfy { Format.bfloat16.isNaN($0) })
        #expect(narrowed(undefined, ck_f32_to_f16).allSatisfy { Format.half.isNaN($0) })
        let large: [Float] = [.greatestFiniteMagnitude, .infinity, -.greatestFiniteMagnitude, -.infinity]
        #expect(narrowed(large, ck_f32_to_bf16) == [0x7F80, 0x7F80, 0xFF80, 0xFF80])
        #expect(narrowed(large + [65520, 65519], ck_f32_to_f16) == [0x7C00, 0x7C00, 0xFC00, 0xFC00, 0x7C00, 0x7BFF])
        let small: [Float] = [0x1p-25, -0x1p-25, Float(0x1p-25).nextUp, .leastNonzeroMagnitude, -0.0]
        #expect(narrowed(small, ck_f32_to_f16) == [0, 0x8000, 1, 0, 0x8000])
    }

    @Test("BFloat16 rounds as the loop does")
    func bfloat16Value() {
        #expect(BFloat16(1).bitPattern == 0x3F80)
        #expect(BFloat16(-3.140625).float == -3.140625)
        #expect(BFloat16(Float(bitPattern: 0x3F80_8000)).bitPattern == 0x3F80)
        #expect(BFloat16(Float(bitPattern: 0x3F81_8000)).bitPattern == 0x3F82)
        #expect(BFloat16(.nan).float.isNaN)
    }

    @Test("Double to single rounds as Swift does, single to double is exact", arguments: [1, 3, 8, 17, 1009])
    func doubleAndSingle(count: Int) {
        var generator = SeededGenerator(seed: 20)
        var input = (0..<count).map { _ in generator.normal() * 1e3 }
        input[0] = 1e300
        var single = [Float](repeating: -1, count: count)
        ck_f64_to_f32(input, &single, count)
        expectEqual(single, input.map { Float($0) })
        var double = [Double](repeating: -1, count: count)
        ck_f32_to_f64(single, &double, count)
        expectEqual(double, single.map { Double($0) })
    }

    @Test("Finds the first element that is not finite", arguments: [0, 1, 15, 16, 17, 4095, 4096, 4097, 8209])
    func firstNotFinite(count: Int) {
        var values = [Float](repeating: .greatestFiniteMagnitude, count: count)
        #expect(ck_first_not_finite(values, count) == count)
        for place in [0, 14, 16, 4094, 4095, 4096, 8191, 8208] where place < count {
            for bad in [Float.nan, .infinity, -.infinity, .signalingNaN] {
                values[place] = bad
                #expect(ck_first_not_finite(values, count) == place)
                values[count - 1] = .nan
                #expect(ck_first_not_finite(values, count) == place)
                values[count - 1] = -.leastNonzeroMagnitude
            }
            values[place] = -0.0
        }
    }
}
