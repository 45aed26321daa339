import CHDF5
import Glibc

/// Where the elements of a dataset are: only what a program has written into this very file is data.
enum HDF5Storage {
    static let notRead = "what stands in other files is not read, expected a file that holds the elements itself"
}

extension HDF5Handle {
    /// Why the elements of a dataset are not in its file; nil if they are, or if there are none. Does not look at chunks.
    func obstacle(shape: [Int]) throws -> String? {
        let properties = try HDF5Handle(H5Dget_create_plist(id), closing: H5Pclose)
        // The extents of a virtual dataset may follow from what is there of its sources.
        if H5Pget_layout(properties.id) == H5D_VIRTUAL {
            let sources = try properties.virtualSources(besides: folder())
            return "a virtual dataset, mapped from \(sources); mapped elements are not read, expected the elements "
                + "themselves"
        }
        guard !shape.contains(0) else { return nil }
        if try HDF5Library.check(H5Pget_external_count(properties.id)) > 0 {
            let files = try properties.externalFiles(besides: folder())
            return "its elements are kept outside, in \(files); \(HDF5Storage.notRead)"
        }
        var status = H5D_SPACE_STATUS_ERROR
        try HDF5Library.check(H5Dget_space_status(id, &status))
        return status == H5D_SPACE_STATUS_NOT_ALLOCATED ? "nothing was ever written" : nil
    }

    /// Throws unless all elements of a dataset were written into its file: the library would answer zeros, or the fill
    /// value, for the others.
    func requireComplete(shape: [Int]) throws {
        if let obstacle = try obstacle(shape: shape) { throw HDF5Failure(reason: obstacle) }
        // The status compares bytes, which says nothing about chunks that are compressed or stick out.
        guard !shape.contains(0), let chunk = try chunk(rank: shape.count) else { return }
        let space = try HDF5Handle(H5Dget_space(id), closing: H5Sclose)
        var written: hsize_t = 0
        try HDF5Library.check(H5Dget_num_chunks(id, space.id, &written))
        let expected = zip(shape, chunk).reduce(1) { $0 * (($1.0 + $1.1 - 1) / max(1, $1.1)) }
        guard written == expected else {
            throw HDF5Failure(reason: "only \(written) of its \(expected) chunks were ever written")
        }
    }

    /// Extents of a chunk; nil for a dataset that is not stored in chunks.
    func chunk(rank: Int) throws -> [Int]? {
        let properties = try HDF5Handle(H5Dget_create_plist(id), closing: H5Pclose)
        guard rank > 0, H5Pget_layout(properties.id) == H5D_CHUNKED else { return nil }
        var extents = [hsize_t](repeating: 0, count: rank)
        try HDF5Library.check(H5Pget_chunk(properties.id, Int32(rank), &extents))
        return extents.map { Int(clamping: $0) }
    }

    /// The folder of the file that an object is in, with a slash at its end; empty for the current one.
    private func folder() throws -> String {
        let path = try Self.text { buffer, size in H5Fget_name(id, buffer, size) }
        return path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
    }

    // MARK: - Property lists

    private func virtualSources(besides folder: String) throws -> String {
        var count = 0
        try HDF5Library.check(H5Pget_virtual_count(id, &count))
        return try Self.listed(count, besides: folder) { index in
            let file = try Self.text { buffer, size in H5Pget_virtual_filename(id, index, buffer, size) }
            let dataset = try Self.text { buffer, size in H5Pget_virtual_dsetname(id, index, buffer, size) }
            return file == "." ? ("\(dataset) of this file", nil) : ("\(dataset) in \(file)", file)
        }
    }

    private func externalFiles(besides folder: String) throws -> String {
        let count = try HDF5Library.check(H5Pget_external_count(id))
        return try Self.listed(Int(count), besides: folder) { index in
            var name = [CChar](repeating: 0, count: 1024)
            var (offset, size): (off_t, hsize_t) = (0, 0)
            try HDF5Library.check(H5Pget_external(id, UInt32(index), name.count - 1, &name, &offset, &size))
            let file = String(characters: name)
            return (file, file)
        }
    }

    /// The first few sources, and whether their files are there.
    private static func listed(
        _ count: Int, besides folder: String, _ source: (Int) throws -> (words: String, file: String?)
    ) throws -> String {
        let shown = 3
        var parts: [String] = []
        for index in 0..<min(count, shown) {
            let (words, file) = try source(index)
            let isThere = file.map { access($0.hasPrefix("/") ? $0 : folder + $0, F_OK) == 0 } ?? true
            // A name with a % stands for many files.
            let isKnown = isThere || file?.contains("%") == true
            parts.append(isKnown ? words : words + " (no such file)")
        }
        if count > shown { parts.append("\(count - shown) more") }
        return parts.isEmpty ? "nothing" : parts.joined(separator: ", ")
    }

    /// A name that the library writes into a buffer of the size that it asked for.
    private static func text(_ read: (UnsafeMutablePointer<CChar>?, Int) -> Int) throws -> String {
        let size = try HDF5Library.check(read(nil, 0))
        var characters = [CChar](repeating: 0, count: size + 1)
        try HDF5Library.check(read(&characters, characters.count))
        return String(characters: characters)
    }
}

extension String {
    /// The characters up to the zero at their end.
    init(characters: [CChar]) {
        self.init(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
