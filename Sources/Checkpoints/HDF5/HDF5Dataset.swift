import CHDF5
import Files

/// Integer datasets of any HDF5 file, such as token ids.
public enum HDF5Dataset {
    /// Reads a dataset of one or two dimensions and integers of any width.
    ///
    /// Throws `missing` or `unreadable` for the file, and `invalid` if there is no such dataset (naming those that are
    /// there), if it has other elements or dimensions, or if a number does not fit 64 bits with a sign.
    public static func readIntegers(path: String, dataset: String) throws -> (shape: [Int], values: [Int64]) {
        let components = dataset.split(separator: "/").map(String.init)
        let place = "/" + components.joined(separator: "/")
        let file = try HDF5Group.openFile(path)
        return try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: "\(place): \($0)") }) {
            func invalid(_ found: String, _ expected: String) -> CheckpointError {
                .invalid(path: path, place: place, found: found, expected: expected)
            }
            guard let object = try file.open(components), H5Iget_type(object.id) == H5I_DATASET else {
                let present = try HDF5Directory.datasets(of: file)
                let listed = present.prefix(12).joined(separator: ", ") + (present.count > 12 ? ", …" : "")
                throw invalid(
                    "no such dataset", present.isEmpty ? "a dataset, but the file has none" : "one of \(listed)")
            }
            let (type, shape) = try object.describeDataset()
            guard case .integer(let bits, let isSigned) = type else { throw invalid(type.description, "integers") }
            guard (1...2).contains(shape.count) else {
                throw invalid("\(shape.count) dimensions", "1 (tokens) or 2 (sequences of tokens)")
            }
            var values = [Int64](repeating: 0, count: shape.reduce(1, *))
            guard !values.isEmpty else { return (shape, values) }
            try object.requireComplete(shape: shape)
            if isSigned || bits < 64 {
                try HDF5Library.check(H5Dread(object.id, chdf5_native_int64(), 0, 0, 0, &values))
            } else {
                // The library would silently cut larger numbers down.
                try HDF5Library.check(H5Dread(object.id, chdf5_native_uint64(), 0, 0, 0, &values))
                if let index = values.firstIndex(where: { $0 < 0 }) {
                    throw invalid("\(UInt64(bitPattern: values[index])) at \(index)", "at most \(Int64.max)")
                }
            }
            return (shape, values)
        }
    }

    /// Throws `cannotWrite` if there is a file that holds other datasets as well, which would be gone with it:
    /// `writeIntegers` replaces files as a whole.
    public static func requireNoOthers(path: String, dataset: String) throws(CheckpointError) {
        let place = "/" + dataset.split(separator: "/").joined(separator: "/")
        let others: [String]
        do {
            let file = try HDF5Group.openFile(path)
            others = try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: $0) }) {
                try HDF5Directory.datasets(of: file).filter { $0 != place }
            }
        } catch {
            // No file of HDF5's: one like any other.
            return
        }
        guard !others.isEmpty else { return }
        let listed = others.prefix(3).joined(separator: ", ") + (others.count > 3 ? ", …" : "")
        throw .cannotWrite(
            path: path,
            reason: "it holds \(listed), which would be gone, as a file is replaced as a whole; choose another name")
    }

    /// Writes a file of one dataset of 32-bit unsigned integers, checksummed. It appears under its name only after it
    /// was read back. Throws `cannotWrite`.
    ///
    /// `dataset` may name groups: `/corpus/train`. The extents' product is the number of values.
    public static func writeIntegers(path: String, dataset: String, shape: [Int], values: [UInt32]) throws {
        precondition(shape.reduce(1, *) == values.count, "\(values.count) values do not fill \(shape)")
        let components = dataset.split(separator: "/").map(String.init)
        guard !components.isEmpty else {
            throw CheckpointError.cannotWrite(path: path, reason: "\"\(dataset)\" names no dataset")
        }
        let output = try HDF5Output(path: path)
        try output.writeWhole(components, shape: shape, type: chdf5_std_u32, values)
        try output.finish()
    }
}
