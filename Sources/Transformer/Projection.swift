import CKernels
import LinearAlgebra
import Tensors

/// y = W·x + b.
public struct DenseProjection: Sendable {
    /// `[out, in]`.
    public let weight: Weight
    /// `[out]`.
    public let bias: Weight?
}

/// y = B·σ(A·x) + b (CoLA, arXiv 2502.10940), the factors in the orientation of the paper's code.
public struct LowRankProjection: Sendable {
    /// A, `[in, rank]`.
    public let a: Weight
    /// B, `[rank, out]`.
    public let b: Weight
    /// `[out]`.
    public let bias: Weight?
    /// Whether σ = silu stands between the factors; else they are a linear bottleneck.
    public let isActivated: Bool

    public var rank: Int { a.columns }
}

/// A linear layer of the decoder, dense or in CoLA's low-rank form.
public enum Projection: Sendable {
    case dense(DenseProjection)
    case lowRank(LowRankProjection)

    public var bias: Weight? {
        switch self {
        case .dense(let dense): dense.bias
        case .lowRank(let lowRank): lowRank.bias
        }
    }

    /// Width of the bottleneck, if there is one.
    public var rank: Int? {
        if case .lowRank(let lowRank) = self { lowRank.rank } else { nil }
    }

    /// Features that leave it.
    public var outputs: Int {
        switch self {
        case .dense(let dense): dense.weight.rows
        case .lowRank(let lowRank): lowRank.b.columns
        }
    }

    /// FLOPs of one token: two per parameter of the matrices.
    var flops: Int {
        switch self {
        case .dense(let dense): 2 * dense.weight.count
        case .lowRank(let lowRank): 2 * (lowRank.a.count + lowRank.b.count)
        }
    }
}

// MARK: - Forward and backward

extension Projection {
    /// y ← layer(x) for x `[rows, in]`, y `[rows, out]`.
    ///
    /// A low-rank layer leaves z = A·x `[rows, rank]` in `bottleneck`, before σ; if `reusesBottleneck`, z is there already
    /// and A is not applied: this is what CoLA-M saves. σ(z) goes to `activated`, which may be the bottleneck itself.
    /// Without `y` the layer stops at z.
    func forward(
        _ x: MatrixView<Float>, bottleneck: MatrixView<Float>?, activated: MatrixView<Float>?,
        scratch: MatrixView<BFloat16>?, reusesBottleneck: Bool = false, into y: MatrixView<Float>?
    ) {
        switch self {
        case .dense(let dense):
            guard let y else { return }
            dense.weight.apply(Operand(x, scratch: scratch), transposed: true, into: y)
        case .lowRank(let lowRank):
            guard let z = bottleneck else { preconditionFailure("a low-rank layer without room for its bottleneck") }
            if !reusesBottleneck { lowRank.a.apply(Operand(x, scratch: scratch), transposed: false, into: z) }
            guard let y else { return }
            let h = lowRank.activate(z, into: activated)
            lowRank.b.apply(Operand(h, scratch: scratch), transposed: false, into: y)
        }
        if let y, let bias = bias?.vector {
            for row in 0..<y.rows { ck_sum(y.row(row), bias, y.row(row), y.columns) }
        }
    }

    /// Backward of `forward`: dx ← or ← dx + the gradient of x `[rows, in]`, from y's gradient dy `[rows, out]`, and the
    /// parameters' own gradients.
    ///
    /// With h = σ(z), y = h·B: dB = hᵀ·dy, dh = dy·Bᵀ, dz = dh ∘ σ'(z), dA = xᵀ·dz, dx = dz·Aᵀ; dense: dW = dyᵀ·x,
    /// dx = dy·W; both: db = Σ dy. `gradient` holds the gradients in the parameters' layout; they are added to if
    /// `accumulating`. Without it only dx is computed.
    func backward(
        _ x: MatrixView<Float>, bottleneck: MatrixView<Float>?, _ dy: MatrixView<Float>, gradient: Projection?,
        accumulating: Bool, scratch: BackwardScratch, into dx: MatrixView<Float>, addingToInput: Bool = false
    ) {
        if let bias = gradient?.bias { bias.setColumnSums(dy, accumulating: accumulating) }
        let output = Operand(dy, scratch: scratch.roundedOutput?.view)
        let input = gradient.map { _ in Operand(x, scratch: scratch.roundedInput?.view) }
        switch self {
        case .dense(let dense):
            if let input, let gradient = gradient?.dense {
                gradient.weight.setProduct(output, input, accumulating: accumulating)
            }
            dense.weight.apply(output, transposed: false, accumulating: addingToInput, into: dx)
        case .lowRank(let lowRank):
            guard let z = bottleneck else { preconditionFailure("a low-rank layer without its bottleneck") }
            let gradient = gradient?.lowRank
            func room(_ matrix: Matrix?) -> MatrixView<Float>? {
                matrix.map { MatrixView($0.pointer, rows: z.rows, columns: z.columns, stride: z.columns) }
            }
            guard let dz = room(scratch.bottleneckGradient) else { preconditionFailure("no room for a bottleneck") }
            if let gradient {
                let h = lowRank.activate(z, into: room(scratch.activated))
                gradient.b.setProduct(
                    Operand(h, scratch: scratch.roundedBottleneck?.view), output, accumulating: accumulating)
            }
            lowRank.b.apply(output, transposed: true, into: dz)
            if lowRank.isActivated {
                ThreadPool.forEachRange(z.rows) { rows in
                    ck_silu_backward(
                        z.row(rows.lowerBound), dz.row(rows.lowerBound), rows.count * z.columns)
                }
            }
            let inner = Operand(dz, scratch: scratch.roundedBottleneck?.view)
            if let input, let gradient { gradient.a.setProduct(input, inner, accumulating: accumulating) }
            lowRank.a.apply(inner, transposed: true, accumulating: addingToInput, into: dx)
        }
    }

    /// The gradients of a dense projection, which have its layout.
    private var dense: DenseProjection {
        guard case .dense(let dense) = self else {
            preconditionFailure("the gradients have another layout than the weights")
        }
        return dense
    }

    private var lowRank: LowRankProjection {
        guard case .lowRank(let lowRank) = self else {
            preconditionFailure("the gradients have another layout than the weights")
        }
        return lowRank
    }
}

extension LowRankProjection {
    /// σ(z), in `destination`, or z itself where the bottleneck is linear. z and the result have no gaps between rows.
    fileprivate func activate(_ z: MatrixView<Float>, into destination: MatrixView<Float>?) -> MatrixView<Float> {
        guard isActivated else { return z }
        guard let h = destination else { preconditionFailure("a low-rank layer without room for its activation") }
        ThreadPool.forEachRange(z.rows) { rows in
            ck_silu(z.row(rows.lowerBound), h.row(rows.lowerBound), rows.count * z.columns)
        }
        return h
    }
}
