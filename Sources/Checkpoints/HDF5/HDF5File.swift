import CHDF5
import CSignals
import Files
import Glibc

/// An open HDF5 file or one of its groups: what can be asked of it by name. Callers hold the library's lock.
struct HDF5Group {
    let handle: HDF5Handle
    var id: hid_t { handle.id }

    /// The dataset or group under a path, or `nil` if there is none. Throws for a link that leads nowhere or into another
    /// file.
    func open(_ path: [String]) throws -> HDF5Handle? {
        switch try target(of: path) {
        case .object(let object): path.isEmpty ? nil : object
        case .nothing: nil
        case .elsewhere(let reason): throw HDF5Failure(reason: reason)
        }
    }

    func openGroup(_ path: [String]) throws -> HDF5Group? {
        guard !path.isEmpty else { return self }
        guard let object = try open(path), H5Iget_type(object.id) == H5I_GROUP else { return nil }
        return HDF5Group(handle: object)
    }

    /// Names in the group in their order.
    func links() throws -> [String] {
        final class Names { var names: [String] = [] }
        let names = Names()
        try HDF5Library.check(
            chdf5_links(
                id,
                { context, name in
                    let names = Unmanaged<Names>.fromOpaque(context!).takeUnretainedValue()
                    if let name { names.names.append(String(cString: name)) }
                    return 0
                }, Unmanaged.passUnretained(names).toOpaque()))
        return names.names
    }
}

extension HDF5Handle {
    /// Stored element type and extents of a dataset; extents are empty for a scalar, `[0]` for one without a space.
    func describeDataset() throws -> (type: HDF5StoredType, shape: [Int]) {
        let type = try HDF5Handle(H5Dget_type(id), closing: H5Tclose)
        let space = try HDF5Handle(H5Dget_space(id), closing: H5Sclose)
        return (try HDF5StoredType(typeID: type.id), try space.extents())
    }

    /// Extents of a dataspace.
    func extents() throws -> [Int] {
        if H5Sget_simple_extent_type(id) == H5S_NULL { return [0] }
        let rank = Int(try HDF5Library.check(H5Sget_simple_extent_ndims(id)))
        var extents = [hsize_t](repeating: 0, count: max(1, rank))
        try HDF5Library.check(H5Sget_simple_extent_dims(id, &extents, nil))
        var count: hsize_t = 1
        for extent in extents.prefix(rank) where extent > 0 {
            let (product, overflows) = count.multipliedReportingOverflow(by: extent)
            guard !overflows, product < 1 << 48 else {
                throw HDF5Failure(reason: "its extents \(extents.prefix(rank)) are larger than any tensor's")
            }
            count = product
        }
        return extents.prefix(rank).map { Int($0) }
    }

    /// The bytes of a text or of a plain row of bytes: a scalar string of either kind, opaque data, or 8-bit integers.
    /// `nil` if the dataset or attribute holds anything else.
    func textBytes(isAttribute: Bool) throws -> [UInt8]? {
        let type = try HDF5Handle(isAttribute ? H5Aget_type(id) : H5Dget_type(id), closing: H5Tclose)
        let space = try HDF5Handle(isAttribute ? H5Aget_space(id) : H5Dget_space(id), closing: H5Sclose)
        let extents = try space.extents()
        let count = extents.reduce(1, *)
        if !isAttribute { try requireComplete(shape: extents) }
        func read(as memoryType: hid_t, into bytes: UnsafeMutableRawPointer) throws {
            try HDF5Library.check(
                isAttribute ? H5Aread(id, memoryType, bytes) : H5Dread(id, memoryType, 0, 0, 0, bytes))
        }
        switch try HDF5StoredType(typeID: type.id) {
        case .integer(bits: 8, _) where extents.count == 1:
            var bytes = [UInt8](repeating: 0, count: max(1, count))
            if count > 0 { try read(as: type.id, into: &bytes) }
            return Array(bytes.prefix(count))
        case .bytes where count == 1:
            var bytes = [UInt8](repeating: 0, count: Int(H5Tget_size(type.id)))
            try read(as: type.id, into: &bytes)
            return bytes
        case .text where count == 1 && H5Tis_variable_str(type.id) > 0:
            let memoryType = try HDF5Handle(H5Tcopy(chdf5_c_string()), closing: H5Tclose)
            try HDF5Library.check(H5Tset_size(memoryType.id, chdf5_variable()))
            // The library does not convert between the character sets, though one contains the other.
            try HDF5Library.check(H5Tset_cset(memoryType.id, H5Tget_cset(type.id)))
            var text: UnsafeMutablePointer<CChar>?
            // Release 1.10 of the library never returns from some damaged heaps; a sound one takes milliseconds.
            csignals_begin_short_work(2)
            defer { csignals_end_short_work() }
            try read(as: memoryType.id, into: &text)
            guard let text else { return [] }
            defer { H5free_memory(text) }
            return Array(UnsafeRawBufferPointer(start: text, count: strlen(text)))
        case .text where count == 1:
            var bytes = [UInt8](repeating: 0, count: Int(H5Tget_size(type.id)))
            try read(as: type.id, into: &bytes)
            if H5Tget_strpad(type.id) == H5T_STR_SPACEPAD {
                while bytes.last == UInt8(ascii: " ") { bytes.removeLast() }
                return bytes
            }
            return Array(bytes.prefix { $0 != 0 })
        case .text where count == 0: return []
        default: return nil
        }
    }

    /// The text of an attribute, or `nil` if there is none of that name.
    func attributeText(_ name: String) throws -> String? {
        guard try HDF5Library.check(H5Aexists(id, name)) > 0 else { return nil }
        let attribute = try HDF5Handle(H5Aopen(id, name, 0), closing: H5Aclose)
        guard let bytes = try attribute.textBytes(isAttribute: true) else {
            throw HDF5Failure(reason: "attribute \(name): found no text, expected a string")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw HDF5Failure(reason: "attribute \(name): found bytes that are not UTF-8, expected a string")
        }
        return text
    }

    /// As `attributeText`, but an attribute that holds something else counts as none.
    func attributeTextIfText(_ name: String) throws -> String? {
        guard try HDF5Library.check(H5Aexists(id, name)) > 0 else { return nil }
        let attribute = try HDF5Handle(H5Aopen(id, name, 0), closing: H5Aclose)
        return try attribute.textBytes(isAttribute: true).flatMap { String(validating: $0, as: UTF8.self) }
    }

    /// The value of an attribute of one integer; `nil` if there is none such.
    func attributeInteger(_ name: String) throws -> Int64? {
        guard try HDF5Library.check(H5Aexists(id, name)) > 0 else { return nil }
        let attribute = try HDF5Handle(H5Aopen(id, name, 0), closing: H5Aclose)
        let type = try HDF5Handle(H5Aget_type(attribute.id), closing: H5Tclose)
        let space = try HDF5Handle(H5Aget_space(attribute.id), closing: H5Sclose)
        guard case .integer = try HDF5StoredType(typeID: type.id), try space.extents().reduce(1, *) == 1 else {
            return nil
        }
        var value: Int64 = 0
        try HDF5Library.check(H5Aread(attribute.id, chdf5_native_int64(), &value))
        return value
    }

    /// Selects whole rows of a dataset's space of the given extents, and makes the space of the same elements in
    /// memory. Both have the same number of dimensions: the library is slow by a factor of twenty where they differ.
    func select(rows: Range<Int>, of shape: [Int]) throws -> HDF5Handle {
        guard !shape.isEmpty else { return try HDF5Handle(H5Screate(H5S_SCALAR), closing: H5Sclose) }
        let start = [hsize_t(rows.lowerBound)] + shape.dropFirst().map { _ in 0 }
        let count = [hsize_t(rows.count)] + shape.dropFirst().map { hsize_t($0) }
        try HDF5Library.check(H5Sselect_hyperslab(id, H5S_SELECT_SET, start, nil, count, nil))
        return try HDF5Handle(H5Screate_simple(Int32(shape.count), count, nil), closing: H5Sclose)
    }
}

extension HDF5Group {
    /// Opens a file for reading. Throws `missing` or `unreadable`, with the sizes if the file was cut short.
    static func openFile(_ path: String) throws(CheckpointError) -> HDF5Group {
        var status = stat()
        guard stat(path, &status) == 0 else {
            if errno == ENOENT || errno == ENOTDIR { throw .missing(path: path) }
            throw .unreadable(path: path, reason: String(cString: strerror(errno)))
        }
        guard status.st_mode & S_IFMT != S_IFDIR else {
            throw .unreadable(path: path, reason: "it is a folder, not an HDF5 file")
        }
        guard access(path, R_OK) == 0 else {
            throw .unreadable(path: path, reason: String(cString: strerror(errno)))
        }
        let size = Int(status.st_size)
        guard size > 0 else { throw .unreadable(path: path, reason: "the file is empty (0 bytes)") }
        let superblock = Superblock(path: path, size: size)
        guard superblock.isFound else { throw .unreadable(path: path, reason: "not an HDF5 file") }
        if let expected = superblock.endOfFile, expected > size {
            throw .unreadable(path: path, reason: "the file is cut short: it has \(size) bytes of \(expected)")
        }
        func damaged(_ reason: String) -> CheckpointError {
            .unreadable(path: path, reason: "the HDF5 file cannot be opened: \(reason)")
        }
        return try HDF5Failure.translated(reading: path, damaged) {
            let access = try HDF5Handle(H5Pcreate(chdf5_file_access_class()), closing: H5Pclose)
            try HDF5Library.check(H5Pset_fclose_degree(access.id, H5F_CLOSE_STRONG))
            return HDF5Group(handle: try HDF5Handle(H5Fopen(path, chdf5_read_only(), access.id), closing: H5Fclose))
        }
    }
}

/// The first bytes of an HDF5 file, read without the library to say how long the file should be.
private struct Superblock {
    var isFound = false
    var endOfFile: Int?

    init(path: String, size: Int) {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        defer { Glibc.close(descriptor) }
        let signature: [UInt8] = [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]
        var bytes = [UInt8](repeating: 0, count: 48)
        // A block of the user's own may come first; the signature then stands at a power of two.
        var offset = 0
        while offset < size {
            let count = pread(descriptor, &bytes, bytes.count, offset)
            guard count >= signature.count else { return }
            if bytes.starts(with: signature) {
                isFound = true
                let complete = count == bytes.count
                switch bytes[8] {
                case 0 where complete && bytes[13] == 8: endOfFile = Self.integer(bytes[40..<48])
                case 2 where complete && bytes[9] == 8, 3 where complete && bytes[9] == 8:
                    endOfFile = Self.integer(bytes[28..<36])
                default: break
                }
                return
            }
            offset = offset == 0 ? 512 : offset * 2
        }
    }

    private static func integer(_ bytes: ArraySlice<UInt8>) -> Int? {
        Int(exactly: bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
    }
}
