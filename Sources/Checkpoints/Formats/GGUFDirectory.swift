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
    /// another.
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
        for tensor in tensors.sorted(by: { $0.offset < $1.offset }) {
            guard tensor.offset >= end else {
                throw .invalid(
                    path: reader.path, place: "tensor \(tensor.name)", found: "its data at offset \(tensor.offset)",
                    expected: "\(end) or more, where the data of \(last) ends")
            }
            let (next, overflow) = tensor.offset.addingReportingOverflow(tensor.bytes)
            guard !overflow, next <= reader.size - dataStart else {
                throw .invalid(
                    path: reader.path, place: "tensor \(tensor.name)", found: "a file of \(reader.size) bytes",
                    expected: "at least \(dataStart) + \(overflow ? "\(tensor.offset) + \(tensor.bytes)" : "\(next)")")
            }
            (end, last) = (next, tensor.name)
        }
        return tensors.map {
            GGUFTensor(name: $0.name, shape: $0.shape, type: $0.type, offset: dataStart + $0.offset, bytes: $0.bytes)
        }
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
            let (product, overflow) = count.multipliedReportingOverflow(by: extent)
            guard extent > 0, !overflow else {
                throw problem("an extent of \(extent)", "a tensor that fits into memory")
            }
            shape.insert(extent, at: 0)
            count = product
        }
        let number = try reader.read(UInt32.self, "type of \(name)")
        guard let type = types[number] else {
            let supported = StoredType.allCases.map(\.rawValue).joined(separator: ", ")
            throw problem("type \(otherTypes[number] ?? "number \(number)")", "one of \(supported)")
        }
        guard shape.last! % type.blockElements == 0, let bytes = type.bytes(elements: count) else {
            throw problem(
                "rows of \(shape.last!)", "a multiple of the \(type.blockElements) elements of a \(type.rawValue) block"
            )
        }
        let offset = try reader.readCount("offset of \(name)")
        guard offset % alignment == 0 else { throw problem("offset \(offset)", "a multiple of \(alignment)") }
        return GGUFTensor(name: name, shape: shape, type: type, offset: offset, bytes: bytes)
    }
}
