import LinearAlgebra
import Tensors

/// A matrix as the products take it: in single precision, or its copy in bfloat16.
struct Operand {
    let single: MatrixView<Float>
    let rounded: MatrixView<BFloat16>?

    /// Rounds into `scratch`, if there is any, on all threads. The copy has no gaps between rows.
    init(_ matrix: MatrixView<Float>, scratch: MatrixView<BFloat16>?) {
        self.init(unrounded: matrix, scratch: scratch)
        ThreadPool.forEachRange(matrix.rows) { roundRows($0) }
    }

    /// The same before any row is rounded.
    init(unrounded matrix: MatrixView<Float>, scratch: MatrixView<BFloat16>?) {
        single = matrix
        rounded = scratch.map {
            MatrixView($0.pointer, rows: matrix.rows, columns: matrix.columns, stride: matrix.columns)
        }
    }

    private init(_ single: MatrixView<Float>, _ rounded: MatrixView<BFloat16>?) {
        self.single = single
        self.rounded = rounded
    }

    /// Rounds some rows, on this thread.
    func roundRows(_ range: Range<Int>) {
        if let rounded { round(single.rows(range), into: rounded.rows(range)) }
    }

    func rows(_ range: Range<Int>) -> Operand { Operand(single.rows(range), rounded?.rows(range)) }
    func columns(_ range: Range<Int>) -> Operand { Operand(single.columns(range), rounded?.columns(range)) }
}
