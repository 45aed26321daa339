@testable import Checkpoints

/// Writes small GGUF files, by the published layout and independently of the reader.
struct GGUFBuilder {
    enum Value {
        case u8(UInt8)
        case i8(Int8)
        case u16(UInt16)
        case i16(Int16)
        case u32(UInt32)
        case i32(Int32)
        case f32(Float)
        case bool(Bool)
        case text(String)
        case u64(UInt64)
        case i64(Int64)
        case f64(Double)
        case texts([String])
        case i32s([Int32])
        case f32s([Float])
        case bools([Bool])
        case nested([[UInt8]])

        var bytes: [UInt8] {
            func type(_ number: UInt32, _ rest: [UInt8]) -> [UInt8] { littleEndian([number]) + rest }
            func list(_ number: UInt32, _ count: Int, _ rest: [UInt8]) -> [UInt8] {
                type(9, type(number, littleEndian([UInt64(count)]) + rest))
            }
            return switch self {
            case .u8(let v): type(0, littleEndian([v]))
            case .i8(let v): type(1, littleEndian([v]))
            case .u16(let v): type(2, littleEndian([v]))
            case .i16(let v): type(3, littleEndian([v]))
            case .u32(let v): type(4, littleEndian([v]))
            case .i32(let v): type(5, littleEndian([v]))
            case .f32(let v): type(6, littleEndian([v]))
            case .bool(let v): type(7, [v ? 1 : 0])
            case .text(let v): type(8, GGUFBuilder.string(v))
            case .u64(let v): type(10, littleEndian([v]))
            case .i64(let v): type(11, littleEndian([v]))
            case .f64(let v): type(12, littleEndian([v]))
            case .texts(let v): list(8, v.count, v.flatMap(GGUFBuilder.string))
            case .i32s(let v): list(5, v.count, littleEndian(v))
            case .f32s(let v): list(6, v.count, littleEndian(v))
            case .bools(let v): list(7, v.count, v.map { $0 ? 1 : 0 })
            case .nested(let v):
                list(9, v.count, v.flatMap { type(0, littleEndian([UInt64($0.count)]) + $0) })
            }
        }
    }

    static func string(_ text: String) -> [UInt8] { littleEndian([UInt64(text.utf8.count)]) + Array(text.utf8) }

    var version: UInt32 = 3
    var metadata: [(key: String, value: Value)]
    var tensors: [(name: String, shape: [Int], values: [Float])]
    var alignment = 32
    /// Numbers of the types of tensors that are not f32, whatever bytes they then have.
    var types: [String: UInt32] = [:]

    /// A tiny dense model: hidden 8, two heads of size 4, one of keys and values, one layer, tied.
    static func model(architecture: String = "llama", biases: Bool = false) -> Self {
        let a = architecture
        var builder = Self(
            metadata: [
                ("general.architecture", .text(a)), ("\(a).block_count", .u32(1)), ("\(a).context_length", .u32(64)),
                ("\(a).embedding_length", .u32(8)), ("\(a).feed_forward_length", .u32(6)),
                ("\(a).attention.head_count", .u32(2)), ("\(a).attention.head_count_kv", .u32(1)),
                ("\(a).attention.layer_norm_rms_epsilon", .f32(1e-5)), ("\(a).rope.freq_base", .f32(500000)),
            ], tensors: [])
        func add(_ name: String, _ shape: [Int]) { builder.add(name, shape) }
        add("token_embd.weight", [5, 8])
        add("blk.0.attn_norm.weight", [8])
        add("blk.0.attn_q.weight", [8, 8])
        add("blk.0.attn_k.weight", [4, 8])
        add("blk.0.attn_v.weight", [4, 8])
        add("blk.0.attn_output.weight", [8, 8])
        if biases {
            add("blk.0.attn_q.bias", [8])
            add("blk.0.attn_k.bias", [4])
            add("blk.0.attn_v.bias", [4])
        }
        add("blk.0.ffn_norm.weight", [8])
        add("blk.0.ffn_gate.weight", [6, 8])
        add("blk.0.ffn_up.weight", [6, 8])
        add("blk.0.ffn_down.weight", [8, 6])
        add("output_norm.weight", [8])
        return builder
    }

    /// A tensor whose numbers tell every element of the file from all others.
    mutating func add(_ name: String, _ shape: [Int]) {
        let offset = Float(tensors.count * 1000)
        tensors.append((name, shape, (0..<shape.reduce(1, *)).map { Float($0) + offset }))
    }

    func values(_ name: String) -> [Float]? { tensors.first { $0.name == name }?.values }

    mutating func set(_ key: String, _ value: Value?) {
        metadata.removeAll { $0.key == key }
        if let value { metadata.append((key, value)) }
    }

    var bytes: [UInt8] {
        var out = Array("GGUF".utf8) + littleEndian([version])
        out += littleEndian([UInt64(tensors.count), UInt64(metadata.count)])
        for (key, value) in metadata { out += Self.string(key) + value.bytes }
        var data: [UInt8] = []
        for (name, shape, values) in tensors {
            out +=
                Self.string(name) + littleEndian([UInt32(shape.count)])
                + littleEndian(shape.reversed().map(UInt64.init))
            out += littleEndian([types[name] ?? 0]) + littleEndian([UInt64(data.count)])
            data += littleEndian(values)
            data += [UInt8](repeating: 0, count: (alignment - data.count % alignment) % alignment)
        }
        out += [UInt8](repeating: 0, count: (alignment - out.count % alignment) % alignment)
        return out + data
    }
}
