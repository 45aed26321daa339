import Files

/// A value of a GGUF file's metadata.
enum GGUFValue {
    case unsigned(UInt64)
    case signed(Int64)
    case float(Float)
    case double(Double)
    case bool(Bool)
    case string(String)
    case array(GGUFArray)
}

/// An array of a GGUF file's metadata, left in the file: vocabularies are large and seldom needed.
struct GGUFArray {
    let type: UInt32
    let count: Int
    let position: Int
}

/// A tensor as the directory of a GGUF file describes it.
struct GGUFTensor {
    let name: String
    /// Extents, slowest first.
    let shape: [Int]
    /// Nil for a type that is not read.
    let type: StoredType?
    /// As the format calls it.
    let typeName: String
    /// Of its first byte in the file.
    var offset: Int
    var bytes: Int

    var isEmpty: Bool { shape.contains(0) }
    /// Why it cannot be read, if that is so.
    var obstacle: String? {
        guard type == nil else { return nil }
        let supported = StoredType.allCases.map(\.rawValue).joined(separator: ", ")
        return "elements of \(typeName.hasPrefix("type") ? "" : "type ")\(typeName), expected one of \(supported)"
    }
}

/// The metadata and the directory of a GGUF file, versions 2 and 3, little-endian. Everything is checked against the
/// size of the file before memory is asked for.
struct GGUFReader {
    let version: UInt32
    let tensors: [GGUFTensor]

    private let file: MappedFile
    private var metadata: [(key: String, value: GGUFValue)] = []
    private var index: [String: Int] = [:]

    static let magic: [UInt8] = Array("GGUF".utf8)

    init(_ file: MappedFile) throws(CheckpointError) {
        self.file = file
        var reader = ByteReader(file)
        guard try reader.read(UInt32.self, "magic") == 0x4655_4747 else {
            throw .unreadable(path: file.path, reason: "does not begin with GGUF")
        }
        version = try reader.read(UInt32.self, "version")
        guard version == 2 || version == 3 else {
            let reason =
                version.byteSwapped <= 3
                ? "GGUF file in big-endian order; convert it on a big-endian machine's llama.cpp"
                : "GGUF version \(version), expected 2 or 3"
            throw .unreadable(path: file.path, reason: reason)
        }
        let tensorCount = try reader.readCount("number of tensors")
        let valueCount = try reader.readCount("number of metadata values")
        // A value takes at least 8 + 4 + 1 bytes, a tensor 8 + 4 + 8 + 4 + 8.
        guard valueCount <= reader.remaining / 13, tensorCount <= reader.remaining / 32 else {
            throw .invalid(
                path: file.path, place: "header", found: "\(tensorCount) tensors and \(valueCount) metadata values",
                expected: "no more than fit into \(file.bytes.count) bytes")
        }
        metadata.reserveCapacity(valueCount)
        for _ in 0..<valueCount {
            let place = reader.position
            let key = try Self.string(&reader, "metadata key")
            guard index.updateValue(metadata.count, forKey: key) == nil else {
                throw .invalid(
                    path: file.path, place: "byte \(place), metadata", found: "\(key) a second time",
                    expected: "each key once")
            }
            let type = try reader.read(UInt32.self, key)
            metadata.append((key, try Self.value(&reader, type: type, key: key)))
        }
        var alignment = 32
        if let position = index["general.alignment"] {
            guard case .unsigned(let value) = metadata[position].value, value > 0, value <= 1 << 20,
                value.nonzeroBitCount == 1
            else {
                throw .invalid(
                    path: file.path, place: "general.alignment", found: "\(metadata[position].value)",
                    expected: "a power of two")
            }
            alignment = Int(value)
        }
        tensors = try Self.directory(&reader, count: tensorCount, alignment: alignment)
    }

    // MARK: - Metadata

    /// All values, in the order of the file.
    var values: [(key: String, value: GGUFValue)] { metadata }

    /// The scalar values, in the order of the file.
    var scalars: [(key: String, value: GGUFValue)] {
        metadata.filter { if case .array = $0.value { false } else { true } }
    }

    subscript(key: String) -> GGUFValue? { index[key].map { metadata[$0].value } }

    func string(_ key: String) throws(CheckpointError) -> String? {
        guard let value = self[key] else { return nil }
        guard case .string(let text) = value else { throw wrong(key, value, "a string") }
        return text
    }

    func bool(_ key: String) throws(CheckpointError) -> Bool? {
        guard let value = self[key] else { return nil }
        guard case .bool(let flag) = value else { throw wrong(key, value, "true or false") }
        return flag
    }

    /// A count or an identifier: an integer that is not negative.
    func count(_ key: String) throws(CheckpointError) -> Int? {
        guard let value = self[key] else { return nil }
        switch value {
        case .unsigned(let number): if let count = Int(exactly: number) { return count }
        case .signed(let number): if number >= 0 { return Int(number) }
        case .array:
            // Per-layer values that are all the same say no more than one.
            let numbers = try integers(key)
            if let first = numbers.first, first >= 0, numbers.allSatisfy({ $0 == first }) { return first }
            throw wrong(key, value, "one number for all layers")
        default: break
        }
        throw wrong(key, value, "an integer that is not negative")
    }

    /// A real number, as the shortest decimal that gives the stored one: 1e-05 rather than 9.999999747378752e-06.
    func number(_ key: String) throws(CheckpointError) -> Double? {
        guard let value = self[key] else { return nil }
        switch value {
        case .float(let number) where number.isFinite: return Double("\(number)")
        case .double(let number) where number.isFinite: return number
        case .unsigned(let number): return Double(number)
        case .signed(let number): return Double(number)
        default: throw wrong(key, value, "a finite number")
        }
    }

    func strings(_ key: String) throws(CheckpointError) -> [String]? {
        guard let (array, reader) = try array(key, types: [8], "an array of strings") else { return nil }
        var (strings, position) = ([String](), reader)
        strings.reserveCapacity(array.count)
        for item in 0..<array.count { strings.append(try Self.string(&position, "\(key)[\(item)]")) }
        return strings
    }

    func floats(_ key: String) throws(CheckpointError) -> [Float]? {
        guard let (array, start) = try array(key, types: [6], "an array of float32") else { return nil }
        var (numbers, reader) = ([Float](), start)
        numbers.reserveCapacity(array.count)
        for _ in 0..<array.count { numbers.append(try reader.read(Float.self, key)) }
        return numbers
    }

    func flags(_ key: String) throws(CheckpointError) -> [Bool]? {
        guard let (array, start) = try array(key, types: [7], "an array of flags") else { return nil }
        var (flags, reader) = ([Bool](), start)
        flags.reserveCapacity(array.count)
        for _ in 0..<array.count { flags.append(try reader.read(UInt8.self, key) != 0) }
        return flags
    }

    /// An array of integers of any width, empty if there is none.
    func integers(_ key: String) throws(CheckpointError) -> [Int] {
        guard let (array, start) = try array(key, types: [0, 1, 2, 3, 4, 5, 10, 11], "an array of integers") else {
            return []
        }
        var (numbers, reader) = ([Int](), start)
        numbers.reserveCapacity(array.count)
        for _ in 0..<array.count {
            switch try Self.value(&reader, type: array.type, key: key) {
            case .unsigned(let number): numbers.append(Int(clamping: number))
            case .signed(let number): numbers.append(Int(number))
            default: break
            }
        }
        return numbers
    }

    private func array(
        _ key: String, types: [UInt32], _ expected: String
    ) throws(CheckpointError) -> (GGUFArray, ByteReader)? {
        guard let value = self[key] else { return nil }
        guard case .array(let array) = value, types.contains(array.type) else { throw wrong(key, value, expected) }
        return (array, ByteReader(file, at: array.position))
    }

    private func wrong(_ key: String, _ value: GGUFValue, _ expected: String) -> CheckpointError {
        let found =
            switch value {
            case .array(let array): "an array of \(array.count) values of type \(array.type)"
            case .unsigned(let number): "\(number)"
            case .signed(let number): "\(number)"
            case .float(let number): "\(number)"
            case .double(let number): "\(number)"
            case .bool(let flag): "\(flag)"
            case .string(let text): "\"\(text.prefix(80))\""
            }
        return .invalid(path: file.path, place: "metadata \(key)", found: found, expected: expected)
    }

    private static func string(_ reader: inout ByteReader, _ what: String) throws(CheckpointError) -> String {
        let count = try reader.readCount("length of \(what)")
        return try reader.string(count: count, what)
    }

    private static func value(
        _ reader: inout ByteReader, type: UInt32, key: String
    ) throws(CheckpointError) -> GGUFValue {
        switch type {
        case 0: return .unsigned(UInt64(try reader.read(UInt8.self, key)))
        case 1: return .signed(Int64(try reader.read(Int8.self, key)))
        case 2: return .unsigned(UInt64(try reader.read(UInt16.self, key)))
        case 3: return .signed(Int64(try reader.read(Int16.self, key)))
        case 4: return .unsigned(UInt64(try reader.read(UInt32.self, key)))
        case 5: return .signed(Int64(try reader.read(Int32.self, key)))
        case 6: return .float(try reader.read(Float.self, key))
        case 7: return .bool(try reader.read(UInt8.self, key) != 0)
        case 8: return .string(try string(&reader, key))
        case 9: return .array(try array(&reader, key: key, depth: 0))
        case 10: return .unsigned(try reader.read(UInt64.self, key))
        case 11: return .signed(try reader.read(Int64.self, key))
        case 12: return .double(try reader.read(Double.self, key))
        default:
            throw .invalid(
                path: reader.path, place: "metadata \(key)", found: "value type \(type)",
                expected: "a type from 0 to 12")
        }
    }

    /// Walks over an array without keeping it.
    private static func array(
        _ reader: inout ByteReader, key: String, depth: Int
    ) throws(CheckpointError) -> GGUFArray {
        let type = try reader.read(UInt32.self, "type of \(key)")
        let count = try reader.readCount("length of \(key)")
        let position = reader.position
        let sizes: [UInt32: Int] = [0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8]
        if let size = sizes[type] {
            let (bytes, overflow) = count.multipliedReportingOverflow(by: size)
            try reader.skip(overflow ? Int.max : bytes, key)
        } else if type == 8 {
            for _ in 0..<count {
                let length = try reader.readCount("length of \(key)")
                try reader.skip(length, key)
            }
        } else if type == 9, depth < 4 {
            for _ in 0..<count { _ = try array(&reader, key: key, depth: depth + 1) }
        } else {
            throw .invalid(
                path: reader.path, place: "metadata \(key)", found: "an array of type \(type)",
                expected: "a type from 0 to 12, nested at most 4 deep")
        }
        return GGUFArray(type: type, count: count, position: position)
    }
}
