import CHDF5
import Files
import Glibc

/// An HDF5 file under construction: written under a temporary name, remembered as hashes, read back, then renamed.
final class HDF5Output {
    let path: String
    private let output: AtomicFile
    private var file: HDF5Handle?
    private var groups: [[String]: HDF5Handle] = [:]
    private var written: [WrittenDataset] = []
    private var attributes: [WrittenAttribute] = []

    /// About what one chunk should take: large enough for the disk, small enough to verify a few rows quickly.
    static let chunkBytes = 1 << 20

    struct WrittenDataset {
        let path: [String]
        let shape: [Int]
        let type: HDF5Handle
        let elementBytes: Int
        /// Rows per write, and per read when it is checked: the hash depends on where the blocks end.
        let blockRows: Int
        var hash = StoredHash()

        var rows: Int { shape.first ?? 1 }
        var rowElements: Int { shape.dropFirst().reduce(1, *) }
    }

    private struct WrittenAttribute {
        let path: [String]
        let name: String
        let value: HDF5Attribute
    }

    init(path: String) throws(CheckpointError) {
        self.path = path
        output = try AtomicFile(path, needsFile: true)
        let temporaryPath = output.temporaryPath
        file = try HDF5Failure.translated({ .cannotWrite(path: path, reason: $0) }) {
            let access = try HDF5Handle(H5Pcreate(chdf5_file_access_class()), closing: H5Pclose)
            try HDF5Library.check(H5Pset_fclose_degree(access.id, H5F_CLOSE_STRONG))
            // Nobody else knows the temporary file. A process started meanwhile inherits the open file, and its lock would
            // keep this process from reading the file back.
            try HDF5Library.check(chdf5_do_not_lock(access.id))
            // From this format on the library guards its own structures with checksums too.
            try HDF5Library.check(H5Pset_libver_bounds(access.id, H5F_LIBVER_V110, H5F_LIBVER_V110))
            let creation = try HDF5Handle(H5Pcreate(chdf5_file_create_class()), closing: H5Pclose)
            // Equal input gives equal bytes only without time stamps.
            try HDF5Library.check(H5Pset_obj_track_times(creation.id, false))
            return try HDF5Handle(
                H5Fcreate(temporaryPath, chdf5_truncate(), creation.id, access.id), closing: H5Fclose)
        }
        // Another program would keep the disk's space taken after the file is given up.
        if let file, let descriptor = Self.descriptor(of: file) { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    }

    private static func descriptor(of file: HDF5Handle) -> Int32? {
        HDF5Library.locked {
            var driver: UnsafeMutableRawPointer?
            guard H5Fget_vfd_handle(file.id, 0, &driver) >= 0, let driver else { return nil }
            return driver.load(as: Int32.self)
        }
    }

    deinit { abandon() }

    /// Runs one step; a failure of the library becomes `cannotWrite`, and whatever fails, the file is given up.
    func step<Result>(_ body: (HDF5Handle) throws -> Result) throws(CheckpointError) -> Result {
        guard let file else { throw .cannotWrite(path: path, reason: "an earlier write failed") }
        do {
            return try HDF5Failure.translated({ .cannotWrite(path: path, reason: $0) }) { try body(file) }
        } catch {
            abandon()
            throw error
        }
    }

    /// Sets an attribute of the root, or of a group or dataset that is in the file already.
    func setAttribute(_ name: String, _ value: HDF5Attribute, of path: [String] = []) throws(CheckpointError) {
        try step { file in
            guard !path.isEmpty else { return try file.setAttribute(name, value) }
            let object = try HDF5Handle(H5Oopen(file.id, path.joined(separator: "/"), 0), closing: H5Oclose)
            try object.setAttribute(name, value)
        }
        attributes.append(WrittenAttribute(path: path, name: name, value: value))
    }

    /// The group of a path, made with all that it is in.
    private func group(_ path: [String]) throws -> HDF5Handle {
        guard let file else { throw HDF5Failure(reason: "an earlier write failed") }
        guard let name = path.last else { return file }
        if let group = groups[path] { return group }
        let parent = try group(Array(path.dropLast()))
        let creation = try HDF5Handle(H5Pcreate(chdf5_group_create_class()), closing: H5Pclose)
        try HDF5Library.check(H5Pset_obj_track_times(creation.id, false))
        let group = try HDF5Handle(H5Gcreate2(parent.id, name, 0, creation.id, 0), closing: H5Gclose)
        groups[path] = group
        return group
    }

    func makeGroup(_ path: [String]) throws(CheckpointError) { _ = try step { _ in try group(path) } }

    /// Creates a dataset; `type` is both how it is stored and how it is handed over.
    func create(
        _ path: [String], shape: [Int], type: HDF5Handle, deflate: Int? = nil
    ) throws(CheckpointError) -> OpenDataset {
        try step { _ in
            let elementBytes = Int(H5Tget_size(type.id))
            let creation = try HDF5Handle(H5Pcreate(chdf5_dataset_create_class()), closing: H5Pclose)
            let access = try HDF5Handle(H5Pcreate(chdf5_dataset_access_class()), closing: H5Pclose)
            try HDF5Library.check(H5Pset_obj_track_times(creation.id, false))
            try HDF5Library.check(H5Pset_fill_time(creation.id, H5D_FILL_TIME_NEVER))
            var blockRows = 1
            if !shape.isEmpty && !shape.contains(0) {
                let chunk = Self.chunk(for: shape, elementBytes: elementBytes)
                try HDF5Library.check(H5Pset_chunk(creation.id, Int32(shape.count), chunk.map { hsize_t($0) }))
                if let deflate {
                    try HDF5Library.check(H5Pset_shuffle(creation.id))
                    try HDF5Library.check(H5Pset_deflate(creation.id, UInt32(deflate)))
                }
                try HDF5Library.check(H5Pset_fletcher32(creation.id))
                let rowBytes = shape.dropFirst().reduce(elementBytes, *)
                blockRows = min(shape[0], chunk[0] * max(1, 4 * Self.chunkBytes / max(1, chunk[0] * rowBytes)))
                // Room for the chunks of one row of chunks, so that each is finished in memory.
                let cache = 2 * max(Self.chunkBytes, chunk[0] * rowBytes)
                try HDF5Library.check(H5Pset_chunk_cache(access.id, 521, min(cache, 1 << 28), 1))
            }
            let space =
                shape.isEmpty
                ? try HDF5Handle(H5Screate(H5S_SCALAR), closing: H5Sclose)
                : try HDF5Handle(
                    H5Screate_simple(Int32(shape.count), shape.map { hsize_t($0) }, nil), closing: H5Sclose)
            let parent = try group(Array(path.dropLast()))
            let dataset = try HDF5Handle(
                H5Dcreate2(parent.id, path.last!, type.id, space.id, 0, creation.id, access.id), closing: H5Dclose)
            let record = WrittenDataset(
                path: path, shape: shape, type: type, elementBytes: elementBytes, blockRows: blockRows)
            return OpenDataset(handle: dataset, space: space, record: record)
        }
    }

    struct OpenDataset {
        let handle: HDF5Handle
        let space: HDF5Handle
        var record: WrittenDataset

        /// The rows of each write.
        var blocks: [Range<Int>] {
            guard !record.shape.contains(0) else { return [] }
            return stride(from: 0, to: record.rows, by: record.blockRows).map {
                $0..<min(record.rows, $0 + record.blockRows)
            }
        }
    }

    /// Writes the rows of one of the dataset's blocks; the blocks come in their order.
    func write(
        _ rows: Range<Int>, _ elements: UnsafeRawPointer, to dataset: inout OpenDataset
    ) throws(CheckpointError) {
        let record = dataset.record
        dataset.record.hash.add(elements, bytes: rows.count * record.rowElements * record.elementBytes)
        let (id, space) = (dataset.handle.id, dataset.space)
        try step { _ in
            let memorySpace = try space.select(rows: rows, of: record.shape)
            try HDF5Library.check(H5Dwrite(id, record.type.id, memorySpace.id, space.id, 0, elements))
        }
    }

    func close(_ dataset: OpenDataset) throws(CheckpointError) {
        try step { _ in try dataset.handle.close() }
        written.append(dataset.record)
    }

    /// Closes the file, reads everything back, and gives it its name if all is as it was written.
    func finish() throws(CheckpointError) {
        try step { file in
            for group in groups.values { try group.close() }
            groups = [:]
            try HDF5Library.check(H5Fflush(file.id, H5F_SCOPE_GLOBAL))
            try file.close()
        }
        try step { _ in
            let copy = try HDF5Group.openFile(output.temporaryPath)
            for attribute in attributes { try verify(attribute, in: copy) }
            for dataset in written { try verify(dataset, in: copy) }
        }
        file = nil
        try output.commit()
    }

    private func verify(_ attribute: WrittenAttribute, in file: HDF5Group) throws {
        let object = attribute.path.isEmpty ? file.handle : try file.open(attribute.path)
        guard try object?.attribute(attribute.name) == attribute.value else {
            let place = "/" + attribute.path.joined(separator: "/")
            throw HDF5Failure(reason: "the attribute \(attribute.name) of \(place) reads back differently")
        }
    }

    private func verify(_ record: WrittenDataset, in file: HDF5Group) throws {
        let place = "/" + record.path.joined(separator: "/")
        guard let dataset = try file.open(record.path), try dataset.describeDataset().shape == record.shape else {
            throw HDF5Failure(reason: "\(place) is not in the file as it was written")
        }
        let open = OpenDataset(
            handle: dataset, space: try HDF5Handle(H5Dget_space(dataset.id), closing: H5Sclose), record: record)
        var hash = StoredHash()
        let capacity = record.blockRows * record.rowElements * record.elementBytes
        let block = UnsafeMutableRawPointer.allocate(byteCount: max(64, capacity), alignment: 64)
        defer { block.deallocate() }
        for rows in open.blocks {
            let memorySpace = try open.space.select(rows: rows, of: record.shape)
            try HDF5Library.check(H5Dread(dataset.id, record.type.id, memorySpace.id, open.space.id, 0, block))
            hash.add(block, bytes: rows.count * record.rowElements * record.elementBytes)
        }
        guard hash == record.hash else { throw HDF5Failure(reason: "\(place) reads back differently") }
    }

    /// Gives the file up; nothing of it remains.
    func abandon() {
        HDF5Library.locked {
            guard let file else { return }
            self.file = nil
            let canClose = redirect(file)
            groups = [:]
            if canClose { file.close(ignoringFailure: ()) }
            // After a failed attempt to close, another one would crash.
            file.leak()
        }
        output.discard()
    }

    /// The library would go on writing what it still holds, and crash over a file that it cannot complete. It gets
    /// memory in place of the disk, so that it can close in peace. Returns whether it can.
    private func redirect(_ file: HDF5Handle) -> Bool {
        guard let descriptor = Self.descriptor(of: file) else { return false }
        var limit = rlimit()
        let isLimited = getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0 && limit.rlim_cur != .max
        let memory = isLimited ? -1 : chdf5_memory_file()
        if memory >= 0 {
            defer { Glibc.close(memory) }
            return dup2(memory, descriptor) >= 0
        }
        // A limit on the sizes of files holds for files in memory too. The file then stays open on a device that takes
        // everything; the library knows it by its inode, which must not come back for another file.
        ftruncate(dup(descriptor), 0)
        let sink = open("/dev/null", O_RDWR | O_CLOEXEC)
        if sink >= 0 {
            dup2(sink, descriptor)
            Glibc.close(sink)
        }
        return false
    }

    /// Extents of a chunk: whole rows up to about a mebibyte, all chunks of about the same number of rows.
    static func chunk(for shape: [Int], elementBytes: Int) -> [Int] {
        var chunk = shape
        var room = max(1, chunkBytes / elementBytes)
        for dimension in shape.indices.reversed() {
            let parts = (shape[dimension] + room - 1) / room
            chunk[dimension] = (shape[dimension] + parts - 1) / parts
            room = max(1, room / chunk[dimension])
        }
        return chunk
    }
}

/// A hash of stored bytes, for telling what was read back from what was written. It depends on how the bytes are cut.
struct StoredHash: Equatable {
    private var state: UInt64 = 0x243F_6A88_85A3_08D3

    mutating func add(_ memory: UnsafeRawPointer, bytes: Int) {
        var state = state
        let words = bytes / 8
        for word in 0..<words {
            state = (state ^ memory.loadUnaligned(fromByteOffset: word * 8, as: UInt64.self)) &* 0x9E37_79B9_7F4A_7C15
            state ^= state >> 29
        }
        for byte in (words * 8)..<bytes {
            state = (state ^ UInt64(memory.load(fromByteOffset: byte, as: UInt8.self))) &* 0x9E37_79B9_7F4A_7C15
            state ^= state >> 29
        }
        self.state = state
    }
}
