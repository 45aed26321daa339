import Files

extension GGUFReader {
    /// Numbers of the tensor types that are read, and names of some that are not.
    private static let types: [UInt32: StoredType] = [
        0: .f32, 1: .f16, 2: .q4_0, 3: .q4_1, 6: .q5_0, 7: .q5_1, 8: .q8_0, 10: .q2_K, 11: .q3_K, 12: .q4_K, 13: .q5_K,
        14: .q6_K, 28: .f64, 30: .bf16,
    ]
    private static let otherTypes: [UInt32: String] = [
        9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
        22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0",
        39: "MXFP4",
    ]

    /// Reads the directory, which `reader` has reached, and checks that every tensor lies inside the file and none on
    /// another. A tensor of a type that is not read reaches to the next one.
    static func directory(
        _ reader: inout ByteReader, count: Int, alignment: Int
    ) throws(CheckpointError) -> [GGUFTensor] {
        var tensors: [GGUFTensor] = []
        tensors.reserveCapacity(count)
        var names: Set<String> = []
        for index in 0..<count {
            let tensor = try entry(&reader, index: index, alignment: alignment)
            guard names.insert(tensor.name).inserted else {
                throw .invalid(
                    path: reader.path, place: "directory", found: "tensor \(tensor.name) a second time",
                    expected: "each name once")
            }
            tensors.append(tensor)
        }
        let dataStart = (reader.position + alignment - 1) / alignment * alignment
        var end = 0
        var last = "the directory"
        // An empty tensor stands where the next one begins.
        let order = tensors.indices.sorted {
            (tensors[$0].offset, tensors[$0].isEmpty ? 0 : 1, $0) < (
                tensors[$1].offset, tensors[$1].isEmpty ? 0 : 1, $1
            )
        }
        for (place, index) in order.enumerated() {
            let tensor = tensors[index]
            guard tensor.offset >= end || tensor.isEmpty else {
                throw .invalid(
                    path: reader.path, place: "tensor \(tensor.name)", found: "its data at offset \(tensor.offset)",
                    expected: "\(end) or more, where the data of \(last) ends")
            }
            if tensor.type == nil, !tensor.isEmpty {
                let next = order[(place + 1)...].first { !tensors[$0].isEmpty }.map { tensors[$0].offset }
                let bytes = max(0, (next ?? reader.size - dataStart) - tensor.offset)
                guard tensor.shape.reduce(1, *) / 8 <= bytes else {
                    throw .invalid(
                        path: reader.path, place: "tensor \(tensor.name)", found: "\(bytes) bytes",
                        expected: "at least a bit for each element of \(tensor.shape)")
                }
                tensors[index].bytes = bytes
            }
            let (next, overflow) = tensor.offset.addingReportingOverflow(tensors[index].bytes)
            guard !overflow, next <= reader.size - dataStart || tensor.isEmpty else {
                throw .invalid(
                    path: reader.path, place: "tensor \(tensor.name)", found: "a file of \(reader.size) bytes",
                    expected: "at least \(dataStart) + \(overflow ? "\(tensor.offset) + \(tensor.bytes)" : "\(next)")")
            }
            guard !tensor.isEmpty else { continue }
            (end, last) = (next, tensor.name)
        }
        for index in tensors.indices { tensors[index].offset += dataStart }
        return tensors
    }

    /// One entry, with the offset as it stands: from the start of the data.
    private static func entry(
        _ reader: inout ByteReader, index: Int, alignment: Int
    ) throws(CheckpointError) -> GGUFTensor {
        let path = reader.path
        let length = try reader.readCount("length of the name of tensor \(index)")
        let name = try reader.string(count: length, "name of tensor \(index)")
        func problem(_ found: String, _ expected: String) -> CheckpointError {
            .invalid(path: path, place: "tensor \(name)", found: found, expected: expected)
        }
        let dimensions = try reader.read(UInt32.self, "dimensions of \(name)")
        guard (1...4).contains(dimensions) else { throw problem("\(dimensions) dimensions", "1 to 4") }
        var shape: [Int] = []
        var count = 1
        for _ in 0..<dimensions {
            let extent = try reader.readCount("extent of \(name)")
            let (product, overflow) = count.multipliedReportingOverflow(by: max(1, extent))
            guard !overflow else {
                throw problem("an extent of \(extent)", "a tensor that fits into memory")
            }
            shape.insert(extent, at: 0)
            count = product
        }
        let number = try reader.read(UInt32.self, "type of \(name)")
        let type = types[number]
        if shape.contains(0) { count = 0 }
        var bytes = 0
        if let type {
            guard shape.last! % type.blockElements == 0, let size = type.bytes(elements: count) else {
                throw problem(
                    "rows of \(shape.last!)",
                    "a multiple of the \(type.blockElements) elements of a \(type.rawValue) block")
            }
            bytes = size
        }
        let offset = try reader.readCount("offset of \(name)")
        guard offset % alignment == 0 else { throw problem("offset \(offset)", "a multiple of \(alignment)") }
        let typeName = type?.rawValue ?? otherTypes[number] ?? "type \(number)"
        return GGUFTensor(name: name, shape: shape, type: type, typeName: typeName, offset: offset, bytes: bytes)
    }
}
