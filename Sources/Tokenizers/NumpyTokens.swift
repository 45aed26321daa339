import Checkpoints

/// Token ids from `.npy` files of any integer type.
enum NumpyTokens {
    static func read(_ path: String) throws(CheckpointError) -> TokenIDs {
        let file = try TokenFile.mapped(path)
        let header = try NumpyHeader(file.bytes, path: path)
        let (size, isSigned, isBigEndian) = try integerType(header.elementType, path)
        guard (1...2).contains(header.shape.count) else {
            throw .invalid(
                path: path, place: "shape", found: "\(header.shape.count) dimensions",
                expected: "1 (tokens) or 2 (sequences of tokens)")
        }
        let found = file.bytes.count - header.dataOffset
        let count = header.shape.reduce((1, false)) { total, extent in
            let (product, overflow) = total.0.multipliedReportingOverflow(by: extent)
            return (product, total.1 || overflow)
        }
        let (needed, overflow) = count.0.multipliedReportingOverflow(by: size)
        guard !count.1, !overflow, found == needed else {
            throw .invalid(
                path: path, place: "data", found: "\(found) bytes",
                expected: "\(header.shape.map(String.init).joined(separator: " × ")) elements of \(size) bytes")
        }
        guard count.0 > 0 else { return TokenIDs(ids: []) }
        let data = UnsafeRawBufferPointer(rebasing: file.bytes[header.dataOffset...])
        var ids: [UInt32]
        var wrong: Int?
        switch size {
        case 1: (ids, wrong) = convert(data, UInt8.self, isSigned, isBigEndian)
        case 2: (ids, wrong) = convert(data, UInt16.self, isSigned, isBigEndian)
        case 4: (ids, wrong) = convert(data, UInt32.self, isSigned, isBigEndian)
        default: (ids, wrong) = convert(data, UInt64.self, isSigned, isBigEndian)
        }
        let shape = header.shape
        // A transposed file counts its elements column by column.
        let transposes = header.isFortranOrder && shape.count == 2
        if let wrong {
            let stored = number(data, wrong, size, isSigned, isBigEndian)
            let index = transposes ? wrong % shape[0] * shape[1] + wrong / shape[0] : wrong
            throw TokenFile.notAnID(stored, at: index, shape: shape, path: path)
        }
        if transposes {
            let columns = ids
            for row in 0..<shape[0] {
                for column in 0..<shape[1] { ids[row * shape[1] + column] = columns[column * shape[0] + row] }
            }
        }
        return TokenIDs(ids: ids, rowLength: shape.count == 2 ? shape[1] : nil)
    }

    /// Bytes, sign and byte order of an integer type.
    private static func integerType(
        _ type: String, _ path: String
    ) throws(CheckpointError) -> (size: Int, isSigned: Bool, isBigEndian: Bool) {
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
        return (Int(text[2]) - 0x30, text[1] == UInt8(ascii: "i"), text[0] == UInt8(ascii: ">"))
    }

    /// The numbers as ids, and the place of the first that is none.
    private static func convert<Stored: FixedWidthInteger & UnsignedInteger>(
        _ data: UnsafeRawBufferPointer, _: Stored.Type, _ isSigned: Bool, _ isBigEndian: Bool
    ) -> ([UInt32], wrong: Int?) {
        // What an id cannot have: the sign bit, and bits beyond 32.
        let forbidden: Stored = (isSigned ? 1 << (Stored.bitWidth - 1) : 0) | ~Stored(truncatingIfNeeded: UInt32.max)
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
    private static func number(
        _ data: UnsafeRawBufferPointer, _ index: Int, _ size: Int, _ isSigned: Bool, _ isBigEndian: Bool
    ) -> String {
        var value: UInt64 = 0
        for byte in 0..<size {
            let place = isBigEndian ? byte : size - 1 - byte
            value = value << 8 | UInt64(data[index * size + place])
        }
        let shift = 64 - 8 * size
        return isSigned ? "\(Int64(bitPattern: value << shift) >> shift)" : "\(value)"
    }
}
