import Tensors

/// Buffers of one forward pass, planned once from the shapes and used again for every batch.
///
/// Letters: N tokens of a batch, T longest sequence, C hidden size.
public final class Workspace {
    public let maximumTokens: Int
    public let longestSequence: Int

    /// The residual stream, `[N, C]`.
    let hidden: Matrix
    /// Each block's matrices, one memory for all: they follow each other in it, the residual stream and the product of the
    /// feed-forward network in place.
    let traces: [BlockTrace]
    let scratch: PassScratch
    private let memory: SharedBuffers

    public init(_ model: LanguageModel, maximumTokens: Int, longestSequence: Int) {
        let description = model.description
        self.maximumTokens = maximumTokens
        self.longestSequence = longestSequence
        let hidden = Matrix(uninitialized: [maximumTokens, description.hiddenSize])
        // Linear layers that read the middle of a block itself may be watched after it.
        let keepsMiddle = description.blocks.contains { $0.norms.feedForwardInput == nil }
        let memory = SharedBuffers(description, rows: maximumTokens) { buffer in
            switch buffer {
            case .input, .product, .statistics: false
            case .middle: keepsMiddle
            default: true
            }
        }
        traces = description.blocks.indices.map { index in
            let block = description.blocks[index]
            var trace = BlockTrace(block, hiddenSize: description.hiddenSize) { buffer, columns in
                buffer == .input || buffer == .middle && !keepsMiddle
                    ? hidden.view : memory.view(of: buffer, columns: columns)
            }
            let role = block.feedForward.isGated ? LinearRole.gate : .up
            trace[.product] = trace[.gateUp].columns(
                model.weights.blocks[index][.feedForwardInput].columns(of: role))
            return trace
        }
        self.hidden = hidden
        self.memory = memory
        scratch = PassScratch(model, rows: maximumTokens, longestSequence: longestSequence, scoreRows: 1)
    }

    /// Bytes that the buffers hold.
    public var bytes: Int { hidden.bytes + memory.bytes + scratch.bytes }

    /// The residual stream after the last pass, `[rows, C]`.
    public func hiddenStates(rows: Int) -> MatrixView<Float> { hidden.view.rows(0..<rows) }
}

/// Memory for the buffers that all blocks share, as wide as the widest block needs.
struct SharedBuffers {
    private let matrices: [BlockBuffer: Matrix]
    private let rows: Int

    init(_ description: ModelDescription, rows: Int, includes: (BlockBuffer) -> Bool) {
        self.rows = rows
        var matrices: [BlockBuffer: Matrix] = [:]
        for buffer in BlockBuffer.allCases where includes(buffer) {
            let columns = description.largest { buffer.columns(in: $0, hiddenSize: description.hiddenSize) }
            if columns > 0 { matrices[buffer] = Matrix(uninitialized: [rows, columns]) }
        }
        self.matrices = matrices
    }

    /// A buffer of so many columns; one without any where there is no memory for it.
    func view(of buffer: BlockBuffer, columns: Int) -> MatrixView<Float> {
        guard let matrix = matrices[buffer], columns > 0 else { return .empty(rows: rows) }
        return MatrixView(matrix.pointer, rows: rows, columns: columns, stride: columns)
    }

    var bytes: Int { matrices.values.reduce(0) { $0 + $1.bytes } }
}

extension MatrixView where Element == Float {
    /// Rows without columns, which nobody reads.
    static func empty(rows: Int) -> MatrixView {
        MatrixView(UnsafeMutablePointer(bitPattern: MemoryLayout<Float>.alignment)!, rows: rows, columns: 0, stride: 0)
    }
}
