import CKernels
import Files
import JSON

/// Writes one safetensors file tensor by tensor, holding a few megabytes at a time.
struct SafetensorsWriter {
    struct Item {
        /// Names in the source and in the file.
        let source: String
        let name: String
        let shape: [Int]

        var count: Int { shape.reduce(1, *) }
        /// Extents of a tensor with elements; one number is a row.
        var rows: Int { shape.first ?? 1 }
    }

    let type: ElementType
    let metadata: [JSONObject.Member]
    private static let chunkElements = 1 << 20

    /// Writes the tensors in the given order and gives the file its name. `progress` gets the elements of each chunk.
    ///
    /// Throws `CheckpointError` if a value is not finite, or becomes infinite in the narrower type.
    func write(
        _ items: [Item], from source: any TensorSource, to path: String, progress: (Int) -> Void
    ) throws {
        let file = try AtomicFile(path, needsFile: true)
        try header(items).withUnsafeBytes { try file.write($0) }
        let largest =
            items.map { item in max(item.count / item.rows, min(item.count, Self.chunkElements)) }.max() ?? 0
        let values = UnsafeMutableBufferPointer<Float>.allocate(capacity: largest)
        let narrow = UnsafeMutableBufferPointer<UInt16>.allocate(capacity: type == .f32 ? 0 : largest)
        defer {
            values.deallocate()
            narrow.deallocate()
        }
        for item in items {
            let width = item.count / item.rows
            let rowsAtOnce = max(1, Self.chunkElements / width)
            for start in stride(from: 0, to: item.rows, by: rowsAtOnce) {
                let rows = start..<min(item.rows, start + rowsAtOnce)
                let chunk = UnsafeMutableBufferPointer(rebasing: values[..<(rows.count * width)])
                try source.read(item.source, rows: rows, into: chunk)
                try check(chunk, item, start * width, source.path, "not a finite number")
                if type == .f32 {
                    try file.write(UnsafeRawBufferPointer(chunk))
                } else {
                    let output = UnsafeMutableBufferPointer(rebasing: narrow[..<chunk.count])
                    try self.narrow(chunk, into: output)
                    try check(chunk, item, start * width, source.path, "beyond the range of \(type.rawValue)")
                    try file.write(UnsafeRawBufferPointer(output))
                }
                progress(chunk.count)
            }
        }
        try file.commit()
    }

    /// Rounds, and puts what was rounded back in place of the values.
    private func narrow(_ values: UnsafeMutableBufferPointer<Float>, into output: UnsafeMutableBufferPointer<UInt16>)
        throws
    {
        let (input, bits) = (values.baseAddress!, output.baseAddress!)
        if type == .f16 {
            ck_f32_to_f16(input, bits, values.count)
            ck_f16_to_f32(bits, input, values.count)
        } else {
            ck_f32_to_bf16(input, bits, values.count)
            ck_bf16_to_f32(bits, input, values.count)
        }
    }

    private func check(
        _ values: UnsafeMutableBufferPointer<Float>, _ item: Item, _ start: Int, _ path: String, _ problem: String
    ) throws {
        let index = ck_first_not_finite(values.baseAddress!, values.count)
        guard index == values.count else {
            throw CheckpointError.tensors(
                path: path, problems: ["\(item.source): element \(start + index) is \(problem)"])
        }
    }

    /// Length and text of the header, padded so that the data begin at a multiple of eight bytes.
    private func header(_ items: [Item]) -> [UInt8] {
        var members: [JSONObject.Member] = [("__metadata__", .object(JSONObject(metadata)))]
        var offset = 0
        for item in items {
            let end = offset + item.count * type.bytes
            let entry: JSONValue = [
                "dtype": .string(type.rawValue.uppercased()), "shape": .array(item.shape.map { .integer($0) }),
                "data_offsets": [.integer(offset), .integer(end)],
            ]
            members.append((item.name, entry))
            offset = end
        }
        var text = JSONValue.object(JSONObject(members)).serialized()
        text.append(contentsOf: repeatElement(0x20, count: (8 - text.count % 8) % 8))
        return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text
    }
}
