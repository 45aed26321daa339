import CKernels
import TestSupport
import Testing

@testable import Tensors

@Suite("Variants of the loops")
struct VariantTests {
    @Test("A thread gets the set it asks for, and what the processor lacks is refused")
    func choice() {
        let own = ck_current_instruction_set()
        #expect(EveryInstructionSet.present.contains(own) && EveryInstructionSet.present.contains(ck_baseline))
        for set in EveryInstructionSet.present {
            #expect(ck_use_instruction_set(set))
            #expect(ck_current_instruction_set() == set)
            for missing in EveryInstructionSet.absent + [ck_instruction_set(0), ck_instruction_set(9)] {
                #expect(!ck_use_instruction_set(missing))
                #expect(ck_current_instruction_set() == set)
            }
        }
        ck_use_default_instruction_set()
        #expect(ck_current_instruction_set() == own)
        #expect([ck_baseline, ck_avx2, ck_avx512].map(EveryInstructionSet.name) == ["baseline", "avx2", "avx512"])
    }

    #if arch(x86_64)
        @Test("Only the sets with fused multiply-adds fuse them", .everyInstructionSet)
        func fusing() {
            // −1 · 1 + (1 + 2⁻¹³)(1 − 2⁻¹³): the product alone is rounded to 1.
            var x = [Float](repeating: 0, count: 64)
            var y = x
            (x[0], y[0], x[32], y[32]) = (-1, 1, 1 + 0x1p-13, 1 - 0x1p-13)
            let expected: Float = ck_current_instruction_set() == ck_baseline ? 0 : -0x1p-26
            #expect(ck_dot(x, y, 64) == expected)
        }
    #endif

    /// Runs a loop with each set; the baseline's result comes first.
    private func results<Result>(_ loop: () -> Result) -> [(set: String, result: Result)] {
        defer { ck_use_default_instruction_set() }
        return EveryInstructionSet.present.map { set in
            #expect(ck_use_instruction_set(set))
            return (EveryInstructionSet.name(set), loop())
        }
    }

    private typealias Dequantize = @Sendable (UnsafePointer<UInt8>?, UnsafeMutablePointer<Float>?, Int) -> Void

    private static let formats: [(name: String, bytes: Int, elements: Int, loop: Dequantize)] = [
        ("q4_0", 18, 32, ck_dequantize_q4_0), ("q4_1", 20, 32, ck_dequantize_q4_1),
        ("q5_0", 22, 32, ck_dequantize_q5_0), ("q5_1", 24, 32, ck_dequantize_q5_1),
        ("q8_0", 34, 32, ck_dequantize_q8_0), ("q2_k", 84, 256, ck_dequantize_q2_k),
        ("q3_k", 110, 256, ck_dequantize_q3_k), ("q4_k", 144, 256, ck_dequantize_q4_k),
        ("q5_k", 176, 256, ck_dequantize_q5_k), ("q6_k", 210, 256, ck_dequantize_q6_k),
    ]

    /// What the bits have to be is held by files that another program dequantised, in the tests of GGUF files.
    @Test("Blocks are dequantised to the same bits by all", arguments: [1, 3, 8])
    func dequantize(blocks: Int) {
        var generator = SeededGenerator(seed: 40)
        for format in Self.formats {
            let input = (0..<blocks * format.bytes).map { _ in UInt8.random(in: 0...255, using: &generator) }
            let all = results { () -> [Float] in
                var out = [Float](repeating: -1, count: blocks * format.elements + 1)
                format.loop(input, &out, blocks)
                return out
            }
            let baseline = all[0].result
            #expect(baseline.last == -1 && Set(baseline.map(\.bitPattern)).count > 8, "\(format.name)")
            for (set, result) in all {
                // NaN of a random scale may differ in its payload.
                let place = result.indices.first {
                    result[$0].bitPattern != baseline[$0].bitPattern && !(result[$0].isNaN && baseline[$0].isNaN)
                }
                #expect(place == nil, "\(format.name) by \(set), first at \(place ?? -1)")
            }
        }
    }

    @Test("Sums of powers of columns", .everyInstructionSet, arguments: [0, 1, 2, 41], [1, 5, 16, 37])
    func columnPowers(rows: Int, columns: Int) {
        let stride = columns + 3
        var generator = SeededGenerator(seed: 41)
        let x = (0..<rows * stride).map { _ in Float(generator.normal() * 3) }
        let start = (0..<3 * columns).map { _ in generator.normal() }
        var (first, second, fourth) = (
            Array(start[..<columns]), Array(start[columns..<2 * columns]), Array(start[(2 * columns)...])
        )
        ck_column_powers(x, rows, stride, columns, &first, &second, &fourth)
        for column in 0..<columns {
            let values = (0..<rows).map { Double(x[$0 * stride + column]) }
            for (power, found, index) in [(1, first, 0), (2, second, 1), (4, fourth, 2)] {
                let terms = values.map { value in (0..<power).reduce(1.0) { product, _ in product * value } }
                let base = start[index * columns + column]
                // rows + 1 terms, each product rounded three times at most.
                let bound = Double(rows + 4) * 0x1p-52 * terms.reduce(abs(base)) { $0 + abs($1) }
                expectClose([found[column]], [terms.reduce(base, +)], within: bound, "power \(power), \(column)")
            }
        }
    }

    @Test("Single precision added to double is rounded once", .everyInstructionSet, arguments: [0, 1, 7, 33, 1009])
    func addWidened(count: Int) {
        var generator = SeededGenerator(seed: 42)
        let x = (0..<count).map { _ in Float(generator.normal()) }
        let before = (0..<count + 1).map { _ in generator.normal() * 1e6 }
        var sums = before
        ck_add_widened(x, &sums, count)
        #expect(sums == (0..<count).map { before[$0] + Double(x[$0]) } + [before[count]])
    }

    @Test("The hash of an array does not depend on the set")
    func hash() {
        var generator = SeededGenerator(seed: 43)
        let words = (0..<1003).map { _ in UInt32.random(in: 0 ... .max, using: &generator) }
        let all = results { ck_hash(words, words.count) }
        #expect(all.allSatisfy { $0.result == all[0].result })
    }
}
