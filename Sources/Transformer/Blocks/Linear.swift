import CKernels
import LinearAlgebra
import Tensors

/// What the forward pass of a group needs besides its input and output.
struct GroupRoom {
    /// z = A·x of all low-rank members, `[rows, Σ rank]`, without gaps between rows.
    let bottleneck: MatrixView<Float>
    /// Where σ(z) goes; the bottleneck itself where z is not needed afterwards.
    let activated: MatrixView<Float>
    /// Room for operands in bfloat16, `[rows, widest]`.
    let rounded: MatrixView<BFloat16>?
    /// Whether z is there already and A is not applied: this is what CoLA-M keeps.
    var reusesBottleneck = false
}

extension LinearGroup {
    /// y ← layers(x) for x `[rows, in]`, y `[rows, Σ out]`. Without `y` low-rank members stop at z.
    ///
    /// Dense: y = x·Wᵀ + b. Low-rank: z = x·A, h = σ(z), y = h·B + b.
    func forward(_ x: MatrixView<Float>, _ room: GroupRoom, into y: MatrixView<Float>?) {
        let z = room.bottleneck
        let makesBottleneck = factors != nil && !room.reusesBottleneck
        if makesBottleneck || (dense != nil && y != nil) {
            let operand = Operand(x, scratch: room.rounded)
            if makesBottleneck { factors?.apply(operand, transposed: false, into: z) }
            if let dense, let y { dense.apply(operand, transposed: true, into: y.columns(0..<dense.rows)) }
        }
        guard let y else { return }
        activate(z, into: room.activated)
        for (index, member) in members.enumerated() {
            let output = y.columns(outputs[index])
            if case .lowRank(let lowRank) = member {
                let h = (lowRank.isActivated ? room.activated : z).columns(bottlenecks[index])
                lowRank.b.apply(Operand(h, scratch: room.rounded), transposed: false, into: output)
            }
            guard let bias = member.bias?.vector else { continue }
            for row in 0..<output.rows { ck_sum(output.row(row), bias, output.row(row), output.columns) }
        }
    }

    /// h ← σ(z) of the members that have σ.
    private func activate(_ z: MatrixView<Float>, into h: MatrixView<Float>) {
        forEachActivation(z.rows) { rows, columns in
            forEachRun(of: z, rows, columns) { offset, count in ck_silu(z.pointer + offset, h.pointer + offset, count) }
        }
    }

    /// dz ← dh ∘ σ'(z), in place.
    private func differentiateActivation(_ z: MatrixView<Float>, _ dz: MatrixView<Float>) {
        forEachActivation(z.rows) { rows, columns in
            forEachRun(of: z, rows, columns) { offset, count in
                ck_silu_backward(z.pointer + offset, dz.pointer + offset, count)
            }
        }
    }

    /// Calls `body` for the bottlenecks that have σ, on all threads, with some rows and columns: all columns at once where
    /// all bottlenecks have it.
    private func forEachActivation(_ rows: Int, _ body: (Range<Int>, Range<Int>) -> Void) {
        let activated = zip(members, bottlenecks).compactMap { member, columns -> Range<Int>? in
            guard case .lowRank(let lowRank) = member, lowRank.isActivated else { return nil }
            return columns
        }
        guard !activated.isEmpty else { return }
        let isAll = activated.reduce(0) { $0 + $1.count } == rank
        ThreadPool.forEachRange(rows) { rows in
            for columns in isAll ? [0..<rank] : activated { body(rows, columns) }
        }
    }

    /// The pieces without gaps of a rectangle of z, which has no gaps itself.
    private func forEachRun(
        of z: MatrixView<Float>, _ rows: Range<Int>, _ columns: Range<Int>, _ body: (Int, Int) -> Void
    ) {
        if columns.count == z.columns { return body(rows.lowerBound * z.columns, rows.count * z.columns) }
        for row in rows { body(row * z.columns + columns.lowerBound, columns.count) }
    }
}

// MARK: - Backward

/// What the backward pass of a group reads and makes.
struct GroupGradients {
    /// What entered, `[N, in]`, and its bottlenecks, `[N, Σ rank]`.
    let x: MatrixView<Float>
    let z: MatrixView<Float>
    /// The gradient of what left, `[N, Σ out]`.
    let dy: MatrixView<Float>
    /// Where the gradient of x goes, `[N, in]`.
    let dx: MatrixView<Float>
    /// Whether dx is added to what is there.
    var addsToInput = false
}

extension LinearGroup {
    /// Backward of `forward`: dx from dy, block of rows by block, after each of which `then` is told its rows; and the
    /// parameters' own gradients, in `gradient`, which are added to if `accumulating`.
    ///
    /// Low-rank, with h = σ(z): dB = hᵀ·dy, dh = dy·Bᵀ, dz = dh ∘ σ'(z), dA = xᵀ·dz, dx = dz·Aᵀ. Dense: dW = dyᵀ·x,
    /// dx = dy·W. Both: db = Σ dy. Without `gradient` only dx is computed.
    func backward(
        _ pass: GroupGradients, gradient: LinearGroup?, accumulating: Bool, _ scratch: BackwardScratch,
        then: (Range<Int>) -> Void = { _ in }
    ) {
        let (n, dy) = (pass.dy.rows, pass.dy)
        let output = Operand(unrounded: dy, scratch: scratch.roundedOutput?.view)
        let dz = Self.room(scratch.bottleneckGradient, like: pass.z)
        let h = Self.room(scratch.activated, like: pass.z)
        let inner = Operand(unrounded: dz, scratch: scratch.roundedBottleneck?.view)
        RowBlocks.forEach(n) { rows in
            output.roundRows(rows)
            if let factors {
                differentiateBottlenecks(pass.z.rows(rows), output.rows(rows), into: dz.rows(rows))
                if gradient != nil { activate(pass.z.rows(rows), into: h.rows(rows)) }
                inner.roundRows(rows)
                factors.apply(
                    inner.rows(rows), transposed: true, accumulating: pass.addsToInput, into: pass.dx.rows(rows))
            }
            if let dense {
                dense.apply(
                    output.rows(rows).columns(0..<dense.rows), transposed: false,
                    accumulating: pass.addsToInput || factors != nil, into: pass.dx.rows(rows))
            }
            then(rows)
        }
        guard let gradient else { return }
        let input = Operand(pass.x, scratch: scratch.roundedInput?.view)
        gradient.dense?.setProduct(output.columns(0..<(dense?.rows ?? 0)), input, accumulating: accumulating)
        gradient.factors?.setProduct(input, inner, accumulating: accumulating)
        for (index, member) in members.enumerated() {
            gradient.members[index].bias?.setColumnSums(dy.columns(outputs[index]), accumulating: accumulating)
            guard case .lowRank(let lowRank) = member, case .lowRank(let own) = gradient.members[index] else {
                continue
            }
            let entering = (lowRank.isActivated ? h : pass.z).columns(bottlenecks[index])
            own.b.setProduct(
                Operand(entering, scratch: scratch.roundedInput?.view), output.columns(outputs[index]),
                accumulating: accumulating)
        }
    }

    /// dz of all low-rank members for some rows, from the gradient of what left.
    private func differentiateBottlenecks(_ z: MatrixView<Float>, _ output: Operand, into dz: MatrixView<Float>) {
        for (index, member) in members.enumerated() {
            guard case .lowRank(let lowRank) = member else { continue }
            lowRank.b.apply(output.columns(outputs[index]), transposed: true, into: dz.columns(bottlenecks[index]))
        }
        differentiateActivation(z, dz)
    }

    private static func room(_ matrix: Matrix?, like z: MatrixView<Float>) -> MatrixView<Float> {
        matrix.map { MatrixView($0.pointer, rows: z.rows, columns: z.columns, stride: z.columns) } ?? z
    }
}

/// Rows of a batch in blocks, one for each thread at a time, so that what a block computes stays in the cache from one
/// operation to the next.
enum RowBlocks {
    static func forEach(_ rows: Int, _ body: (Range<Int>) -> Void) {
        let threads = ThreadPool.threads
        // A few rows are not worth cutting; the products then share out their columns instead.
        guard rows >= 32 * threads else { return body(0..<rows) }
        let rounds = (rows + 512 * threads - 1) / (512 * threads)
        let block = (rows + rounds * threads - 1) / (rounds * threads)
        let blocks = (rows + block - 1) / block
        ThreadPool.forEach(blocks) { body($0 * block..<min(rows, ($0 + 1) * block)) }
    }
}
