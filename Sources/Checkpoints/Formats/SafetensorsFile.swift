import Files
import JSON

/// One `.safetensors` file, mapped into memory. Opening reads and checks the header: every tensor lies inside the file,
/// the tensors fill the data section without gap or overlap, so that a file cut short is found at once.
public final class SafetensorsFile {
    public let path: String
    /// The tensors under the names of the file, in the order of their data. Types other than f64, f32, f16 and bf16
    /// (`i64`, `bool`, `f8_e4m3`, whatever comes later) are listed but cannot be read.
    public let tensors: [TensorInfo]
    /// The free texts of the header's `__metadata__`.
    public let metadata: [String: String]

    private let file: MappedFile
    private let stored: [String: StoredTensor]
    private static let maximumHeader = 100_000_000
    /// Bits of an element of the other types that are known.
    private static let otherTypes = [
        "I64": 64, "U64": 64, "I32": 32, "U32": 32, "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "C64": 64,
        "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6,
        "F4": 4,
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
        _ tensor: String, _ value: JSONValue, path: String
    ) throws(CheckpointError) -> (info: TensorInfo, type: StoredType?, begin: Int) {
        func problem(_ found: String, _ expected: String) -> CheckpointError {
            .invalid(path: path, place: "header, tensor \(tensor)", found: found, expected: expected)
        }
        guard let dtype = value["dtype"]?.stringValue else { throw problem("no dtype", "a dtype") }
        guard let shape = value["shape"]?.arrayValue?.compactMap(\.intValue),
            shape.count == value["shape"]?.arrayValue?.count, shape.allSatisfy({ $0 >= 0 })
        else { throw problem("shape \(value["shape"]?.text() ?? "missing")", "an array of extents") }
        guard let offsets = value["data_offsets"]?.arrayValue?.map(\.intValue), offsets.count == 2,
            let begin = offsets[0], let end = offsets[1], 0 <= begin, begin <= end
        else { throw problem("no data_offsets", "[begin, end]") }
        let type = ["F64", "F32", "F16", "BF16"].contains(dtype) ? StoredType(rawValue: dtype.lowercased()) : nil
        var elements = 1
        for extent in shape {
            let (product, overflow) = elements.multipliedReportingOverflow(by: max(1, extent))
            guard !overflow else { throw problem("shape \(shape)", "a tensor that fits into memory") }
            elements = product
        }
        if shape.contains(0) { elements = 0 }
        // Of a type that came later nothing is known but the bytes that it takes.
        if let bits = type.map({ 8 * $0.blockBytes }) ?? otherTypes[dtype] {
            let (count, overflow) = elements.multipliedReportingOverflow(by: bits)
            guard !overflow else { throw problem("shape \(shape)", "a tensor that fits into memory") }
            guard count / 8 == end - begin, count % 8 == 0 else {
                throw problem("\(end - begin) bytes", "\((count + 7) / 8) bytes for shape \(shape) of \(dtype)")
            }
        } else if elements / 8 > end - begin {
            throw problem("\(end - begin) bytes", "at least a bit for each element of shape \(shape)")
        }
        let name = type?.rawValue ?? dtype.lowercased()
        let info = TensorInfo(
            name: tensor, shape: shape, storedType: name, storedBytes: end - begin,
            obstacle: type == nil ? StoredType.obstacle(name) : nil)
        return (info, type, begin)
    }
}
