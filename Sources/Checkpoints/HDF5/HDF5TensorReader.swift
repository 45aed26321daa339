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
        let chunk = try Self.chunk(of: dataset, rank: shape.count)
        let rows = chunk?[0] ?? 1
        blockRows = rows * max(1, (4 << 20) / max(1, rows * rowBytes))
        try Self.requireComplete(dataset, shape: shape)
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

    private static func chunk(of dataset: HDF5Handle, rank: Int) throws -> [Int]? {
        let properties = try HDF5Handle(H5Dget_create_plist(dataset.id), closing: H5Pclose)
        guard rank > 0, H5Pget_layout(properties.id) == H5D_CHUNKED else { return nil }
        var extents = [hsize_t](repeating: 0, count: rank)
        try HDF5Library.check(H5Pget_chunk(properties.id, Int32(rank), &extents))
        return extents.map { Int(clamping: $0) }
    }

    /// Throws if a part of a dataset was never written: the library would answer zeros there.
    static func requireComplete(_ dataset: HDF5Handle, shape: [Int]) throws {
        guard !shape.contains(0) else { return }
        var status = H5D_SPACE_STATUS_ERROR
        try HDF5Library.check(H5Dget_space_status(dataset.id, &status))
        guard status != H5D_SPACE_STATUS_NOT_ALLOCATED else { throw HDF5Failure(reason: "nothing was ever written") }
        // The status compares bytes, which says nothing about chunks that are compressed or stick out.
        guard let chunk = try chunk(of: dataset, rank: shape.count) else { return }
        let space = try HDF5Handle(H5Dget_space(dataset.id), closing: H5Sclose)
        var written: hsize_t = 0
        try HDF5Library.check(H5Dget_num_chunks(dataset.id, space.id, &written))
        let expected = zip(shape, chunk).reduce(1) { $0 * (($1.0 + $1.1 - 1) / max(1, $1.1)) }
        guard written == expected else {
            throw HDF5Failure(reason: "only \(written) of its \(expected) chunks were ever written")
        }
    }
}
