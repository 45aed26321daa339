import Tensors

/// Transposes of matrices, for those who need some rows at a time: the last one stays in memory.
final class Transposition {
    private var name: String?
    private var matrix = Matrix(uninitialized: [0])

    /// The transpose, `[columns, rows]`, of the matrix of a name, `[rows, columns]`, which `read` fills in.
    func matrix(
        _ name: String, rows: Int, columns: Int, read: (UnsafeMutableBufferPointer<Float>) throws -> Void
    ) rethrows -> Matrix {
        if self.name == name { return matrix }
        // Not both at once in memory.
        self.name = nil
        matrix = Matrix(uninitialized: [0])
        let stored = Matrix(uninitialized: [rows, columns])
        try read(stored.buffer)
        matrix = stored.transposed()
        self.name = name
        return matrix
    }
}

extension Matrix {
    /// A copy with rows and columns exchanged.
    fileprivate func transposed() -> Matrix {
        let (rows, columns) = (shape[0], shape[1])
        let result = Matrix(uninitialized: [columns, rows])
        let (source, destination) = (pointer, result.pointer)
        // Squares of which both sides stay in the cache.
        let side = 32
        ThreadPool.forEachRange((columns + side - 1) / side) { blocks in
            for block in blocks {
                let range = block * side..<min(columns, (block + 1) * side)
                for start in stride(from: 0, to: rows, by: side) {
                    for column in range {
                        for row in start..<min(rows, start + side) {
                            destination[column * rows + row] = source[row * columns + column]
                        }
                    }
                }
            }
        }
        return result
    }

    /// Copies some rows, counted from the row `first`.
    func copyRows(_ rows: Range<Int>, from first: Int, to destination: UnsafeMutableBufferPointer<Float>) {
        precondition(
            destination.count == rows.count * columns && first + rows.upperBound <= self.rows,
            "rows \(rows) from \(first) of \(shape) to \(destination.count) elements")
        guard let start = destination.baseAddress else { return }
        start.update(from: pointer + (first + rows.lowerBound) * columns, count: destination.count)
    }
}
