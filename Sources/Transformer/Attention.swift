import CKernels
import LinearAlgebra
import Tensors

/// Causal self-attention with grouped keys and values.
///
/// H query heads share K key/value heads, H / K neighbours each; D is the head size. The n × n matrix of scores never
/// exists: a block of queries meets all its keys, then the next one.
struct Attention {
    let heads: Int
    let keyValueHeads: Int
    let headSize: Int

    init(_ configuration: DecoderConfiguration) {
        heads = configuration.heads
        keyValueHeads = configuration.keyValueHeads
        headSize = configuration.headSize
    }

    /// Queries that are handled at a time.
    static let queryBlock = 128

    /// A block of queries of one head of one sequence.
    private struct Block {
        /// First token of the sequence in the batch, first query in the sequence, number of queries.
        let start: Int, first: Int, rows: Int
        let head: Int

        /// Keys that the block's last query sees.
        var keys: Int { first + rows }
        var queries: Range<Int> { start + first..<start + first + rows }
        var past: Range<Int> { start..<start + keys }
    }

    private var scale: Float { 1 / Float(headSize).squareRoot() }

    private func columns(ofHead head: Int) -> Range<Int> { head * headSize..<(head + 1) * headSize }

    private func sharedHead(of head: Int) -> Int { head / (heads / keyValueHeads) }

    /// attended `[N, H·D]` ← softmax(q·kᵀ / √D, causal)·v, for q `[N, H·D]`, k and v `[N, K·D]` after rotation.
    ///
    /// `scores` holds one row of scratch memory per thread. `statistics` `[N, 2·H]`, if given, takes what backward needs
    /// of each row of the scores: for each head the largest score, then the inverse of Σ e^(scale·(score − largest)).
    func forward(
        _ batch: TokenBatch, query: MatrixView<Float>, key: MatrixView<Float>, value: MatrixView<Float>, scores: Matrix,
        statistics: MatrixView<Float>?, into attended: MatrixView<Float>
    ) {
        // The longest tasks – the last blocks, which see the most keys – come first, so that threads end together.
        var tasks: [Block] = []
        for (start, length) in zip(batch.starts, batch.lengths) {
            for first in stride(from: 0, to: length, by: Self.queryBlock) {
                let rows = min(Self.queryBlock, length - first)
                for head in 0..<heads { tasks.append(Block(start: start, first: first, rows: rows, head: head)) }
            }
        }
        tasks.sort { ($0.first, $0.start, $0.head) > ($1.first, $1.start, $1.head) }
        ThreadPool.forEach(tasks.count) { index in
            let task = tasks[index]
            let (own, shared) = (columns(ofHead: task.head), columns(ofHead: sharedHead(of: task.head)))
            let s = MatrixView(
                scores.view.row(ThreadPool.currentThread), rows: task.rows, columns: task.keys, stride: task.keys)
            multiply(
                query.rows(task.queries).columns(own), key.rows(task.past).columns(shared), transposeB: true, into: s)
            var inverseSums = [Float](repeating: 0, count: task.rows)
            for row in 0..<task.rows {
                let seen = task.first + row + 1
                var largest: Float = 0
                inverseSums[row] = 1 / ck_softmax_numerators(s.row(row), seen, scale, &largest)
                (s.row(row) + seen).update(repeating: 0, count: task.keys - seen)
                if let statistics {
                    statistics[task.queries.lowerBound + row, 2 * task.head] = largest
                    statistics[task.queries.lowerBound + row, 2 * task.head + 1] = inverseSums[row]
                }
            }
            let output = attended.rows(task.queries).columns(own)
            multiply(s, value.rows(task.past).columns(shared), into: output)
            for row in 0..<task.rows { ck_scale(output.row(row), inverseSums[row], headSize) }
        }
    }

    /// The gradients of q, k and v from that of `attended`; all of them as the matrices of `forward`.
    ///
    /// With P = softmax(S), S = q·kᵀ / √D, for each block of queries again: dv = Pᵀ·da, dP = da·vᵀ,
    /// dS = P ∘ (dP − Σ da·a) / √D, dq = dS·k, dk = dSᵀ·q. A key/value head collects from all queries that share it on
    /// one thread, in one order. `scores` holds two rows of scratch memory per thread.
    func backward(
        _ batch: TokenBatch, query: MatrixView<Float>, key: MatrixView<Float>, value: MatrixView<Float>,
        attended: MatrixView<Float>, statistics: MatrixView<Float>, gradient da: MatrixView<Float>, scores: Matrix,
        intoQuery dq: MatrixView<Float>, key dk: MatrixView<Float>, value dv: MatrixView<Float>
    ) {
        var tasks: [(start: Int, length: Int, sharedHead: Int)] = []
        for (start, length) in zip(batch.starts, batch.lengths) {
            for head in 0..<keyValueHeads { tasks.append((start, length, head)) }
        }
        tasks.sort { ($0.length, $0.start, $0.sharedHead) > ($1.length, $1.start, $1.sharedHead) }
        let group = heads / keyValueHeads
        ThreadPool.forEach(tasks.count) { index in
            let task = tasks[index]
            let shared = columns(ofHead: task.sharedHead)
            var isFirst = true
            // From the last block on, which meets all keys and so sets every row of dk and dv.
            for first in stride(from: 0, to: task.length, by: Self.queryBlock).reversed() {
                let rows = min(Self.queryBlock, task.length - first)
                for head in task.sharedHead * group..<(task.sharedHead + 1) * group {
                    let block = Block(start: task.start, first: first, rows: rows, head: head)
                    let own = columns(ofHead: head)
                    let (p, ds) = room(for: block, in: scores)
                    let (q, k) = (query.rows(block.queries).columns(own), key.rows(block.past).columns(shared))
                    let (a, g) = (attended.rows(block.queries).columns(own), da.rows(block.queries).columns(own))
                    multiply(q, k, transposeB: true, into: p)
                    multiply(g, value.rows(block.past).columns(shared), transposeB: true, into: ds)
                    for row in 0..<rows {
                        let (seen, token) = (first + row + 1, block.queries.lowerBound + row)
                        ck_softmax_row(
                            p.row(row), seen, scale, statistics[token, 2 * head], statistics[token, 2 * head + 1])
                        ck_softmax_backward(
                            p.row(row), ds.row(row), seen, ck_dot(a.row(row), g.row(row), headSize), scale)
                        (p.row(row) + seen).update(repeating: 0, count: block.keys - seen)
                        (ds.row(row) + seen).update(repeating: 0, count: block.keys - seen)
                    }
                    multiply(
                        p, g, transposeA: true, accumulating: !isFirst, into: dv.rows(block.past).columns(shared))
                    multiply(
                        ds, q, transposeA: true, accumulating: !isFirst, into: dk.rows(block.past).columns(shared))
                    multiply(ds, k, into: dq.rows(block.queries).columns(own))
                    isFirst = false
                }
            }
        }
    }

    private func room(for block: Block, in scores: Matrix) -> (MatrixView<Float>, MatrixView<Float>) {
        func view(_ row: Int) -> MatrixView<Float> {
            MatrixView(scores.view.row(row), rows: block.rows, columns: block.keys, stride: block.keys)
        }
        return (view(2 * ThreadPool.currentThread), view(2 * ThreadPool.currentThread + 1))
    }

    /// FLOPs of the causal attention of one sequence: q·kᵀ and P·v over the pairs that see each other.
    func flops(sequenceLength length: Int) -> Double {
        4 * Double(heads * headSize) * Double(length) * Double(length + 1) / 2
    }
}
