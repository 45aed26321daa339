import CKernels
import Tensors

extension LanguageModel {
    /// hidden `[N, C]` ← each token's row of the embedding, times the family's factor, plus the row of its position where
    /// positions are learned.
    func embed(_ batch: TokenBatch, into hidden: MatrixView<Float>) {
        let scale = description.embeddingScale
        let position = weights.positions.map { (table: $0, row: Matrix(uninitialized: [hidden.columns])) }
        if let rows = weights.positions?.rows {
            precondition(batch.longest <= rows, "a sequence of \(batch.longest) tokens with \(rows) learned positions")
        }
        for (row, (id, place)) in zip(batch.ids, batch.positions).enumerated() {
            weights.embedding.copyRow(Int(id), to: hidden.row(row))
            if scale != 1 { ck_scale(hidden.row(row), scale, hidden.columns) }
            guard let position else { continue }
            position.table.copyRow(place, to: position.row.pointer)
            ck_sum(hidden.row(row), position.row.pointer, hidden.row(row), hidden.columns)
        }
    }

    /// Backward of `embed`: the gradient of a token's row is the sum over the places where the token stands, times the
    /// factor; that of a position's row the sum over the sequences. `isTied` says that the embedding's gradient holds that of
    /// the head already.
    func differentiateEmbedding(
        _ batch: TokenBatch, _ dHidden: MatrixView<Float>, _ gradients: ModelGradients, isTied: Bool
    ) {
        let scale = description.embeddingScale
        Self.addRows(
            dHidden, to: gradients.weights.embedding, at: batch.ids.map(Int.init), scale: scale,
            clearing: !gradients.accumulating && !isTied)
        guard let positions = gradients.weights.positions else { return }
        Self.addRows(dHidden, to: positions, at: batch.positions, scale: 1, clearing: !gradients.accumulating)
    }

    private static func addRows(
        _ source: MatrixView<Float>, to table: Weight, at places: [Int], scale: Float, clearing: Bool
    ) {
        let gradient = table.view
        if clearing {
            ThreadPool.forEachRange(table.count) { part in
                (gradient.pointer + part.lowerBound).update(repeating: 0, count: part.count)
            }
        }
        ThreadPool.forEachRange(gradient.columns, granularity: 16) { columns in
            for (row, place) in places.enumerated() {
                let target = gradient.row(place) + columns.lowerBound
                let elements = source.row(row) + columns.lowerBound
                guard scale != 1 else {
                    ck_sum(target, elements, target, columns.count)
                    continue
                }
                for index in 0..<columns.count { target[index] += scale * elements[index] }
            }
        }
    }
}
