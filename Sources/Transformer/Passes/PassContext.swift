import LinearAlgebra
import Tensors

/// What a pass over a batch computes with besides the blocks' traces.
struct PassContext {
    let batch: TokenBatch
    /// The position of each token in its sequence, and the sequence in the batch.
    let positions: [Int]
    let sequences: [Int]
    let scratch: PassScratch
    /// Where σ(z) goes; nil for over z itself.
    let activated: Matrix?
    /// Whether the statistics that attention's backward pass needs are kept.
    let keepsStatistics: Bool

    init(_ batch: TokenBatch, _ scratch: PassScratch, activated: Matrix? = nil, keepsStatistics: Bool = false) {
        self.batch = batch
        positions = batch.positions
        sequences = batch.lengths.enumerated().flatMap { Array(repeating: $0, count: $1) }
        self.scratch = scratch
        self.activated = activated
        self.keepsStatistics = keepsStatistics
    }

    /// Where σ(z) of a block of rows goes. It begins at the same place whatever the rank: other rows may be at another linear
    /// layer meanwhile.
    func activatedRoom(for z: MatrixView<Float>, rows: Range<Int>) -> MatrixView<Float> {
        guard let activated, z.columns > 0 else { return z }
        return MatrixView(activated.view.row(rows.lowerBound), rows: z.rows, columns: z.columns, stride: z.columns)
    }
}

/// Matrices that a forward pass uses again from block to block.
struct PassScratch {
    /// What is added to the residual stream, `[N, C]`.
    let projected: Matrix
    /// Operands rounded to bfloat16, `[N, widest]`.
    let rounded: Tensor<BFloat16>?
    /// Scores of one block of queries against all keys, `scoreRows` times for each thread.
    let scores: Matrix
    let rotations: Rotations

    init(_ model: LanguageModel, rows: Int, longestSequence: Int, scoreRows: Int) {
        let description = model.description
        projected = Matrix(uninitialized: [rows, description.hiddenSize])
        rounded = model.precision == .bf16 ? Tensor(uninitialized: [rows, description.widestOperand]) : nil
        scores = Matrix(
            uninitialized: [
                scoreRows * ThreadPool.threads, min(Attention.queryBlock, longestSequence) * longestSequence,
            ])
        rotations = Rotations(description, positions: longestSequence)
    }

    var bytes: Int { projected.bytes + (rounded?.bytes ?? 0) + scores.bytes + rotations.bytes }
}

extension ModelDescription {
    /// The largest of something over all blocks.
    func largest(_ size: (BlockDescription) -> Int) -> Int { blocks.map(size).max() ?? 0 }

    /// Columns of the widest operand of any linear layer: what enters one, or a bottleneck.
    var widestOperand: Int {
        max(hiddenSize, linears.map { max($0.inputs, $0.rank ?? 0) }.max() ?? 0)
    }

    /// Columns of the widest output of a group.
    var widestOutput: Int {
        max(hiddenSize, largest { max($0.width(of: .projected), $0.width(of: .gateUp)) })
    }

    /// Columns of the widest bottlenecks of a group.
    var widestBottleneck: Int {
        largest { block in Stream.allCases.map { block.width(of: .bottleneck($0)) }.max() ?? 0 }
    }
}

extension BlockDescription {
    /// Columns of a buffer of linear layers.
    fileprivate func width(of buffer: BlockBuffer) -> Int { buffer.columns(in: self, hiddenSize: 0) }
}
