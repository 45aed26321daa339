import Files

/// Writes a C-ordered `.npy` file piece by piece. It appears under its name only after `finish`.
public final class NumpyWriter {
    /// The types that can be written, all little-endian.
    public enum ElementType: String, Sendable {
        case float32 = "<f4"
        case uint32 = "<u4"
        case uint16 = "<u2"

        /// Bytes per element.
        public var bytes: Int { self == .uint16 ? 2 : 4 }
    }

    /// The path given.
    public let path: String
    /// Extents of the array, slowest first.
    public let shape: [Int]
    /// How elements are stored.
    public let type: ElementType

    private let file: AtomicFile
    private var written = 0
    private let total: Int

    /// Starts the file. A shape of no extents is a single number, as in NumPy.
    ///
    /// - Throws: `CheckpointError.cannotWrite` if the folder does not take a file.
    public init(path: String, shape: [Int], type: ElementType = .float32) throws(CheckpointError) {
        precondition(shape.allSatisfy { $0 >= 0 }, "an array's extents are not negative: \(shape)")
        self.path = path
        self.shape = shape
        self.type = type
        total = shape.reduce(1, *)
        file = try AtomicFile(path)
        let header = NumpyHeader.bytes(elementType: type.rawValue, shape: shape)
        try file.write(header)
    }

    /// Appends elements in row-major order, any number of them at a time.
    ///
    /// - Throws: `CheckpointError.cannotWrite`.
    public func write(_ rows: UnsafeBufferPointer<Float>) throws(CheckpointError) { try append(rows, .float32) }

    /// Appends elements in row-major order, any number of them at a time.
    ///
    /// - Throws: `CheckpointError.cannotWrite`.
    public func write(_ rows: [Float]) throws(CheckpointError) {
        try rows.withUnsafeBufferPointer { rows in Result { () throws(CheckpointError) in try write(rows) } }.get()
    }

    /// Appends elements of a `.uint32` array.
    func write(_ rows: [UInt32]) throws(CheckpointError) {
        try rows.withUnsafeBufferPointer { rows in Result { () throws(CheckpointError) in try append(rows, .uint32) } }
            .get()
    }

    /// Appends elements of a `.uint16` array.
    func write(_ rows: [UInt16]) throws(CheckpointError) {
        try rows.withUnsafeBufferPointer { rows in Result { () throws(CheckpointError) in try append(rows, .uint16) } }
            .get()
    }

    private func append<Element>(
        _ rows: UnsafeBufferPointer<Element>, _ given: ElementType
    ) throws(CheckpointError) {
        precondition(given == type, "\(given) elements written to an array of \(type)")
        written += rows.count
        precondition(written <= total, "\(written) elements written to an array of shape \(shape)")
        try file.write(UnsafeRawBufferPointer(rows))
    }

    /// Completes the file. All elements must have been written.
    ///
    /// - Throws: `CheckpointError.cannotWrite`.
    public func finish() throws(CheckpointError) {
        precondition(written == total, "\(written) elements written to an array of shape \(shape)")
        try file.commit()
    }
}

extension AtomicFile {
    func write(_ bytes: [UInt8]) throws(CheckpointError) {
        try bytes.withUnsafeBytes { bytes in Result { () throws(CheckpointError) in try write(bytes) } }.get()
    }
}
