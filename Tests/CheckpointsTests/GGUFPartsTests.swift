import Files
import Glibc
import TestSupport
import Testing
import Transformer

@testable import Checkpoints

@Suite("GGUF models in several files") struct GGUFPartsTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private static func name(_ part: Int, of count: Int = 3) -> String { "m-0000\(part)-of-0000\(count).gguf" }

    /// The model in three files as gguf-split makes them: the first one has the metadata. Returns the whole.
    private func writeParts(change: (Int, inout GGUFBuilder) -> Void = { _, _ in }) throws -> GGUFBuilder {
        let whole = GGUFBuilder.model()
        let cuts = [0, 2, 7, whole.tensors.count]
        for part in 1...3 {
            var builder = whole
            if part > 1 { builder.metadata = [] }
            builder.tensors = Array(whole.tensors[cuts[part - 1]..<cuts[part]])
            builder.set("split.no", .u16(UInt16(part - 1)))
            builder.set("split.count", .u16(3))
            builder.set("split.tensors.count", .i32(Int32(whole.tensors.count)))
            change(part, &builder)
            try folder.write(builder.bytes, Self.name(part))
        }
        return whole
    }

    @Test("any part opens the whole model", arguments: 1...3)
    func opens(part: Int) throws {
        let whole = try writeParts()
        let file = try GGUFFile(path: folder.file(Self.name(part)), architectures: Family.architectures)
        let expected = try GGUFFile(path: folder.write(whole.bytes, "whole.gguf"), architectures: Family.architectures)
        #expect(file.formatName == "GGUF v3, 3 parts")
        #expect(file.tensors == expected.tensors)
        #expect(file.configuration == expected.configuration)
        for tensor in expected.tensors {
            #expect(try file.read(tensor.name).elements == expected.read(tensor.name).elements, "\(tensor.name)")
        }
        #expect(Checkpoint.files(of: file.path) == (1...3).map { folder.file(Self.name($0)) })
    }

    @Test("a part that is not there is named", arguments: 1...3)
    func missing(part: Int) throws {
        _ = try writeParts()
        unlink(folder.file(Self.name(part)))
        for other in 1...3 where other != part {
            #expect(throws: CheckpointError.missing(path: folder.file(Self.name(part)))) {
                try GGUFFile(path: folder.file(Self.name(other)), architectures: Family.architectures)
            }
        }
    }

    private func expect(says words: String..., change: (Int, inout GGUFBuilder) -> Void) throws {
        _ = try writeParts(change: change)
        #expect {
            try GGUFFile(path: folder.file(Self.name(1)), architectures: Family.architectures)
        } throws: { error in
            words.allSatisfy { "\(error)".contains($0) }
        }
    }

    @Test("parts that do not belong together")
    func mismatches() throws {
        try expect(says: Self.name(3), "part 2 of 3", "part 3 of 3") { part, builder in
            if part == 3 { builder.set("split.no", .u16(1)) }
        }
        try expect(says: Self.name(2), "part 2 of 4") { part, builder in
            if part == 2 { builder.set("split.count", .u16(4)) }
        }
        try expect(says: "split.no", "found 9") { part, builder in if part == 1 { builder.set("split.no", .u16(9)) } }
        try expect(says: "split.tensors.count", "13") { part, builder in
            if part == 1 { builder.set("split.tensors.count", .i32(13)) }
        }
        try expect(says: "token_embd.weight", Self.name(1), Self.name(2)) { part, builder in
            if part == 2 { builder.tensors[0] = GGUFBuilder.model().tensors[0] }
        }
    }

    @Test("a part under another name")
    func renamed() throws {
        _ = try writeParts()
        let bytes = try folder.bytes(Self.name(2))
        for name in ["part.gguf", Self.name(1, of: 4), "m-2-of-3.gguf"] {
            #expect { try GGUFFile(path: folder.write(bytes, name), architectures: Family.architectures) } throws: {
                "\($0)".contains("-00002-of-00003.gguf")
            }
        }
    }
}
