/// One `.safetensors` file, mapped into memory. Opening reads and checks the header: every tensor lies inside the file,
/// the tensors fill the data section without gap or overlap, so that a file cut short is found at once.
public final class SafetensorsFile {
    public let path: String
    /// The tensors under the names of the file, in the order of their data. Types that hold no real numbers (`i64`,
    /// `bool`, …) are listed but cannot be read.
    public let tensors: [TensorInfo]
    /// The free texts of the header's `__metadata__`.
    public let metadata: [String: String]

    private let file: MappedFile
    private let stored: [String: StoredTensor]
    private static let maximumHeader = 100_000_000
    private static let otherTypes = [
        "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1,
        "F8_E5M2": 1,
    ]

    /// Throws `CheckpointError` if the file is missing, cut short or not what its header says.
    public convenience init(path: String) throws(CheckpointError) {
        try self.init(MappedFile(path))
    }

    init(_ file: MappedFile) throws(CheckpointError) {
        self.file = file
        path = file.path
        var reader = ByteReader(file)
        let headerBytes = try reader.readCount("length of the header")
        guard headerBytes >= 2, headerBytes <= Self.maximumHeader else {
            throw .invalid(
                path: file.path, place: "byte 0, length of the header", found: "\(headerBytes)",
                expected: "2 to \(Self.maximumHeader)")
        }
        let text = try reader.string(count: headerBytes, "header")
        let header = try MappedFile.json(Array(text.utf8), path: file.path, place: "header")

        var metadata: [String: String] = [:]
        var entries: [(info: TensorInfo, type: StoredType?, begin: Int)] = []
        for (name, value) in header.objectValue?.members ?? [] {
            if name == "__metadata__" {
                guard let members = value.objectValue?.members else {
                    throw .invalid(path: file.path, place: "__metadata__", found: "no object", expected: "an object")
                }
                for (key, value) in members { metadata[key] = value.stringValue }
            } else {
                entries.append(try Self.entry(name, value, path: file.path))
            }
        }
        entries.sort { ($0.begin, $0.info.storedBytes) < ($1.begin, $1.info.storedBytes) }
        let dataStart = 8 + headerBytes
        var end = 0
        var stored: [String: StoredTensor] = [:]
        for (info, type, begin) in entries {
            guard begin == end else {
                throw .invalid(
                    path: file.path, place: "tensor \(info.name)", found: "its data at offset \(begin)",
                    expected: "\(end), where the data of the tensor before it ends")
            }
            let (next, overflow) = begin.addingReportingOverflow(info.storedBytes)
            guard !overflow, next <= file.bytes.count - dataStart else {
                throw .invalid(
                    path: file.path, place: "tensor \(info.name)",
                    found: "a file of \(file.bytes.count) bytes", expected: "at least \(dataStart) + \(next)")
            }
            end = next
            if let type { stored[info.name] = StoredTensor(info: info, type: type, offset: dataStart + begin) }
        }
        guard end == file.bytes.count - dataStart else {
            throw .invalid(
                path: file.path, place: "data", found: "\(file.bytes.count - dataStart) bytes",
                expected: "\(end) bytes by the header")
        }
        self.metadata = metadata
        self.stored = stored
        tensors = entries.map(\.info)
    }

    /// Reads rows of a tensor; see `TensorSource.read`.
    public func read(
        _ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>
    ) throws(CheckpointError) {
        guard let tensor = stored[name] else {
            guard let info = tensors.first(where: { $0.name == name }) else {
                throw .tensors(path: path, problems: ["\(name): missing"])
            }
            throw .invalid(
                path: path, place: "tensor \(name)", found: "elements of type \(info.storedType)",
                expected: "f64, f32, f16 or bf16")
        }
        tensor.read(from: file, rows: rows, into: destination)
    }

    private static func entry(
        _ name: String, _ value: JSONValue, path: String
    ) throws(CheckpointError) -> (info: TensorInfo, type: StoredType?, begin: Int) {
        func problem(_ found: String, _ expected: String) -> CheckpointError {
            .invalid(path: path, place: "header, tensor \(name)", found: found, expected: expected)
        }
        guard let dtype = value["dtype"]?.stringValue else { throw problem("no dtype", "a dtype") }
        guard let shape = value["shape"]?.arrayValue?.map(\.intValue), shape.allSatisfy({ ($0 ?? 0) > 0 }) else {
            throw problem("shape \(value["shape"]?.text() ?? "missing")", "an array of positive extents")
        }
        guard let offsets = value["data_offsets"]?.arrayValue?.map(\.intValue), offsets.count == 2,
            let begin = offsets[0], let end = offsets[1], 0 <= begin, begin <= end
        else { throw problem("no data_offsets", "[begin, end]") }
        let type = ["F64", "F32", "F16", "BF16"].contains(dtype) ? StoredType(rawValue: dtype.lowercased()) : nil
        guard let size = type?.blockBytes ?? otherTypes[dtype] else {
            throw problem("dtype \(dtype)", "F64, F32, F16, BF16 or an integer type")
        }
        var bytes = size
        for extent in shape {
            let (product, overflow) = bytes.multipliedReportingOverflow(by: extent ?? 0)
            guard !overflow else { throw problem("shape \(shape.map { $0 ?? 0 })", "a tensor that fits into memory") }
            bytes = product
        }
        guard bytes == end - begin else {
            throw problem("\(end - begin) bytes", "\(bytes) bytes for shape \(shape.map { $0 ?? 0 }) of \(dtype)")
        }
        let info = TensorInfo(
            name: name, shape: shape.map { $0 ?? 0 }, storedType: type?.rawValue ?? dtype.lowercased(),
            storedBytes: bytes)
        return (info, type, begin)
    }
}
