import Checkpoints
import Files

/// Token ids as a file holds them.
public struct TokenIDs: Sendable, Equatable {
    /// All ids, row after row.
    public var ids: [UInt32]
    /// The columns of a two-dimensional array, of which each row is a sequence; `nil`: one running text.
    public var rowLength: Int?

    /// - Precondition: `rowLength`, if given, is positive and divides the number of ids.
    public init(ids: [UInt32], rowLength: Int? = nil) {
        if let rowLength {
            precondition(
                rowLength > 0 && ids.count % rowLength == 0, "\(ids.count) ids are no rows of \(rowLength)")
        }
        self.ids = ids
        self.rowLength = rowLength
    }
}

/// Reads and writes files of token ids. The suffix says the format:
///
/// | suffix | content |
/// |---|---|
/// | `.u16`, `.u32` | unsigned integers, little-endian, nothing else |
/// | `.npy` | a NumPy array of integers of one or two dimensions |
/// | `.h5`, `.hdf5` | an HDF5 dataset, named after a colon: `corpus.h5:/train/tokens` |
///
/// Ids are 0 to 2³² − 1.
public enum TokenFile {
    static let understood = ".u16, .u32, .npy, FILE.h5:/path/to/dataset"

    enum Format {
        case raw(bytes: Int)
        case numpy
        case hdf5(dataset: String?)
    }

    /// Reads a token file.
    ///
    /// - Parameter specification: a path, for HDF5 followed by a colon and the path of a dataset (without: `/tokens`).
    /// - Throws: `CheckpointError`: `.missing` if there is no such file, `.unreadable` if it is empty, cut short, or of
    ///   no known suffix, `.invalid` naming the position of a number that is no id, or an array of other elements.
    public static func read(_ specification: String) throws -> TokenIDs {
        let (path, format) = try resolve(specification)
        let result: TokenIDs
        switch format {
        case .raw(let bytes): result = try readRaw(path, bytes: bytes)
        case .numpy: result = try NumpyTokens.read(path)
        case .hdf5(let dataset): result = try readHDF5(path, dataset: dataset ?? "/tokens")
        }
        guard !result.ids.isEmpty else { throw holdsNothing(path) }
        return result
    }

    static func holdsNothing(_ path: String) -> CheckpointError {
        .unreadable(path: path, reason: "it holds no tokens")
    }

    /// Writes a token file in the format of the suffix. It appears under its name only when it is complete.
    ///
    /// An `.npy` file gets the type uint16 if all ids fit – half the size; NumPy and `read` take either – and uint32
    /// otherwise. `.u16` and `.u32` have no place for rows: they hold one running text. HDF5 holds uint32.
    ///
    /// - Throws: `CheckpointError`: `.cannotWrite`, or `.invalid` naming the first id that does not fit `.u16`.
    public static func write(_ tokens: TokenIDs, to specification: String) throws {
        let (path, format) = try resolve(specification)
        let shape = tokens.rowLength.map { [tokens.ids.count / $0, $0] } ?? [tokens.ids.count]
        switch format {
        case .raw(let bytes):
            let file = try AtomicFile(path)
            if bytes == 2 {
                let narrow = try narrowed(tokens.ids, path)
                try narrow.withUnsafeBytes { try file.write($0) }
            } else {
                try tokens.ids.withUnsafeBytes { try file.write($0) }
            }
            try file.commit()
        case .numpy:
            let fits = tokens.ids.allSatisfy { $0 <= UInt16.max }
            let writer = try NumpyWriter(path: path, shape: shape, type: fits ? .uint16 : .uint32)
            if fits {
                try writer.write(tokens.ids.map { UInt16(truncatingIfNeeded: $0) })
            } else {
                try writer.write(tokens.ids)
            }
            try writer.finish()
        case .hdf5(let dataset):
            try HDF5Dataset.writeIntegers(path: path, dataset: dataset ?? "/tokens", shape: shape, values: tokens.ids)
        }
    }

    /// Throws `CheckpointError` if a token file cannot be written as this specification says: for a name of no known format,
    /// and for an HDF5 file that holds other datasets as well, which would be gone.
    public static func requireWritable(_ specification: String) throws(CheckpointError) {
        let (path, format) = try resolve(specification)
        guard case .hdf5(let dataset) = format else { return }
        try HDF5Dataset.requireNoOthers(path: path, dataset: dataset ?? "/tokens")
    }

    /// The file that a specification means, without the name of a dataset in it.
    public static func path(of specification: String) -> String {
        do { return try resolve(specification).path } catch { return specification }
    }

    /// The path and the format that a specification means.
    static func resolve(_ specification: String) throws(CheckpointError) -> (path: String, format: Format) {
        let text = specification.utf8
        func endsIn(_ part: Substring.UTF8View, _ suffix: String) -> Bool {
            part.count > suffix.utf8.count && part.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
        }
        let whole = text[text.startIndex...]
        if endsIn(whole, ".u16") { return (specification, .raw(bytes: 2)) }
        if endsIn(whole, ".u32") { return (specification, .raw(bytes: 4)) }
        if endsIn(whole, ".npy") { return (specification, .numpy) }
        for suffix in [".h5", ".hdf5"] {
            if endsIn(whole, suffix) { return (specification, .hdf5(dataset: nil)) }
            // A colon may also be part of a folder's name: the dataset follows the last one after a suffix.
            var rest = whole
            while let colon = rest.lastIndex(of: UInt8(ascii: ":")) {
                if endsIn(whole[..<colon], suffix) {
                    let dataset = String(Substring(whole[whole.index(after: colon)...]))
                    guard dataset.utf8.contains(where: { $0 != UInt8(ascii: "/") }) else {
                        throw .unreadable(
                            path: specification, reason: "the colon is followed by no dataset, expected FILE.h5:/tokens"
                        )
                    }
                    return (String(Substring(whole[..<colon])), .hdf5(dataset: dataset))
                }
                rest = rest[..<colon]
            }
        }
        throw .unreadable(path: specification, reason: "not the name of a token file; understood are \(understood)")
    }

    /// The bytes of a file that must not be empty.
    static func mapped(_ path: String) throws(CheckpointError) -> MappedFile {
        let file = try MappedFile(path)
        guard !file.bytes.isEmpty else { throw .unreadable(path: path, reason: "the file is empty") }
        return file
    }

    // MARK: - Raw numbers

    /// The bytes of a file of whole numbers of `size` bytes.
    static func mappedRaw(_ path: String, bytes size: Int) throws(CheckpointError) -> MappedFile {
        let file = try mapped(path)
        guard file.bytes.count % size == 0 else {
            throw .invalid(
                path: path, place: "length", found: "\(file.bytes.count) bytes",
                expected: "a multiple of \(size): little-endian numbers of \(size * 8) bits")
        }
        return file
    }

    private static func readRaw(_ path: String, bytes size: Int) throws(CheckpointError) -> TokenIDs {
        let file = try mappedRaw(path, bytes: size)
        return TokenIDs(
            ids: size == 2
                ? integers(file.bytes, UInt16.self) { UInt32($0) } : integers(file.bytes, UInt32.self) { $0 })
    }

    /// All little-endian integers of a stretch of bytes, converted.
    static func integers<Stored: FixedWidthInteger>(
        _ bytes: UnsafeRawBufferPointer, _: Stored.Type, _ convert: (Stored) -> UInt32
    ) -> [UInt32] {
        let size = MemoryLayout<Stored>.size
        return [UInt32](unsafeUninitializedCapacity: bytes.count / size) { result, count in
            count = bytes.count / size
            for index in 0..<count {
                let stored = Stored(littleEndian: bytes.loadUnaligned(fromByteOffset: index * size, as: Stored.self))
                result[index] = convert(stored)
            }
        }
    }

    private static func narrowed(_ ids: [UInt32], _ path: String) throws(CheckpointError) -> [UInt16] {
        if let index = ids.firstIndex(where: { $0 > UInt16.max }) {
            throw .invalid(
                path: path, place: "token \(index)", found: "the id \(ids[index])",
                expected: "at most \(UInt16.max) in a .u16 file; write .u32 or .npy")
        }
        return ids.map { UInt16(truncatingIfNeeded: $0) }
    }

    // MARK: - HDF5

    private static func readHDF5(_ path: String, dataset: String) throws -> TokenIDs {
        let (shape, values) = try HDF5Dataset.readIntegers(path: path, dataset: dataset)
        if let index = values.firstIndex(where: { $0 < 0 || $0 > UInt32.max }) {
            throw notAnID("\(values[index])", at: index, shape: shape, path: "\(path):\(dataset)")
        }
        let ids = values.map { UInt32(truncatingIfNeeded: $0) }
        return TokenIDs(ids: ids, rowLength: shape.count == 2 && shape[1] > 0 ? shape[1] : nil)
    }

    /// The error for a number that is no id, at a place of the array in row-major order.
    static func notAnID(_ found: String, at index: Int, shape: [Int], path: String) -> CheckpointError {
        let place =
            shape.count == 2 ? "element [\(index / shape[1]), \(index % shape[1])]" : "element \(index)"
        return .invalid(path: path, place: place, found: found, expected: "a token id, 0 to \(UInt32.max)")
    }
}
