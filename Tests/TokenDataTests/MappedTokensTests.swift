import Files
import Foundation
import Tensors
import TestSupport
import Testing

@testable import TokenData

@Suite("Token files read where they lie")
struct MappedTokensTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func ids(_ tokens: MappedTokens, _ positions: Range<Int>) -> [UInt32] {
        [UInt32](unsafeUninitializedCapacity: positions.count) { result, count in
            tokens.copy(positions, into: UnsafeMutableBufferPointer(rebasing: result[..<positions.count]))
            count = positions.count
        }
    }

    private static let arrays =
        ["u1", "i1"].map { "type-\($0)" }
        + ["u2", "u4", "u8", "i2", "i4", "i8"].flatMap { ["type-le-\($0)", "type-be-\($0)"] }
        + ["flat", "version1", "version2", "version3"]

    @Test("Arrays of every type have the ids that reading them whole gives", arguments: arrays)
    func numpy(name: String) throws {
        let path = try Fixture.path("numpy/\(name).npy")
        let whole = try TokenFile.read(path)
        let tokens = try #require(try MappedTokens(path))
        #expect(tokens.count == whole.ids.count)
        #expect(tokens.rowLength == whole.rowLength)
        for start in 0...tokens.count {
            for end in start...tokens.count {
                expectEqual(ids(tokens, start..<end), Array(whole.ids[start..<end]))
            }
        }
        for id in whole.ids {
            expectEqual(tokens.indices(in: 0..<tokens.count, of: id), whole.ids.indices.filter { whole.ids[$0] == id })
            let first = whole.ids.firstIndex { $0 > id }
            #expect(tokens.firstIndex(in: 0..<tokens.count, above: id) == first)
            #expect(first.map { tokens.number(at: $0) } == first.map { "\(whole.ids[$0])" })
        }
    }

    @Test("Raw numbers, in parts, at odd places and over several blocks")
    func raw() throws {
        var generator = SeededGenerator(seed: 4)
        let expected = (0..<10_007).map { _ in UInt32.random(in: 0..<50_000, using: &generator) }
        for suffix in ["u16", "u32"] {
            let path = folder.file("a.\(suffix)")
            try TokenFile.write(TokenIDs(ids: expected), to: path)
            let tokens = try #require(try MappedTokens(path))
            #expect(tokens.path == path && tokens.rowLength == nil)
            expectEqual(ids(tokens, 0..<expected.count), expected)
            for part in [0..<1, 1..<1, 4093..<8209, 10_006..<10_007] {
                expectEqual(ids(tokens, part), Array(expected[part]))
                #expect(
                    tokens.firstIndex(in: part, above: 49_000) == part.first { expected[$0] > 49_000 }, "\(part)")
                #expect(tokens.indices(in: part, of: 17) == part.filter { expected[$0] == 17 })
            }
            let largest = try #require(expected.max())
            let place = try #require(expected.firstIndex(of: largest))
            #expect(tokens.firstIndex(in: 0..<expected.count, above: largest) == nil)
            #expect(tokens.firstIndex(in: 0..<expected.count, above: largest - 1) == place)
            #expect(tokens.firstIndex(in: place + 1..<expected.count, above: largest - 1) != place)
            #expect(tokens.indices(in: 0..<expected.count, of: 70_000) == [])
            // Memory that was given back is read from the file again.
            tokens.release(0..<expected.count)
            tokens.release(3..<4)
            expectEqual(ids(tokens, 0..<expected.count), expected)
        }
    }

    @Test("Numbers that are no ids are found with their sign")
    func notIDs() throws {
        let negative = try #require(try MappedTokens(Fixture.path("numpy/negative.npy")))
        let place = try #require(negative.firstIndex(in: 0..<negative.count, above: .max))
        #expect(negative.number(at: place) == "-4")
        let large = try #require(try MappedTokens(Fixture.path("numpy/large.npy")))
        #expect(large.firstIndex(in: 0..<large.count, above: .max) == 1)
        #expect(large.number(at: 1) == "4294967296")
    }

    @Test("What cannot be mapped is left to be read whole")
    func whole() throws {
        #expect(try MappedTokens(Fixture.path("numpy/fortran.npy")) == nil)
        #expect(try MappedTokens("none.h5:/tokens") == nil)
    }

    @Test(
        "What is no token file is refused as when read whole",
        arguments: ["float", "bool", "structured", "cube", "scalar", "empty"])
    func refusedArrays(name: String) throws {
        try expectSameRefusal(Fixture.path("numpy/\(name).npy"))
    }

    @Test("Raw files that are missing, empty or cut short are refused as when read whole")
    func refusedFiles() throws {
        try expectSameRefusal(folder.file("none.u16"))
        try expectSameRefusal(folder.write([1, 2, 3], "odd.u16"))
        try expectSameRefusal(folder.write([1, 2, 3, 4, 5, 6], "odd.u32"))
        try expectSameRefusal(folder.write([], "empty.u32"))
        try expectSameRefusal(folder.write([1], "tokens.bin"))
        try expectSameRefusal(folder.write(Array(Fixture.bytes("numpy/version1.npy").dropLast()), "cut.npy"))
    }

    private func expectSameRefusal(_ path: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let whole = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) { try TokenFile.read(path) }
        let mapped = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) { try MappedTokens(path) }
        #expect(mapped == whole, sourceLocation: sourceLocation)
    }
}
