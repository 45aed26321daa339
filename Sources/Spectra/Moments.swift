import CKernels
import LinearAlgebra
import Tensors

/// Streaming second moments of activations: Σ x·xᵀ and Σ x over tokens, in double precision.
///
/// Activations of trained models have a few directions 10³ to 10⁴ times larger than the rest; single-precision sums lose
/// everything below 10⁻⁴ of the largest singular value, double-precision ones keep it down to about 10⁻⁸.
/// Only the blocks on and above the diagonal are kept: (n² + 24n) / 2 numbers for n features, whatever the tokens.
public final class Moments {
    public let features: Int
    public private(set) var tokens = 0

    private let panels: Int
    /// Block (i, j), i ≤ j, of ck_panel × ck_panel numbers starts at block number j·(j + 1)/2 + i.
    private let blocks: Tensor<Double>
    private let sums: Tensor<Double>

    private static let edge = ck_panel
    /// Rows of half a panel and of a strip of another one that fit a first-level cache of 32 KiB together.
    private static let depth = 128

    public init(features: Int, in arena: Arena? = nil) {
        self.features = features
        panels = (features + Self.edge - 1) / Self.edge
        blocks = Tensor(shape: [panels * (panels + 1) / 2, Self.edge * Self.edge], in: arena)
        sums = Tensor(shape: [panels * Self.edge], in: arena)
    }

    public var bytes: Int { blocks.bytes + sums.bytes }

    /// Memory that accumulation needs besides the sums; one serves any number of sites.
    public final class Scratch {
        static let rows = 256
        fileprivate var packed = Tensor<Double>(uninitialized: [0])

        public init() {}

        public var bytes: Int { packed.bytes }

        fileprivate func reserve(_ count: Int) {
            if packed.count < count { packed = Tensor(uninitialized: [count]) }
        }
    }

    /// Adds the rows of `activations` `[tokens, features]`.
    public func add(_ activations: MatrixView<Float>, scratch: Scratch) {
        precondition(activations.columns == features, "\(activations.columns) features, expected \(features)")
        scratch.reserve(panels * Self.edge * min(Scratch.rows, activations.rows))
        for start in stride(from: 0, to: activations.rows, by: Scratch.rows) {
            add(slab: activations.rows(start..<min(start + Scratch.rows, activations.rows)), scratch.packed.pointer)
        }
        tokens += activations.rows
    }

    private func add(slab: MatrixView<Float>, _ packed: UnsafeMutablePointer<Double>) {
        let edge = Self.edge
        let panelSize = slab.rows * edge
        ThreadPool.forEachRange(slab.rows, granularity: 16) { rows in
            ck_moments_pack(
                slab.row(rows.lowerBound), rows.count, slab.stride, features, packed + rows.lowerBound * edge, panelSize
            )
        }
        // Whole tasks first, then those on the diagonal, which are half as large.
        let tasks = Self.tasks(panels: panels, threads: ThreadPool.threads)
        ThreadPool.forEach(tasks.count) { index in
            let (lefts, rights) = (tasks[index].lefts, tasks[index].rights)
            if lefts == rights {
                for right in rights {
                    ck_moments_sum(packed + right * panelSize, slab.rows, sums.pointer + right * edge)
                }
            }
            for row in stride(from: 0, to: slab.rows, by: Self.depth) {
                for right in rights {
                    ck_moments_update(
                        packed + lefts.lowerBound * panelSize + row * edge,
                        min(lefts.upperBound, right + 1) - lefts.lowerBound,
                        panelSize, packed + right * panelSize + row * edge, min(Self.depth, slab.rows - row),
                        blocks.pointer + (right * (right + 1) / 2 + lefts.lowerBound) * edge * edge)
                }
            }
        }
    }

    /// Groups of panels that meet: as large as half a second-level cache of 512 KiB allows, and enough of them for all
    /// threads. What a block's sum is does not depend on it.
    static func tasks(panels: Int, threads: Int) -> [(lefts: Range<Int>, rights: Range<Int>)] {
        var size = 8
        var groups: Int { (panels + size - 1) / size }
        while size > 1, groups * (groups + 1) / 2 < 8 * threads { size /= 2 }
        let ranges = (0..<groups).map { $0 * size..<min(panels, ($0 + 1) * size) }
        let whole = ranges.indices.flatMap { right in (0..<right).map { (ranges[$0], ranges[right]) } }
        return whole + ranges.map { ($0, $0) }
    }

    /// Σ x·xᵀ, `[features, features]`, both triangles.
    public func gram() -> DoubleMatrix {
        let (edge, n) = (Self.edge, features)
        let gram = DoubleMatrix(uninitialized: [n, n])
        for right in 0..<panels {
            for left in 0...right {
                let block = blocks.pointer + (right * (right + 1) / 2 + left) * edge * edge
                for i in 0..<min(edge, n - left * edge) {
                    for j in 0..<min(edge, n - right * edge) {
                        let value = block[i * edge + j]
                        let (row, column) = (left * edge + i, right * edge + j)
                        gram.pointer[row * n + column] = value
                        gram.pointer[column * n + row] = value
                    }
                }
            }
        }
        return gram
    }

    /// Σ x, `[features]`.
    public var sum: [Double] { Array(sums.buffer.prefix(features)) }
}
