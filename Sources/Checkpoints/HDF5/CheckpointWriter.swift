import CHDF5
import Files
import JSON
import Tensors

/// Writes a checkpoint of this project's HDF5 layout (see `HDF5Checkpoint`).
///
/// Tensors go to a temporary file beside the final name, row by row in checksummed chunks. `finish` reads everything
/// back and only then gives the file its name; without it, after an error, and when the writer is thrown away, nothing
/// remains. Equal input gives equal bytes.
public final class CheckpointWriter {
    public let path: String
    /// How tensors are stored unless a write says otherwise.
    public let type: ElementType
    private let deflate: Int?
    private let output: HDF5Output
    private var names: Set<[String]> = []

    /// Starts a file with its texts. `configuration` is the text of config.json, `provenance` JSON text that says where
    /// the weights come from. `deflate` compresses with that level, 1 to 9; without it chunks are stored as they are.
    ///
    /// Throws `cannotWrite` if the folder takes no file or the disk is full.
    public init(
        path: String, configuration: String, provenance: String, tokenizer: TokenizerBlob?, type: ElementType = .f32,
        deflate: Int? = nil
    ) throws(CheckpointError) {
        precondition(deflate.map { (1...9).contains($0) } ?? true, "deflate levels are 1 to 9")
        self.path = path
        self.type = type
        self.deflate = deflate
        output = try HDF5Output(path: path)
        try output.setAttribute("format", .text(HDF5Names.format))
        try output.setAttribute("format_version", .integer(HDF5Names.version))
        try output.setAttribute("config", .text(configuration))
        try output.setAttribute("provenance", .text(provenance))
        try output.makeGroup([HDF5Names.model])
        if let tokenizer { try write(tokenizer) }
    }

    /// Writes a whole tensor, rounded to the stored type. `name` is canonical (Hugging Face).
    ///
    /// Throws `tensors` for a name that is not one or was written before and for finite numbers too large for the
    /// stored type, and `cannotWrite`. The writer is of no use after an error.
    public func write(_ name: String, _ tensor: Matrix, type: ElementType? = nil) throws {
        try write([HDF5Names.model], name, tensor, type: type ?? self.type)
    }

    /// Writes a tensor of any size by rows: `fill` is called for ranges of the first extent, in order, and fills the
    /// buffer with their elements, row-major. The number of rows is chosen for about four mebibytes.
    ///
    /// Throws as `write(_:_:type:)` does, and what `fill` throws.
    public func write(
        _ name: String, shape: [Int], type: ElementType? = nil,
        fill: (_ rows: Range<Int>, _ buffer: UnsafeMutableBufferPointer<Float>) throws -> Void
    ) throws {
        try write([HDF5Names.model], name, shape: shape, type: type ?? self.type, fill: fill)
    }

    /// Writes a part of the optimizer state of the parameter of that name, in single precision. Throws as
    /// `write(_:_:type:)` does.
    public func writeOptimizerState(_ part: OptimizerStatePart, _ name: String, _ tensor: Matrix) throws {
        try write(HDF5Names.path(of: part), name, tensor, type: .f32)
    }

    /// The same by rows, as `write(_:shape:type:fill:)` takes a tensor.
    public func writeOptimizerState(
        _ part: OptimizerStatePart, _ name: String, shape: [Int],
        fill: (_ rows: Range<Int>, _ buffer: UnsafeMutableBufferPointer<Float>) throws -> Void
    ) throws {
        try write(HDF5Names.path(of: part), name, shape: shape, type: .f32, fill: fill)
    }

    /// Writes what a training run keeps beside weights and optimizer state; at most once. Throws `cannotWrite`.
    public func writeTraining(_ training: TrainingGroup) throws(CheckpointError) {
        let width = training.columns.count
        precondition(width > 0 && training.history.count % width == 0, "a history of rows of \(width) numbers")
        precondition(!training.columns.contains { $0.contains(",") }, "names of columns are separated by commas")
        let (group, history) = (HDF5Names.training, HDF5Names.training + [HDF5Names.history])
        try output.makeGroup(group)
        for (name, value) in training.counters.sorted(by: { $0.key < $1.key }) {
            try output.setAttribute(name, .integer(Int64(value)), of: group)
        }
        try output.setAttribute(HDF5Names.seed, .unsigned(training.seed), of: group)
        try output.setAttribute(HDF5Names.settings, .text(training.settings), of: group)
        try output.writeWhole(
            history, shape: [training.history.count / width, width], type: chdf5_ieee_f64, training.history)
        try output.setAttribute(HDF5Names.columns, .text(training.columns.joined(separator: ",")), of: history)
    }

    /// Completes the file: flushes it, reads all of it back and compares, then renames. Throws `cannotWrite` if a byte
    /// differs or the disk is full; nothing remains then.
    public func finish() throws { try output.finish() }

    private func write(
        _ group: [String], _ name: String, shape: [Int], type: ElementType,
        fill: (_ rows: Range<Int>, _ buffer: UnsafeMutableBufferPointer<Float>) throws -> Void
    ) throws {
        var block = Matrix(uninitialized: [0])
        try write(group, name, shape: shape, type: type) { rows, count in
            if block.count < count { block = Matrix(uninitialized: [count]) }
            try fill(rows, UnsafeMutableBufferPointer(start: block.pointer, count: count))
            return UnsafePointer(block.pointer)
        }
    }

    private func write(_ group: [String], _ name: String, _ tensor: Matrix, type: ElementType) throws {
        let width = tensor.shape.dropFirst().reduce(1, *)
        try write(group, name, shape: tensor.shape, type: type) { rows, _ in
            UnsafePointer(tensor.pointer + rows.lowerBound * width)
        }
    }

    private func write(
        _ group: [String], _ name: String, shape: [Int], type: ElementType,
        block: (_ rows: Range<Int>, _ count: Int) throws -> UnsafePointer<Float>
    ) throws {
        let place = group + [name]
        do {
            guard !name.isEmpty, name != ".", !name.contains("/"), !name.utf8.contains(0) else {
                throw problem(name, "not a name that a tensor can have")
            }
            guard names.insert(place).inserted else { throw problem(name, "written twice") }
            let storedType = try HDF5Failure.translated({ .cannotWrite(path: path, reason: $0) }) {
                try type.makeHDF5Type()
            }
            var dataset = try output.create(place, shape: shape, type: storedType, deflate: deflate)
            let width = dataset.record.rowElements
            let capacity = type == .f32 ? 0 : dataset.record.blockRows * width
            let stored = UnsafeMutableRawPointer.allocate(byteCount: max(64, capacity * type.bytes), alignment: 64)
            let scratch = Matrix(uninitialized: [type == .f64 ? 0 : capacity])
            defer { stored.deallocate() }
            for rows in dataset.blocks {
                let count = rows.count * width
                let values = try block(rows, count)
                if type == .f32 {
                    try output.write(rows, values, to: &dataset)
                    continue
                }
                type.encode(values, into: stored, count: count)
                if type != .f64 {
                    type.decode(stored, into: scratch.pointer, count: count)
                    try requireFits(name, values, scratch.pointer, count, row: rows.lowerBound)
                }
                try output.write(rows, stored, to: &dataset)
            }
            try output.close(dataset)
        } catch {
            output.abandon()
            throw error
        }
    }

    /// Rounding to 16 bits must not make infinities out of numbers.
    private func requireFits(
        _ name: String, _ values: UnsafePointer<Float>, _ rounded: UnsafePointer<Float>, _ count: Int, row: Int
    ) throws {
        for i in 0..<count where values[i].isFinite && !rounded[i].isFinite {
            throw problem(name, "\(values[i]) in the rows from \(row) on is too large for \(type.rawValue)")
        }
    }

    private func write(_ tokenizer: TokenizerBlob) throws(CheckpointError) {
        let (kind, bytes) =
            switch tokenizer.content {
            case .tokenizerJSON(let bytes): (HDF5Names.tokenizerJSON, bytes)
            case .sentencepiece(let bytes): (HDF5Names.sentencepiece, bytes)
            }
        try output.writeWhole(["tokenizer"], shape: [bytes.count], type: chdf5_std_u8, bytes)
        try output.setAttribute(HDF5Names.tokenizerKind, .text(kind), of: ["tokenizer"])
        guard tokenizer.settings != TokenizerSettings() else { return }
        let settings = JSONValue.object(tokenizer.settings.json).text()
        try output.setAttribute(HDF5Names.settings, .text(settings), of: ["tokenizer"])
    }

    private func problem(_ name: String, _ text: String) -> CheckpointError {
        .tensors(path: path, problems: ["\(name): \(text)"])
    }
}

extension HDF5Output {
    /// Writes a dataset of plain numbers that are in memory.
    func writeWhole<Element: BitwiseCopyable>(
        _ path: [String], shape: [Int], type: () -> hid_t, _ values: [Element]
    ) throws(CheckpointError) {
        let storedType = try step { _ in try HDF5Handle(H5Tcopy(type()), closing: H5Tclose) }
        var dataset = try create(path, shape: shape, type: storedType)
        let width = dataset.record.rowElements
        var result: Result<Void, CheckpointError> = .success(())
        values.withUnsafeBytes { bytes in
            do throws(CheckpointError) {
                for rows in dataset.blocks {
                    let offset = rows.lowerBound * width * MemoryLayout<Element>.stride
                    try write(rows, bytes.baseAddress! + offset, to: &dataset)
                }
            } catch { result = .failure(error) }
        }
        try result.get()
        try close(dataset)
    }
}
