import CHDF5
import CKernels
import Glibc

/// The chunks of a dataset that are whole rows, little-endian and at most under a checksum, read from the file itself.
///
/// The library would read each into a buffer, check it word by word and copy it; from here a chunk goes to its place in
/// one go. Callers hold the library's lock.
final class HDF5RowChunks {
    private let dataset: HDF5Handle
    /// Keeps the descriptor below open.
    private let file: HDF5Handle
    private let descriptor: Int32
    private let rank: Int
    private let chunkRows: Int
    private let rowBytes: Int
    private let hasChecksum: Bool
    /// The chunk that was last needed in part, for those who read on from there.
    private var held: (index: Int, bytes: UnsafeMutableRawPointer)?

    private var chunkBytes: Int { chunkRows * rowBytes }

    /// `nil` if the dataset is stored in any other way: compressed, cut across its rows, big-endian, in several files, or
    /// in chunks with room to grow, whose size only a sound file can be trusted with.
    init?(of dataset: HDF5Handle, shape: [Int], chunk: [Int], memoryType: HDF5Handle) throws {
        guard shape.count > 0, (1...max(1, shape[0])).contains(chunk[0]), chunk.dropFirst() == shape.dropFirst() else {
            return nil
        }
        let stored = try HDF5Handle(H5Dget_type(dataset.id), closing: H5Tclose)
        guard try HDF5Library.check(H5Tequal(stored.id, memoryType.id)) > 0 else { return nil }
        let creation = try HDF5Handle(H5Dget_create_plist(dataset.id), closing: H5Pclose)
        switch try HDF5Library.check(H5Pget_nfilters(creation.id)) {
        case 0: hasChecksum = false
        case 1 where chdf5_filter(creation.id, 0) == H5Z_FILTER_FLETCHER32: hasChecksum = true
        default: return nil
        }
        file = try HDF5Handle(H5Iget_file_id(dataset.id), closing: H5Fclose)
        guard let descriptor = try Self.descriptor(of: file) else { return nil }
        self.descriptor = descriptor
        self.dataset = dataset
        rank = shape.count
        chunkRows = chunk[0]
        rowBytes = shape.dropFirst().reduce(H5Tget_size(memoryType.id), *)
    }

    deinit { held?.bytes.deallocate() }

    /// The open file's, if what the library calls an address is a place in it.
    private static func descriptor(of file: HDF5Handle) throws -> Int32? {
        let access = try HDF5Handle(H5Fget_access_plist(file.id), closing: H5Pclose)
        let creation = try HDF5Handle(H5Fget_create_plist(file.id), closing: H5Pclose)
        var userBlock: hsize_t = 0
        try HDF5Library.check(H5Pget_userblock(creation.id, &userBlock))
        guard chdf5_is_plain_file(access.id) > 0, userBlock == 0 else { return nil }
        var handle: UnsafeMutableRawPointer?
        try HDF5Library.check(H5Fget_vfd_handle(file.id, access.id, &handle))
        return handle?.load(as: Int32.self)
    }

    /// Reads rows as they are stored.
    func read(_ rows: Range<Int>, into memory: UnsafeMutableRawPointer) throws {
        var row = rows.lowerBound
        while row < rows.upperBound {
            let index = row / chunkRows
            let first = index * chunkRows
            let end = min(rows.upperBound, first + chunkRows)
            let destination = memory + (row - rows.lowerBound) * rowBytes
            if row == first && end == first + chunkRows {
                try readChunk(index, into: destination)
            } else {
                let chunk = try heldChunk(index)
                destination.copyMemory(from: chunk + (row - first) * rowBytes, byteCount: (end - row) * rowBytes)
            }
            row = end
        }
    }

    private func heldChunk(_ index: Int) throws -> UnsafeMutableRawPointer {
        if let held, held.index == index { return held.bytes }
        let bytes = held?.bytes ?? .allocate(byteCount: max(1, chunkBytes), alignment: 64)
        held = (-1, bytes)
        try readChunk(index, into: bytes)
        held = (index, bytes)
        return bytes
    }

    private func readChunk(_ index: Int, into memory: UnsafeMutableRawPointer) throws {
        let corner = [hsize_t(index * chunkRows)] + [hsize_t](repeating: 0, count: rank - 1)
        var (skippedFilters, address, size): (UInt32, haddr_t, hsize_t) = (0, 0, 0)
        try HDF5Library.check(H5Dget_chunk_info_by_coord(dataset.id, corner, &skippedFilters, &address, &size))
        let isChecked = hasChecksum && skippedFilters == 0
        let place = "rows from \(index * chunkRows) on"
        guard let offset = off_t(exactly: address), Int(exactly: size) == chunkBytes + (isChecked ? 4 : 0) else {
            throw HDF5Failure(reason: "\(place): found a chunk of \(size) bytes, expected \(chunkBytes)")
        }
        var checksum: UInt32 = 0
        try withUnsafeMutableBytes(of: &checksum) { trailer in
            let parts = [
                iovec(iov_base: memory, iov_len: chunkBytes),
                iovec(iov_base: trailer.baseAddress, iov_len: isChecked ? trailer.count : 0),
            ]
            try Self.read(descriptor, at: offset, parts, place: place)
        }
        guard !isChecked || ck_has_fletcher32(memory.assumingMemoryBound(to: UInt8.self), chunkBytes, checksum) else {
            throw HDF5Failure(reason: "\(place): the data do not have the checksum that is stored with them")
        }
    }

    private static func read(_ descriptor: Int32, at offset: off_t, _ parts: [iovec], place: String) throws {
        var (parts, offset) = (parts, offset)
        while let missing = parts.firstIndex(where: { $0.iov_len > 0 }) {
            let count = preadv(descriptor, Array(parts[missing...]), Int32(parts.count - missing), offset)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                let reason = count == 0 ? "the file ends before them" : String(cString: strerror(errno))
                throw HDF5Failure(reason: "\(place): \(reason)")
            }
            offset += count
            var taken = count
            for index in missing..<parts.count {
                let step = min(taken, parts[index].iov_len)
                parts[index].iov_base += step
                parts[index].iov_len -= step
                taken -= step
            }
        }
    }
}
