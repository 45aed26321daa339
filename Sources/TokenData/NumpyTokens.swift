import Files

/// How a file stores whole numbers.
struct StoredInteger: Equatable {
    /// Bytes of one: 1, 2, 4 or 8.
    var size: Int
    var isSigned = false
    var isBigEndian = false
}

/// Token ids from `.npy` files of any integer type.
enum NumpyTokens {
    /// Where the elements of a file lie.
    struct Layout {
        let element: StoredInteger
        /// One or two extents, slowest first.
        let shape: [Int]
        /// Bytes before the first element.
        let offset: Int
        /// A transposed file counts its elements column by column.
        let isTransposed: Bool

        /// Throws `CheckpointError` if the header does not describe tokens or the file has not as many bytes as it says.
        init(of file: MappedFile) throws(CheckpointError) {
            let path = file.path
            let header = try NumpyHeader(file.bytes, path: path)
            element = try NumpyTokens.integerType(header.elementType, path)
            shape = header.shape
            offset = header.dataOffset
            isTransposed = header.isFortranOrder && shape.count == 2
            guard (1...2).contains(shape.count) else {
                throw .invalid(
                    path: path, place: "shape", found: "\(shape.count) dimensions",
                    expected: "1 (tokens) or 2 (sequences of tokens)")
            }
            let found = file.bytes.count - offset
            var needed = (bytes: element.size, overflow: false)
            for extent in shape {
                let (product, overflow) = needed.bytes.multipliedReportingOverflow(by: extent)
                needed = (product, needed.overflow || overflow)
            }
            guard !needed.overflow, found == needed.bytes else {
                throw .invalid(
                    path: path, place: "data", found: "\(found) bytes",
                    expected: "\(shape.map(String.init).joined(separator: " × ")) elements of \(element.size) bytes")
            }
        }

        var count: Int { shape.reduce(1, *) }
        var rowLength: Int? { shape.count == 2 ? shape[1] : nil }
    }

    static func read(_ path: String) throws(CheckpointError) -> TokenIDs {
        let file = try TokenFile.mapped(path)
        let layout = try Layout(of: file)
        guard layout.count > 0 else { return TokenIDs(ids: []) }
        let data = UnsafeRawBufferPointer(rebasing: file.bytes[layout.offset...])
        let element = layout.element
        var ids: [UInt32]
        var wrong: Int?
        switch element.size {
        case 1: (ids, wrong) = convert(data, UInt8.self, element)
        case 2: (ids, wrong) = convert(data, UInt16.self, element)
        case 4: (ids, wrong) = convert(data, UInt32.self, element)
        default: (ids, wrong) = convert(data, UInt64.self, element)
        }
        let shape = layout.shape
        if let wrong {
            let stored = number(data, wrong, element)
            let index = layout.isTransposed ? wrong % shape[0] * shape[1] + wrong / shape[0] : wrong
            throw TokenFile.notAnID(stored, at: index, shape: shape, path: path)
        }
        if layout.isTransposed {
            let columns = ids
            for row in 0..<shape[0] {
                for column in 0..<shape[1] { ids[row * shape[1] + column] = columns[column * shape[0] + row] }
            }
        }
        return TokenIDs(ids: ids, rowLength: layout.rowLength)
    }

    /// Bytes, sign and byte order of an integer type.
    private static func integerType(
        _ type: String, _ path: String
    ) throws(CheckpointError) -> StoredInteger {
        let text = Array(type.utf8)
        let kinds: [UInt8] = [UInt8(ascii: "i"), UInt8(ascii: "u")]
        let orders: [UInt8] = [UInt8(ascii: "<"), UInt8(ascii: ">"), UInt8(ascii: "|"), UInt8(ascii: "=")]
        guard text.count == 3, orders.contains(text[0]), kinds.contains(text[1]),
            [1, 2, 4, 8].contains(Int(text[2]) - 0x30)
        else {
            throw .invalid(
                path: path, place: "element type", found: type,
                expected: "integers (i1, i2, i4, i8, u1, u2, u4 or u8)")
        }
        return StoredInteger(
            size: Int(text[2]) - 0x30, isSigned: text[1] == UInt8(ascii: "i"), isBigEndian: text[0] == UInt8(ascii: ">")
        )
    }

    /// The numbers as ids, and the place of the first that is none.
    private static func convert<Stored: FixedWidthInteger & UnsignedInteger>(
        _ data: UnsafeRawBufferPointer, _: Stored.Type, _ element: StoredInteger
    ) -> ([UInt32], wrong: Int?) {
        let isBigEndian = element.isBigEndian
        // What an id cannot have: the sign bit, and bits beyond 32.
        let forbidden: Stored =
            (element.isSigned ? 1 << (Stored.bitWidth - 1) : 0) | ~Stored(truncatingIfNeeded: UInt32.max)
        var seen: Stored = 0
        let ids = TokenFile.integers(data, Stored.self) { stored in
            let value = isBigEndian ? stored.byteSwapped : stored
            seen |= value & forbidden
            return UInt32(truncatingIfNeeded: value)
        }
        guard seen != 0 else { return (ids, nil) }
        let size = MemoryLayout<Stored>.size
        let wrong = ids.indices.first { index in
            let stored = Stored(littleEndian: data.loadUnaligned(fromByteOffset: index * size, as: Stored.self))
            return (isBigEndian ? stored.byteSwapped : stored) & forbidden != 0
        }
        return (ids, wrong)
    }

    /// The number at an index, for people.
    static func number(_ data: UnsafeRawBufferPointer, _ index: Int, _ element: StoredInteger) -> String {
        let size = element.size
        var value: UInt64 = 0
        for byte in 0..<size {
            let place = element.isBigEndian ? byte : size - 1 - byte
            value = value << 8 | UInt64(data[index * size + place])
        }
        let shift = 64 - 8 * size
        return element.isSigned ? "\(Int64(bitPattern: value << shift) >> shift)" : "\(value)"
    }
}
