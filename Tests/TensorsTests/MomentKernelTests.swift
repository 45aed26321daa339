import CKernels
import Foundation
import TestSupport
import Testing

@testable import Tensors

@Suite("Second-moment kernels")
struct MomentKernelTests {
    private static let edge = Int(ck_panel)

    @Test("Packing widens, cuts into panels and pads with zeros", arguments: [1, 2, 7, 131], [1, 5, 23, 24, 25, 53])
    func pack(rows: Int, columns: Int) {
        let (edge, stride) = (Self.edge, 59)
        let panels = (columns + edge - 1) / edge
        let panelStride = rows * edge + 3
        var generator = SeededGenerator(seed: 30)
        // What is not to be read would spoil the result, what is not to be written would be missed.
        var x = [Float](repeating: .nan, count: rows * stride)
        for row in 0..<rows {
            for column in 0..<columns { x[row * stride + column] = Float(generator.normal()) }
        }
        var packed = [Double](repeating: -1, count: panels * panelStride)
        var expected = packed
        for panel in 0..<panels {
            for row in 0..<rows {
                for i in 0..<edge {
                    let column = panel * edge + i
                    let value = column < columns ? Double(x[row * stride + column]) : 0
                    expected[panel * panelStride + row * edge + i] = value
                }
            }
        }
        ck_moments_pack(x, rows, stride, columns, &packed, panelStride)
        expectEqual(packed, expected)
    }

    @Test("The columns of a panel are added up", arguments: [0, 1, 7, 131])
    func sum(rows: Int) {
        let edge = Self.edge
        var generator = SeededGenerator(seed: 32)
        let panel = (0..<rows * edge).map { _ in generator.normal() }
        var sums = (0..<edge).map { Double($0) - 7 }
        var expected = sums
        for row in 0..<rows {
            for column in 0..<edge { expected[column] += panel[row * edge + column] }
        }
        ck_moments_sum(panel, rows, &sums)
        #expect(sums == expected)
    }

    @Test("A block is increased by aᵀ·b", arguments: ["avx512", "avx2", "baseline"], [0, 1, 2, 7, 131])
    func update(instructionSet: String, rows: Int) {
        let edge = Self.edge
        var generator = SeededGenerator(seed: 31)
        let a = (0..<rows * edge).map { _ in generator.normal() }
        let b = (0..<rows * edge).map { _ in generator.normal() * 1e3 }
        var block = (0..<edge * edge).map { _ in generator.normal() }
        var expected = block
        var bounds = block.map { abs($0) }
        for i in 0..<edge {
            for j in 0..<edge {
                for row in 0..<rows {
                    expected[i * edge + j] += a[row * edge + i] * b[row * edge + j]
                    bounds[i * edge + j] += abs(a[row * edge + i] * b[row * edge + j])
                }
            }
        }
        let before = block
        guard ck_moments_update_by(instructionSet, a, b, rows, &block) else {
            // Only a processor without it may refuse.
            #expect(instructionSet != "baseline" && instructionSet != String(cString: ck_instruction_set()))
            expectEqual(block, before)
            leaveOut("moments with \(instructionSet)", because: "this processor does not have it")
            return
        }
        // Both sums have rows + 1 terms and one rounding each, in either order.
        expectClose(block, expected, within: bounds.map { 2 * Double(rows + 1) * 0x1p-53 * $0 })
        if rows == 0 { expectEqual(block, expected) }
    }

    @Test("The widest instruction set is the one in use, and an unknown one is refused")
    func instructionSet() {
        let a = (0..<7 * Self.edge).map { sin(Double($0)) }
        var (block, byName) = ([Double](repeating: 0, count: Self.edge * Self.edge), [Double]())
        byName = block
        ck_moments_update(a, a, 7, &block)
        #expect(ck_moments_update_by(ck_instruction_set(), a, a, 7, &byName))
        #expect(block.contains { $0 != 0 })
        expectEqual(block, byName)
        #expect(!ck_moments_update_by("neon", a, a, 7, &byName))
        expectEqual(block, byName)
    }
}
