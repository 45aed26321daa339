import CHDF5
import Files

/// Writes named arrays in double precision beside texts that say what they are. The file gets its name only after all of it
/// was read back.
public final class ArrayWriter {
    private let output: HDF5Output

    /// `format` names the kind of file, `texts` are further attributes of the root. Throws `cannotWrite`.
    public init(path: String, format: String, texts: [(name: String, text: String)]) throws(CheckpointError) {
        output = try HDF5Output(path: path)
        try output.setAttribute("format", .text(format))
        try output.setAttribute("format_version", .integer(1))
        for (name, text) in texts { try output.setAttribute(name, .text(text)) }
    }

    /// Writes an array under a path of groups and a name. Throws `cannotWrite`.
    public func write(_ path: [String], _ values: [Double]) throws(CheckpointError) {
        try output.writeWhole(path, shape: [values.count], type: chdf5_ieee_f64, values)
    }

    /// Completes the file. Throws `cannotWrite`.
    public func finish() throws(CheckpointError) { try output.finish() }
}

/// Reads what `ArrayWriter` writes, an array at a time. Usable from several threads.
public final class ArrayFile: @unchecked Sendable {
    public let path: String
    private let file: HDF5Group
    private let texts: [String: String]

    /// Opens a file of the kind `format`, which has the texts of these names.
    ///
    /// Throws `missing`, `unreadable`, or `invalid` for a file of another kind or without one of the texts.
    public init(path: String, format: String, texts names: [String]) throws(CheckpointError) {
        self.path = path
        let file = try HDF5Group.openFile(path)
        self.file = file
        texts = try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: $0) }) {
            func text(_ name: String, _ expected: String) throws -> String {
                let found = try file.handle.attribute(name)
                guard case .text(let text) = found else {
                    throw CheckpointError.invalid(
                        path: path, place: "attribute \(name)", found: found?.description ?? "nothing",
                        expected: expected)
                }
                return text
            }
            let found = try text("format", format)
            let version = try file.handle.attribute("format_version")
            guard found == format, version?.intValue == 1 else {
                throw CheckpointError.invalid(
                    path: path, place: "attributes format and format_version",
                    found: "\(found), \(version?.description ?? "nothing")", expected: "\(format), 1")
            }
            return try Dictionary(uniqueKeysWithValues: names.map { ($0, try text($0, "text")) })
        }
    }

    public func text(_ name: String) -> String { texts[name] ?? "" }

    /// Reads an array of `count` numbers; nil if there is none of that path.
    ///
    /// Throws `unreadable` if it is damaged and `invalid` if it holds something else.
    public func read(_ location: [String], count: Int) throws(CheckpointError) -> [Double]? {
        let place = "/" + location.joined(separator: "/")
        return try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: "\(place): \($0)") }) {
            guard let dataset = try file.open(location) else { return nil }
            func invalid(_ found: String) -> CheckpointError {
                .invalid(path: path, place: place, found: found, expected: "\(count) numbers of f64")
            }
            guard H5Iget_type(dataset.id) == H5I_DATASET else { throw invalid("a group") }
            let (type, shape) = try dataset.describeDataset()
            guard type == .float(.f64), shape == [count] else { throw invalid("\(type.description) \(shape)") }
            let reader = try HDF5TensorReader(name: place, dataset: dataset, shape: shape, type: .f64)
            return try [Double](unsafeUninitializedCapacity: count) { buffer, initialized in
                if count > 0 { try reader.readStored(0..<count, into: UnsafeMutableRawPointer(buffer.baseAddress!)) }
                initialized = count
            }
        }
    }
}
