import Files
import TestSupport
import Testing

@testable import Checkpoints

@Suite("safetensors files") struct SafetensorsTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    @Test("every floating-point type is read, at any alignment")
    func types() throws {
        let values: [Float] = [1, -2.5, 0.0625, 3e4, -0.0, 7]
        let halves = values.map { Float16($0).bitPattern }
        let upper = values.map { UInt16($0.bitPattern >> 16) }
        let data =
            [7] + littleEndian(values.map { Double($0) }) + littleEndian(values) + littleEndian(halves)
            + littleEndian(upper)
        let header = #"""
            {"__metadata__":{"format":"pt"},"z":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
            "d":{"dtype":"F64","shape":[3,2],"data_offsets":[1,49]},"f":{"dtype":"F32","shape":[3,2],"data_offsets":[49,73]},
            "h":{"dtype":"F16","shape":[6],"data_offsets":[73,85]},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[85,97]}}
            """#
        let file = try SafetensorsFile(path: folder.write(safetensors(header: header, data: data), "a"))
        #expect(file.metadata == ["format": "pt"])
        #expect(file.tensors.map(\.name) == ["z", "d", "f", "h", "b"])
        #expect(file.tensors.map(\.storedType) == ["u8", "f64", "f32", "f16", "bf16"])
        for name in ["d", "f", "h", "b"] {
            let expected = name == "b" ? values.map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) } : values
            expectSameBits(try read(file, name, count: 6), expected, name)
        }
        expectSameBits(try read(file, "f", rows: 1..<3, count: 4), values[2...])
        #expect(throws: CheckpointError.self) { try read(file, "z", count: 1) }
        #expect(throws: CheckpointError.tensors(path: file.path, problems: ["q: missing"])) {
            try read(file, "q", count: 1)
        }
    }

    private func read(_ file: SafetensorsFile, _ name: String, rows: Range<Int>? = nil, count: Int) throws -> [Float] {
        try [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            try file.read(name, rows: rows, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
            initialized = count
        }
    }

    @Test(
        "a wrong header is refused",
        arguments: [
            (
                #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                12
            ),
            (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12),
            (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 12),
            (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4),
            (#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
            (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
            (#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8),
            (#"{"a":{"dtype":"F32","shape":[0,4611686018427387904,8],"data_offsets":[0,0]}}"#, 0),
            (#"{"a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,0]}}"#, 0),
            (#"{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}"#, 8),
            (#"{"a":{"dtype":"F33","shape":[65],"data_offsets":[0,7]}}"#, 7),
            (#"{"a":{"dtype":"F33","shape":[4611686018427387904,8],"data_offsets":[0,8]}}"#, 8),
            (#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#, 2),
            (#"{"a":{"dtype":"C64","shape":[2],"data_offsets":[0,8]}}"#, 8),
            (#"{"a":{"shape":[2],"data_offsets":[0,8]}}"#, 8), (#"{"a":3}"#, 0), ("[]", 0), ("{} x", 0),
            (
                #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                8
            ),
            (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9223372036854775807]}}"#, 8),
        ])
    func headers(header: String, count: Int) throws {
        let path = try folder.write(safetensors(header: header, data: [UInt8](repeating: 0, count: count)), "a")
        #expect(throws: CheckpointError.self) { try SafetensorsFile(path: path) }
    }

    @Test("tensors without elements, and of types that are not read, are listed")
    func others() throws {
        let header = #"""
            {"e":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},"c":{"dtype":"C64","shape":[2],"data_offsets":[0,16]},
            "s":{"dtype":"F8_E8M0","shape":[3],"data_offsets":[16,19]},"q":{"dtype":"F4","shape":[2],"data_offsets":[19,20]},
            "n":{"dtype":"X9_LATER","shape":[7],"data_offsets":[20,25]},"t":{"dtype":"F32","shape":[],"data_offsets":[25,29]}}
            """#
        let data = [UInt8](repeating: 0, count: 25) + littleEndian([Float(2.5)])
        let file = try SafetensorsFile(path: folder.write(safetensors(header: header, data: data), "a"))
        #expect(file.tensors.map(\.name) == ["e", "c", "s", "q", "n", "t"])
        #expect(file.tensors.map(\.storedType) == ["f32", "c64", "f8_e8m0", "f4", "x9_later", "f32"])
        #expect(file.tensors.map(\.storedBytes) == [0, 16, 3, 1, 5, 4])
        #expect(file.tensors.map { $0.obstacle == nil } == [true, false, false, false, false, true])
        expectSameBits(try read(file, "t", count: 1), [2.5])
        expectSameBits(try read(file, "e", count: 0), [])
        for name in ["c", "s", "q", "n"] { #expect(throws: CheckpointError.self) { try read(file, name, count: 2) } }
    }

    @Test("an absurd length of the header is refused", arguments: [0, 1, 11, UInt64(Int.max), .max])
    func length(count: UInt64) throws {
        let path = try folder.write(littleEndian([count]) + Array("{}".utf8), "a")
        #expect(throws: CheckpointError.self) { try SafetensorsFile(path: path) }
    }

    @Test("damaged files never trap, and no file cut short is accepted")
    func damage() throws {
        let bytes = safetensors([("a", [2, 3], [1, 2, 3, 4, 5, 6]), ("b", [4], [7, 8, 9, 10])])
        let result = try fuzz(bytes, name: "a.safetensors", rounds: 3000, seed: 2) { try HuggingFaceFolder(path: $0) }
        #expect(result.truncationsAccepted == 0)
        #expect(result.refused > 1500)
    }
}
