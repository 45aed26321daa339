import Checkpoints
import Files
import Foundation
import Tensors
import TestSupport
import Testing

@Suite("HDF5: writing checkpoints")
struct HDF5WritingTests {
    static let special: [Float] = [
        0, -0.0, 1, -1, 0.1, 1 / 3, .pi, 65504, -65504, .infinity, -.infinity, .leastNonzeroMagnitude,
        -.leastNonzeroMagnitude, .leastNormalMagnitude, Float(bitPattern: 0x7F_FFFF), 0x1p-24, 0x1p-25, 0x1.8p-25,
        6.1e-5, 0x1.01p0, 0x1.03p0, Float(bitPattern: 0x1234), -1e-30, 12345.678, 1e4,
    ]

    /// What a number becomes in a stored type, in single precision, by arithmetic of this test's own.
    static func rounded(_ value: Float, _ type: ElementType) -> Float {
        switch type {
        case .f32, .f64: return value
        case .f16: return Float(Float16(value))
        case .bf16:
            guard value.isFinite else { return value }
            let low = value.bitPattern & 0xFFFF
            let down = value.bitPattern & ~0xFFFF
            let isUp = low > 0x8000 || (low == 0x8000 && down & 0x10000 != 0)
            return Float(bitPattern: isUp ? down + 0x10000 : down)
        }
    }

    static func writer(_ path: String, type: ElementType = .f32, deflate: Int? = nil) throws -> CheckpointWriter {
        try CheckpointWriter(
            path: path, configuration: #"{"ä": 1}"#, provenance: #"{"seed": 7}"#,
            tokenizer: .sentencepiece([10, 0, 255, 123]), type: type, deflate: deflate)
    }

    @Test("Every element comes back as it is rounded", arguments: ElementType.allCases, [nil, 1, 9])
    func roundTrip(type: ElementType, deflate: Int?) throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.h5")
        let tensor = Matrix(shape: [5, 5], Self.special)
        let writer = try Self.writer(path, type: type, deflate: deflate)
        try writer.write("model.norm.weight", tensor)
        #expect(folder.contents.allSatisfy { $0 != "a.h5" }, "nothing has the final name before it is complete")
        try writer.finish()
        #expect(folder.contents == ["a.h5"])
        let checkpoint = try HDF5Checkpoint(path: path)
        #expect(checkpoint.formatName == "cola checkpoint (HDF5)")
        #expect(checkpoint.configuration == #"{"ä": 1}"#)
        #expect(checkpoint.provenance == #"{"seed": 7}"#)
        #expect(try checkpoint.tokenizer() == .sentencepiece([10, 0, 255, 123]))
        #expect(checkpoint.tensors.map(\.storedType) == [type.rawValue])
        let expected = Self.special.map { Self.rounded($0, type).bitPattern }
        try expectEqual(checkpoint.bits("model.norm.weight"), expected)
        try expectEqual(checkpoint.bits("model.norm.weight", rows: 1..<3), Array(expected[5..<15]))
    }

    @Test("NaN stays NaN, in single precision with its payload", arguments: ElementType.allCases)
    func notANumber(type: ElementType) throws {
        let folder = try TemporaryFolder()
        let patterns: [UInt32] = [0x7FC0_0000, 0xFFC0_0000, 0x7FC1_2345]
        let writer = try Self.writer(folder.file("a.h5"), type: type)
        try writer.write("x.weight", Matrix(shape: [3], patterns.map { Float(bitPattern: $0) }))
        try writer.finish()
        let checkpoint = try HDF5Checkpoint(path: folder.file("a.h5"))
        #expect(try checkpoint.values("x.weight").allSatisfy(\.isNaN))
        if type == .f32 || type == .f64 { try expectEqual(checkpoint.bits("x.weight"), patterns) }
    }

    @Test(
        "Tensors of many chunks, by rows that do not divide them",
        arguments: [[1031, 523], [3, 400_009], [700_001], [11, 7, 4099], [1, 1], [], [0, 3], [3, 0]])
    func shapes(shape: [Int]) throws {
        let folder = try TemporaryFolder()
        let tensor = Matrix(uninitialized: shape)
        for i in 0..<tensor.count { tensor.pointer[i] = Float(i) * 0.5 }
        let writer = try Self.writer(folder.file("a.h5"))
        try writer.write("whole.weight", tensor)
        let width = shape.dropFirst().reduce(1, *)
        var next = 0
        try writer.write("rows.weight", shape: shape) { rows, buffer in
            #expect(rows.lowerBound == next && buffer.count == rows.count * width)
            next = rows.upperBound
            for i in 0..<buffer.count { buffer[i] = Float(rows.lowerBound * width + i) * 0.5 }
        }
        #expect(next == (tensor.count == 0 ? 0 : shape.first ?? 1))
        try writer.finish()
        let checkpoint = try HDF5Checkpoint(path: folder.file("a.h5"))
        for name in ["whole.weight", "rows.weight"] {
            #expect(checkpoint.info(name)?.shape == shape)
            let values = try checkpoint.values(name)
            #expect(values.indices.first { values[$0] != Float($0) * 0.5 } == nil)
        }
    }

    @Test("Equal input gives equal bytes")
    func deterministic() throws {
        let folder = try TemporaryFolder()
        for name in ["a.h5", "b.h5"] {
            let writer = try Self.writer(folder.file(name), type: .bf16)
            try writer.write("model.norm.weight", Matrix(shape: [25], Self.special))
            try writer.finish()
        }
        try expectEqual(bytes(of: folder.file("a.h5")), bytes(of: folder.file("b.h5")))
    }

    @Test("Texts longer than an attribute once could be")
    func longTexts() throws {
        let folder = try TemporaryFolder()
        let text = String(repeating: "0123456789", count: 20_000)
        let writer = try CheckpointWriter(
            path: folder.file("a.h5"), configuration: text, provenance: "", tokenizer: .tokenizerJSON([]))
        try writer.finish()
        let checkpoint = try HDF5Checkpoint(path: folder.file("a.h5"))
        #expect(checkpoint.configuration == text)
        #expect(checkpoint.provenance == "")
        #expect(try checkpoint.tokenizer() == .tokenizerJSON([]))
        #expect(checkpoint.tensors.isEmpty)
    }

    @Test("A flipped byte of a chunk is an error that names the file and the tensor; others stay readable")
    func flippedByte() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.h5")
        let writer = try Self.writer(path)
        try writer.write("good.weight", Matrix(shape: [4], [1, 2, 3, 4]))
        try writer.write("bad.weight", Matrix(shape: [4], [9.75, 8.5, 7.25, 6.125]))
        try writer.finish()
        var content = try bytes(of: path)
        let pattern = [Float(8.5), 7.25].withUnsafeBytes { Array($0) }
        let place = try #require(content.indices.dropLast(8).first { Array(content[$0..<$0 + 8]) == pattern })
        content[place + 5] ^= 0x10
        try write(content, to: path)
        let checkpoint = try HDF5Checkpoint(path: path)
        guard case .unreadable(path, let reason) = checkpointError({ _ = try checkpoint.values("bad.weight") }) else {
            Issue.record("the damage was not found")
            return
        }
        #expect(reason.contains("bad.weight") && reason.contains("hecksum"), "\(reason)")
        #expect(try checkpoint.values("good.weight") == [1, 2, 3, 4])
    }

    @Test("No flipped byte of a file changes a tensor or a text unnoticed")
    func everyByte() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.h5")
        let writer = try Self.writer(path, type: .bf16)
        try writer.write("model.norm.weight", Matrix(shape: [5, 5], Self.special))
        try writer.finish()
        let whole = try bytes(of: path)
        let expected = try HDF5Checkpoint(path: path).bits("model.norm.weight")
        var noticed = 0
        for place in stride(from: 0, to: whole.count, by: 2) {
            var content = whole
            content[place] ^= 0x41
            try write(content, to: path)
            let error = checkpointError {
                let checkpoint = try HDF5Checkpoint(path: path)
                #expect(checkpoint.tensors.map(\.name) == ["model.norm.weight"], "byte \(place)")
                #expect(checkpoint.configuration == #"{"ä": 1}"#, "byte \(place)")
                #expect(checkpoint.provenance == #"{"seed": 7}"#, "byte \(place)")
                try expectEqual(checkpoint.bits("model.norm.weight"), expected, "byte \(place)")
            }
            if error != nil { noticed += 1 }
        }
        #expect(noticed > 20)
    }

    @Test("A newer format version is refused, as is a folder that cannot be made")
    func cannotStart() throws {
        let newer = try #require(checkpointError { _ = try HDF5Checkpoint(path: hdf5Fixture("newer")) })
        #expect(newer.description.contains("format_version: found 2, expected 1"))
        let folder = try TemporaryFolder()
        try folder.write("", "none")
        let error = checkpointError { _ = try Self.writer(folder.file("none/a.h5")) }
        #expect(error == .cannotWrite(path: folder.file("none/a.h5"), reason: "Not a directory"))
    }

    @Test("Numbers too large for the stored type, names used twice or with a slash: refused, and nothing remains")
    func refused() throws {
        let folder = try TemporaryFolder()
        func problem(_ body: (CheckpointWriter) throws -> Void) throws -> String {
            let writer = try Self.writer(folder.file("a.h5"), type: .f16)
            let error = try #require(checkpointError { try body(writer) })
            #expect(folder.contents == [])
            #expect(throws: CheckpointError.self) { try writer.finish() }
            #expect(folder.contents == [])
            return error.description
        }
        let one = Matrix(shape: [1], [1])
        #expect(try problem { try $0.write("x.weight", Matrix(shape: [2], [1, 70000])) }.contains("too large for f16"))
        #expect(try problem { try $0.write("a/b", one) }.contains("a/b"))
        #expect(try problem { for _ in 0..<2 { try $0.write("x.weight", one) } }.contains("written twice"))
    }

    @Test("A writer that is thrown away, or whose rows cannot be had, leaves nothing")
    func abandoned() throws {
        struct NoRows: Error {}
        let folder = try TemporaryFolder()
        do {
            let writer = try Self.writer(folder.file("a.h5"))
            try writer.write("x.weight", Matrix(shape: [1], [1]))
        }
        #expect(folder.contents == [])
        let writer = try Self.writer(folder.file("a.h5"))
        #expect(throws: NoRows.self) { try writer.write("x.weight", shape: [3, 2]) { _, _ in throw NoRows() } }
        #expect(folder.contents == [])
    }

    @Test("An existing file stays as it was until the new one is complete")
    func replaces() throws {
        let folder = try TemporaryFolder()
        for value in [Float(1), 2] {
            let writer = try Self.writer(folder.file("a.h5"))
            try writer.write("x.weight", Matrix(shape: [1], [value]))
            if value == 2 { #expect(try HDF5Checkpoint(path: folder.file("a.h5")).values("x.weight") == [1]) }
            try writer.finish()
        }
        #expect(try HDF5Checkpoint(path: folder.file("a.h5")).values("x.weight") == [2])
    }

    @Test("A process started while a file is written does not keep it from being read back")
    func inherited() throws {
        let folder = try TemporaryFolder()
        let writer = try Self.writer(folder.file("a.h5"))
        try writer.write("x.weight", Matrix(shape: [1], [1]))
        // Has the open file too, as the library does not close it for other programs, and holds it for a while.
        var child = pid_t()
        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("60"), nil]
        defer { for argument in arguments { free(argument) } }
        try #require(posix_spawn(&child, "/bin/sleep", nil, nil, &arguments, nil) == 0)
        defer {
            kill(child, SIGKILL)
            waitpid(child, nil, 0)
        }
        try writer.finish()
        #expect(try HDF5Checkpoint(path: folder.file("a.h5")).values("x.weight") == [1])
    }
}
