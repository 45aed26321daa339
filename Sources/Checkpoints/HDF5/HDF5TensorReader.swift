import CHDF5
import Tensors

/// One open floating-point dataset. Callers hold the library's lock.
final class HDF5TensorReader {
    let name: String
    private let dataset: HDF5Handle
    private let shape: [Int]
    private let type: ElementType
    private let memoryType: HDF5Handle
    private let space: HDF5Handle
    /// Rows that are read at once when elements are widened on the way: whole chunks, about four mebibytes.
    private let blockRows: Int
    private let chunks: HDF5RowChunks?

    init(name: String, dataset: HDF5Handle?, shape: [Int], type: ElementType) throws {
        guard let dataset else { throw HDF5Failure(reason: "the dataset is gone") }
        self.name = name
        self.dataset = dataset
        self.shape = shape
        self.type = type
        memoryType = try type.makeHDF5Type()
        space = try HDF5Handle(H5Dget_space(dataset.id), closing: H5Sclose)
        let rowBytes = max(1, shape.dropFirst().reduce(type.bytes, *))
        let chunk = try dataset.chunk(rank: shape.count)
        let rows = chunk?[0] ?? 1
        blockRows = rows * max(1, (4 << 20) / max(1, rows * rowBytes))
        try dataset.requireComplete(shape: shape)
        let stored = memoryType
        chunks = try chunk.flatMap { try HDF5RowChunks(of: dataset, shape: shape, chunk: $0, memoryType: stored) }
    }

    /// Reads rows (`nil`: everything) in single precision.
    func read(rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>) throws {
        let rowCount = shape.first ?? 1
        let rows = rows ?? 0..<rowCount
        let width = shape.dropFirst().reduce(1, *)
        precondition(
            rows.lowerBound >= 0 && rows.upperBound <= rowCount && destination.count == rows.count * width,
            "\(name): rows \(rows) of \(shape) do not fill \(destination.count) elements")
        guard let start = destination.baseAddress, !destination.isEmpty else { return }
        if type == .f32 { return try readStored(rows, into: start) }
        let capacity = min(rows.count, blockRows) * width
        let block = UnsafeMutableRawPointer.allocate(byteCount: capacity * type.bytes, alignment: 64)
        defer { block.deallocate() }
        for first in stride(from: rows.lowerBound, to: rows.upperBound, by: blockRows) {
            let part = first..<min(rows.upperBound, first + blockRows)
            try readStored(part, into: block)
            type.decode(block, into: start + (first - rows.lowerBound) * width, count: part.count * width)
        }
    }

    /// Reads rows as they are stored, but little-endian.
    func readStored(_ rows: Range<Int>, into memory: UnsafeMutableRawPointer) throws {
        if let chunks { return try chunks.read(rows, into: memory) }
        let memorySpace = try space.select(rows: rows, of: shape)
        try HDF5Library.check(H5Dread(dataset.id, memoryType.id, memorySpace.id, space.id, 0, memory))
    }
}
