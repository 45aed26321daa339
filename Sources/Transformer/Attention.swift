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

    /// attended `[N, H·D]` ← softmax(q·kᵀ / √D, causal)·v, for q `[N, H·D]`, k and v `[N, K·D]` after rotation.
    /// `scores` holds one row of scratch memory per thread.
    func forward(
        _ batch: TokenBatch, query: MatrixView<Float>, key: MatrixView<Float>, value: MatrixView<Float>, scores: Matrix,
        into attended: MatrixView<Float>
    ) {
        let block = Workspace.queryBlock
        // The longest tasks – the last blocks, which see the most keys – come first, so that threads end together.
        var tasks: [(start: Int, first: Int, rows: Int, head: Int)] = []
        for (start, length) in zip(batch.starts, batch.lengths) {
            for first in Swift.stride(from: 0, to: length, by: block) {
                for head in 0..<heads { tasks.append((start, first, min(block, length - first), head)) }
            }
        }
        tasks.sort { ($0.first, $0.start, $0.head) > ($1.first, $1.start, $1.head) }
        let scale = 1 / Float(headSize).squareRoot()
        ThreadPool.forEach(tasks.count) { index in
            let task = tasks[index]
            let keys = task.first + task.rows
            let sharedHead = task.head / (heads / keyValueHeads)
            let queries = task.start + task.first..<task.start + keys
            let columns = task.head * headSize..<(task.head + 1) * headSize
            let sharedColumns = sharedHead * headSize..<(sharedHead + 1) * headSize
            let past = task.start..<task.start + keys

            let s = MatrixView(scores.view.row(ThreadPool.currentThread), rows: task.rows, columns: keys, stride: keys)
            multiply(
                query.rows(queries).columns(columns), key.rows(past).columns(sharedColumns), transposeB: true, into: s)
            var sums = [Float](repeating: 0, count: task.rows)
            for row in 0..<task.rows {
                let seen = task.first + row + 1
                sums[row] = ck_softmax_numerators(s.row(row), seen, scale)
                (s.row(row) + seen).update(repeating: 0, count: keys - seen)
            }
            let output = attended.rows(queries).columns(columns)
            multiply(s, value.rows(past).columns(sharedColumns), into: output)
            for row in 0..<task.rows { ck_scale(output.row(row), 1 / sums[row], headSize) }
        }
    }
}
