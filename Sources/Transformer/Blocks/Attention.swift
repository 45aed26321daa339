import CKernels
import LinearAlgebra
import Tensors

/// Causal self-attention with grouped keys and values, and maybe a sliding window.
///
/// H query heads share K key/value heads, H / K neighbours each; D is the head size. The n × n matrix of scores never
/// exists: a block of queries meets the keys that any of them sees, then the next one. Keys that no query of a block sees
/// because of the window take no time.
struct Attention {
    let heads: Int
    let keyValueHeads: Int
    let headSize: Int
    let scale: Float
    let window: Int?

    init(_ description: AttentionDescription) {
        heads = description.heads
        keyValueHeads = description.keyValueHeads
        headSize = description.headSize
        scale = description.scale
        window = description.window
    }

    /// What goes in and what comes out: q `[N, H·D]`, k and v `[N, K·D]`, and the weighted values `[N, H·D]`. Their
    /// gradients are matrices of the same kind.
    struct Matrices {
        let query: MatrixView<Float>
        let key: MatrixView<Float>
        let value: MatrixView<Float>
        let attended: MatrixView<Float>
    }

    /// Queries that are handled at a time.
    static let queryBlock = 128

    /// A block of queries of one head of one sequence.
    private struct Block {
        /// First token of the sequence in the batch, first query in the sequence, number of queries.
        let start: Int, first: Int, rows: Int
        let head: Int
        /// The first key of the sequence that the first query sees.
        let firstKey: Int

        /// Keys that some query of the block sees.
        var keys: Int { first + rows - firstKey }
        var queries: Range<Int> { start + first..<start + first + rows }
        var past: Range<Int> { start + firstKey..<start + first + rows }
    }

    private func block(start: Int, first: Int, length: Int, head: Int) -> Block {
        Block(
            start: start, first: first, rows: min(Self.queryBlock, length - first), head: head,
            firstKey: firstKeySeen(by: first))
    }

    private func firstKeySeen(by query: Int) -> Int { window.map { max(0, query - $0 + 1) } ?? 0 }

    /// The keys that a row of a block sees, among those of the block.
    private func seen(by row: Int, in block: Block) -> Range<Int> {
        firstKeySeen(by: block.first + row) - block.firstKey..<block.first + row + 1 - block.firstKey
    }

    /// Zeros for the keys that a row does not see.
    private static func clear(_ row: UnsafeMutablePointer<Float>, outside seen: Range<Int>, of count: Int) {
        row.update(repeating: 0, count: seen.lowerBound)
        (row + seen.upperBound).update(repeating: 0, count: count - seen.upperBound)
    }

    private func columns(ofHead head: Int) -> Range<Int> { head * headSize..<(head + 1) * headSize }

    private func sharedHead(of head: Int) -> Int { head / (heads / keyValueHeads) }

    /// attended ← softmax(scale · q·kᵀ, causal)·v, for q and k after rotation.
    ///
    /// `scores` holds one row of scratch memory per thread. `statistics` `[N, 2·H]`, if given, takes what backward needs
    /// of each row of the scores: for each head the largest score, then the inverse of Σ e^(scale·(score − largest)).
    func forward(
        _ batch: TokenBatch, _ matrices: Matrices, scores: Matrix, statistics: MatrixView<Float>?
    ) {
        // The longest tasks – the last blocks, which see the most keys – come first, so that threads end together.
        var tasks: [Block] = []
        for (start, length) in zip(batch.starts, batch.lengths) {
            for first in stride(from: 0, to: length, by: Self.queryBlock) {
                for head in 0..<heads { tasks.append(block(start: start, first: first, length: length, head: head)) }
            }
        }
        tasks.sort { ($0.keys, $0.first, $0.start, $0.head) > ($1.keys, $1.first, $1.start, $1.head) }
        ThreadPool.forEach(tasks.count) { index in
            let task = tasks[index]
            let (own, shared) = (columns(ofHead: task.head), columns(ofHead: sharedHead(of: task.head)))
            let s = MatrixView(
                scores.view.row(ThreadPool.currentThread), rows: task.rows, columns: task.keys, stride: task.keys)
            multiply(
                matrices.query.rows(task.queries).columns(own), matrices.key.rows(task.past).columns(shared),
                transposeB: true, into: s)
            var inverseSums = [Float](repeating: 0, count: task.rows)
            for row in 0..<task.rows {
                let seen = seen(by: row, in: task)
                var largest: Float = 0
                inverseSums[row] = 1 / ck_softmax_numerators(s.row(row) + seen.lowerBound, seen.count, scale, &largest)
                Self.clear(s.row(row), outside: seen, of: task.keys)
                if let statistics {
                    statistics[task.queries.lowerBound + row, 2 * task.head] = largest
                    statistics[task.queries.lowerBound + row, 2 * task.head + 1] = inverseSums[row]
                }
            }
            let output = matrices.attended.rows(task.queries).columns(own)
            multiply(s, matrices.value.rows(task.past).columns(shared), into: output)
            for row in 0..<task.rows { ck_scale(output.row(row), inverseSums[row], headSize) }
        }
    }

    /// The gradients of q, k and v from that of `attended`, for what `forward` left.
    ///
    /// With P = softmax(S), S = scale · q·kᵀ, for each block of queries again: dv = Pᵀ·da, dP = da·vᵀ,
    /// dS = P ∘ (dP − Σ da·a) · scale, dq = dS·k, dk = dSᵀ·q. A key/value head collects from all queries that share it on
    /// one thread, in one order. `scores` holds two rows of scratch memory per thread.
    func backward(
        _ batch: TokenBatch, _ matrices: Matrices, statistics: MatrixView<Float>, scores: Matrix,
        gradients: Matrices
    ) {
        var tasks: [(start: Int, length: Int, sharedHead: Int)] = []
        for (start, length) in zip(batch.starts, batch.lengths) {
            for head in 0..<keyValueHeads { tasks.append((start, length, head)) }
        }
        tasks.sort { ($0.length, $0.start, $0.sharedHead) > ($1.length, $1.start, $1.sharedHead) }
        let group = heads / keyValueHeads
        ThreadPool.forEach(tasks.count) { index in
            let task = tasks[index]
            // Without a window the last block meets all keys, and so sets every row of dk and dv.
            var isFirst = window == nil
            if !isFirst { clearKeyGradients(task, gradients) }
            for first in stride(from: 0, to: task.length, by: Self.queryBlock).reversed() {
                for head in task.sharedHead * group..<(task.sharedHead + 1) * group {
                    let block = block(start: task.start, first: first, length: task.length, head: head)
                    differentiate(block, matrices, statistics, scores, gradients, isFirst: isFirst)
                    isFirst = false
                }
            }
        }
    }

    /// Adds what a block of queries gives to the gradients; sets those of keys and values if it is the first.
    private func differentiate(
        _ block: Block, _ matrices: Matrices, _ statistics: MatrixView<Float>, _ scores: Matrix,
        _ gradients: Matrices, isFirst: Bool
    ) {
        let (own, shared) = (columns(ofHead: block.head), columns(ofHead: sharedHead(of: block.head)))
        let (p, ds) = room(for: block, in: scores)
        let (q, k) = (matrices.query.rows(block.queries).columns(own), matrices.key.rows(block.past).columns(shared))
        let a = matrices.attended.rows(block.queries).columns(own)
        let g = gradients.attended.rows(block.queries).columns(own)
        multiply(q, k, transposeB: true, into: p)
        multiply(g, matrices.value.rows(block.past).columns(shared), transposeB: true, into: ds)
        for row in 0..<block.rows {
            let (seen, token) = (seen(by: row, in: block), block.queries.lowerBound + row)
            let (probabilities, gradient) = (p.row(row) + seen.lowerBound, ds.row(row) + seen.lowerBound)
            ck_softmax_row(
                probabilities, seen.count, scale, statistics[token, 2 * block.head],
                statistics[token, 2 * block.head + 1])
            ck_softmax_backward(
                probabilities, gradient, seen.count, ck_dot(a.row(row), g.row(row), headSize), scale)
            Self.clear(p.row(row), outside: seen, of: block.keys)
            Self.clear(ds.row(row), outside: seen, of: block.keys)
        }
        let (dk, dv) = (
            gradients.key.rows(block.past).columns(shared), gradients.value.rows(block.past).columns(shared)
        )
        multiply(p, g, transposeA: true, accumulating: !isFirst, into: dv)
        multiply(ds, q, transposeA: true, accumulating: !isFirst, into: dk)
        multiply(ds, k, into: gradients.query.rows(block.queries).columns(own))
    }

    private func clearKeyGradients(_ task: (start: Int, length: Int, sharedHead: Int), _ gradients: Matrices) {
        let shared = columns(ofHead: task.sharedHead)
        for row in task.start..<task.start + task.length {
            (gradients.key.row(row) + shared.lowerBound).update(repeating: 0, count: headSize)
            (gradients.value.row(row) + shared.lowerBound).update(repeating: 0, count: headSize)
        }
    }

    private func room(for block: Block, in scores: Matrix) -> (MatrixView<Float>, MatrixView<Float>) {
        func view(_ row: Int) -> MatrixView<Float> {
            MatrixView(scores.view.row(row), rows: block.rows, columns: block.keys, stride: block.keys)
        }
        return (view(2 * ThreadPool.currentThread), view(2 * ThreadPool.currentThread + 1))
    }
}
