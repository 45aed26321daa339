import CKernels
import Foundation
import TestSupport
import Testing

@testable import Tensors

@Suite("Second-moment kernels", .everyInstructionSet)
struct MomentKernelTests {
    private static let edge = ck_panel

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

    /// Packed panels and blocks of random numbers, with gaps of NaN between the panels.
    private struct Input {
        static let panels = 3
        let left, right, blocks: [Double]
        let stride: Int

        init(rows: Int, seed: UInt64, number: (Double) -> Double) {
            let size = rows * MomentKernelTests.edge
            var generator = SeededGenerator(seed: seed)
            stride = size + 5
            left = (0..<Self.panels).flatMap { _ in
                (0..<size).map { _ in number(generator.normal()) } + [Double](repeating: .nan, count: 5)
            }
            right = (0..<size).map { _ in number(generator.normal() * 1e3) }
            blocks = (0..<Self.panels * MomentKernelTests.edge * MomentKernelTests.edge).map { _ in generator.normal() }
        }

        /// The blocks after an update of the first `panels`.
        func updated(panels: Int, rows: Int) -> [Double] {
            var blocks = blocks
            ck_moments_update(left, panels, stride, right, rows, &blocks)
            return blocks
        }
    }

    @Test("Blocks are increased by aᵀ·b", arguments: [0, 1, 2, 7, 131], [0, 1, 2, 3])
    func update(rows: Int, panels: Int) {
        let edge = Self.edge
        let input = Input(rows: rows, seed: 31) { $0 }
        var expected = input.blocks
        var bounds = expected.map { abs($0) }
        for index in 0..<panels * edge * edge {
            let (panel, i, j) = (index / (edge * edge), index / edge % edge, index % edge)
            for row in 0..<rows {
                let product = input.left[panel * input.stride + row * edge + i] * input.right[row * edge + j]
                expected[index] += product
                bounds[index] += abs(product)
            }
        }
        let blocks = input.updated(panels: panels, rows: rows)
        // Both sums have rows + 1 terms and one rounding each, in either order.
        expectClose(blocks, expected, within: bounds.map { 2 * Double(rows + 1) * 0x1p-53 * $0 })
        if rows == 0 { expectEqual(blocks, expected) }
        #expect(blocks[(panels * edge * edge)...] == input.blocks[(panels * edge * edge)...])
    }

    @Test("Of numbers in single precision all sets give the same bits, those of sums in the order of the rows")
    func bits() {
        let (edge, rows) = (Self.edge, 131)
        let input = Input(rows: rows, seed: 33) { Double(Float($0)) }
        let expected = input.blocks.indices.map { index in
            let (panel, i, j) = (index / (edge * edge), index / edge % edge, index % edge)
            let sum = (0..<rows).reduce(0.0) { sum, row in
                sum + input.left[panel * input.stride + row * edge + i] * input.right[row * edge + j]
            }
            return input.blocks[index] + sum
        }
        let blocks = input.updated(panels: Input.panels, rows: rows)
        let place = blocks.indices.first { blocks[$0].bitPattern != expected[$0].bitPattern }
        #expect(place == nil, "[\(place!)]: found \(blocks[place!]), expected \(expected[place!])")
    }
}
