import Files
import Tensors
import TestSupport
import Testing

@testable import TokenData

@Suite("Token files")
struct TokenFileTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func failure(_ body: () throws -> Void) -> CheckpointError? {
        do {
            try body()
            return nil
        } catch {
            return error as? CheckpointError
        }
    }

    private func readFailure(_ path: String) -> CheckpointError? { failure { _ = try TokenFile.read(path) } }

    private func numpy(_ name: String) throws -> String { try Fixture.path("numpy/\(name).npy") }

    @Test("Raw numbers are little-endian")
    func raw() throws {
        let bytes: [UInt8] = [1, 2, 0xFF, 0xFF, 0, 0, 3, 0]
        let u16 = try folder.write(bytes, "a.u16")
        #expect(try TokenFile.read(u16) == TokenIDs(ids: [0x201, 0xFFFF, 0, 3]))
        let u32 = try folder.write(bytes, "a.u32")
        #expect(try TokenFile.read(u32) == TokenIDs(ids: [0xFFFF_0201, 0x3_0000]))
    }

    @Test(
        "Arrays of every integer type, both byte orders",
        arguments: ["u1", "i1"] + ["u2", "u4", "u8", "i2", "i4", "i8"].flatMap { ["le-\($0)", "be-\($0)"] })
    func numpyTypes(type: String) throws {
        #expect(
            try TokenFile.read(numpy("type-\(type)")) == TokenIDs(ids: [0, 1, 2, 100, 7, 42], rowLength: 3))
    }

    @Test("Arrays in every format version, flat, column by column")
    func numpyLayouts() throws {
        let rows = TokenIDs(ids: [0, 1, 2, 100, 7, 42], rowLength: 3)
        for name in ["version1", "version2", "version3", "fortran"] {
            #expect(try TokenFile.read(numpy(name)) == rows, "\(name)")
        }
        #expect(try TokenFile.read(numpy("flat")) == TokenIDs(ids: [5, 65535, .max]))
    }

    @Test("Arrays that hold no ids are refused with the place")
    func numpyErrors() throws {
        func invalid(_ name: String, _ place: String, _ found: String) throws {
            guard case .invalid(_, place, found, _) = readFailure(try numpy(name)) else {
                Issue.record("\(name): \(String(describing: readFailure(try numpy(name))))")
                return
            }
        }
        try invalid("float", "element type", "<f4")
        try invalid("bool", "element type", "|b1")
        try invalid("structured", ".npy header, descr", "a list")
        try invalid("cube", "shape", "3 dimensions")
        try invalid("scalar", "shape", "0 dimensions")
        try invalid("negative", "element [1, 1]", "-4")
        try invalid("negative-fortran", "element [1, 1]", "-5")
        try invalid("large", "element 1", "4294967296")
        let empty = try #require(readFailure(numpy("empty")))
        #expect("\(empty)".contains("no tokens"))
    }

    @Test("An array cut short, or too long, or with a damaged header is refused")
    func damagedNumpy() throws {
        let bytes = try Fixture.bytes("numpy/version1.npy")
        #expect(readFailure(try folder.write(bytes, "whole.npy")) == nil)
        for count in 1..<bytes.count {
            let path = try folder.write(Array(bytes.prefix(count)), "cut.npy")
            #expect(readFailure(path) != nil, "\(count) bytes")
        }
        let long = try #require(readFailure(try folder.write(bytes + [0], "long.npy")))
        #expect("\(long)".contains("found 13 bytes, expected 2 × 3 elements of 2 bytes"))
        let version = try #require(readFailure(try folder.write(bytes.prefix(6) + [4] + bytes.dropFirst(7), "v4.npy")))
        #expect("\(version)".contains("4.0"))
        var generator = SeededGenerator(seed: 8)
        for _ in 0..<500 {
            var damaged = bytes
            damaged[Int.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
            _ = readFailure(try folder.write(damaged, "damaged.npy"))
        }
        let huge = "{'descr': '<u2', 'fortran_order': False, 'shape': (4611686018427387904, 8), }\n"
        let header: [UInt8] = Array(bytes.prefix(8)) + [UInt8(huge.utf8.count), 0] + Array(huge.utf8)
        #expect(readFailure(try folder.write(header, "huge.npy")) != nil)
    }

    @Test("What is no token file is refused with the reason")
    func badFiles() throws {
        let path = folder.file("none.u16")
        #expect(readFailure(path) == .missing(path: path))
        let odd = try folder.write([1, 2, 3], "odd.u16")
        #expect("\(try #require(readFailure(odd)))".contains("length: found 3 bytes, expected a multiple of 2"))
        let odd32 = try folder.write([1, 2, 3, 4, 5, 6], "odd.u32")
        #expect("\(try #require(readFailure(odd32)))".contains("6 bytes"))
        let empty = try folder.write([], "empty.u32")
        #expect("\(try #require(readFailure(empty)))".contains("empty"))
        let unknown = try folder.write([1], "tokens.bin")
        #expect("\(try #require(readFailure(unknown)))".contains(".u16, .u32, .npy, FILE.h5:/path/to/dataset"))
        #expect(readFailure(".u16") != nil)
        #expect("\(try #require(readFailure("some.h5:")))".contains("no dataset"))
    }

    @Test(
        "What was written is read back", arguments: ["a.u16", "a.u32", "a.npy", "a.h5", "b.h5:/corpus/train", "c.hdf5"])
    func roundTrip(name: String) throws {
        let path = folder.file(name)
        let flat = TokenIDs(ids: [0, 1, 65535, 17, 3, 9])
        try TokenFile.write(flat, to: path)
        #expect(try TokenFile.read(path) == flat)
        if name != "a.u16" {
            let wide = TokenIDs(ids: [0, 1, 65536, .max, 3, 9])
            try TokenFile.write(wide, to: path)
            try expectIdentical(TokenFile.read(path), wide)
        }
        if !name.hasPrefix("a.u") {
            let rows = TokenIDs(ids: flat.ids, rowLength: 3)
            try TokenFile.write(rows, to: path)
            #expect(try TokenFile.read(path) == rows)
        }
        #expect(folder.contents == [String(name.prefix { $0 != ":" })])
    }

    @Test("The bytes written are those of the format")
    func writtenBytes() throws {
        try TokenFile.write(TokenIDs(ids: [258, 3]), to: folder.file("a.u16"))
        #expect(try folder.bytes("a.u16") == [2, 1, 3, 0])
        try TokenFile.write(TokenIDs(ids: [258, 3]), to: folder.file("a.u32"))
        #expect(try folder.bytes("a.u32") == [2, 1, 0, 0, 3, 0, 0, 0])
        // NumPy wrote this file: version 1.0, uint16.
        try TokenFile.write(TokenIDs(ids: [0, 1, 2, 100, 7, 42], rowLength: 3), to: folder.file("a.npy"))
        #expect(try folder.bytes("a.npy") == Fixture.bytes("numpy/type-le-u2.npy"))
        try TokenFile.write(TokenIDs(ids: [65536]), to: folder.file("b.npy"))
        #expect(String(decoding: try folder.bytes("b.npy").prefix(80), as: UTF8.self).contains("'<u4'"))
    }

    @Test("An id that does not fit leaves no file")
    func tooLarge() throws {
        let path = folder.file("a.u16")
        let error = failure { try TokenFile.write(TokenIDs(ids: [1, 65535, 65536]), to: path) }
        #expect("\(try #require(error))".contains("token 2: found the id 65536, expected at most 65535"))
        #expect(folder.contents == [])
        #expect(failure { try TokenFile.write(TokenIDs(ids: [1]), to: folder.file("a.txt")) } != nil)
        try folder.write("", "none")
        #expect(failure { try TokenFile.write(TokenIDs(ids: [1]), to: folder.file("none/a.u16")) } != nil)
    }

    @Test("HDF5 datasets: negative ids and missing names")
    func hdf5() throws {
        let path = folder.file("a.h5")
        try TokenFile.write(TokenIDs(ids: [1, 2], rowLength: 1), to: path + ":/x/y")
        let error = try #require(readFailure(path))
        #expect("\(error)".contains("/tokens"))
        #expect("\(error)".contains("/x/y"))
        #expect(readFailure(folder.file("none.h5")) == .missing(path: folder.file("none.h5")))
    }

    @Test("An array of floats is written as NumPy writes it, in pieces")
    func floats() throws {
        let values: [Float] = [0.5, -1, 2, 1e-30, .infinity, 3.25]
        let writer = try NumpyWriter(path: folder.file("a.npy"), shape: [2, 3], type: .float32)
        try writer.write(Array(values[..<4]))
        #expect(!folder.contents.contains("a.npy"))
        try writer.write(Array(values[4...]))
        try writer.finish()
        #expect(try folder.bytes("a.npy") == Fixture.bytes("numpy/float32-written.npy"))
        #expect(folder.contents == ["a.npy"])
    }

    @Test("An array that was not finished leaves no file")
    func unfinished() throws {
        do {
            let writer = try NumpyWriter(path: folder.file("a.npy"), shape: [2, 3])
            try writer.write([1, 2, 3] as [Float])
        }
        #expect(folder.contents == [])
    }

    @Test("Headers of no, one and many extents")
    func headers() throws {
        for shape in [[], [7], [7, 8], Array(repeating: 1, count: 32)] {
            let bytes = NumpyHeader.bytes(elementType: "<f4", shape: shape)
            #expect(bytes.count % 64 == 0)
            let header = try bytes.withUnsafeBytes { try NumpyHeader($0, path: "") }
            #expect(header.shape == shape)
            #expect(header.dataOffset == bytes.count)
            #expect(header.elementType == "<f4")
            #expect(!header.isFortranOrder)
        }
    }
}
