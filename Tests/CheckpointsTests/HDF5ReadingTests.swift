import Checkpoints
import Files
import Foundation
import TestSupport
import Testing

@Suite("HDF5: reading tensors")
struct HDF5ReadingTests {
    @Test(
        "All element types in both byte orders give their values",
        arguments: [
            ("f8.le", "f64", 8), ("f8.be", "f64", 8), ("f4.le", "f32", 4), ("f4.be", "f32", 4), ("f2.le", "f16", 2),
            ("f2.be", "f16", 2), ("bf16.le", "bf16", 2), ("bf16.be", "bf16", 2),
        ])
    func types(name: String, type: String, bytes: Int) throws {
        let checkpoint = try HDF5Checkpoint(path: hdf5Fixture("types"))
        let name = "model.layers.0." + name
        let info = try #require(checkpoint.info(name))
        #expect(info.storedType == type)
        #expect(info.storedBytes == 35 * bytes)
        #expect(try checkpoint.values(name) == fixtureValues(name, count: 35))
    }

    @Test("Chunks with and without filters, whole and by rows, give the same elements")
    func rows() throws {
        let checkpoint = try HDF5Checkpoint(path: hdf5Fixture("types"))
        let names = checkpoint.tensors.map(\.name).filter { $0.hasPrefix("model.layers.1.") }
        #expect(names.count == 4)
        for name in names + ["model.layers.0.bf16.be", "model.layers.0.f8.be", "model.layers.0.f4.le"] {
            let whole = fixtureValues(name, count: 35)
            #expect(try checkpoint.values(name) == whole, "\(name)")
            for first in 0...7 {
                for end in first...7 {
                    let part = try checkpoint.values(name, rows: first..<end)
                    #expect(part == Array(whole[first * 5..<end * 5]), "\(name) rows \(first)..<\(end)")
                }
            }
        }
    }

    @Test("Scalars and empty tensors")
    func odd() throws {
        let checkpoint = try HDF5Checkpoint(path: hdf5Fixture("types"))
        #expect(checkpoint.info("model.layers.2.scalar")?.shape == [])
        let scalar = try checkpoint.values("model.layers.2.scalar")
        #expect(scalar == fixtureValues("model.layers.2.scalar", count: 1))
        #expect(checkpoint.info("model.layers.2.empty")?.shape == [0, 4])
        #expect(try checkpoint.values("model.layers.2.empty") == [])
    }

    @Test("Other element types are named with what was expected")
    func wrongType() throws {
        let path = hdf5Fixture("types")
        let checkpoint = try HDF5Checkpoint(path: path)
        #expect(checkpoint.info("model.layers.2.integers")?.storedType == "i64")
        let error = checkpointError { _ = try checkpoint.values("model.layers.2.integers") }
        #expect(
            error
                == .invalid(
                    path: path, place: "model.layers.2.integers", found: "signed 64-bit integers",
                    expected: "f64, f32, f16, bf16"))
        let extended = try #require(checkpointError { _ = try checkpoint.values("model.layers.2.extended") })
        #expect(extended.description.contains("model.layers.2.extended"))
    }

    @Test("What was never written is not read as zeros")
    func unwritten() throws {
        let checkpoint = try HDF5Checkpoint(path: hdf5Fixture("types"))
        let nothing = try #require(checkpointError { _ = try checkpoint.values("model.layers.3.unwritten") })
        #expect(nothing.description.contains("model.layers.3.unwritten: nothing was ever written"))
        let partly = try #require(checkpointError { _ = try checkpoint.values("model.layers.3.partly") })
        #expect(partly.description.contains("model.layers.3.partly: only 2 of its 8 chunks"))
    }

    @Test("A name of another case is another name")
    func missingTensor() throws {
        let path = hdf5Fixture("flat-root")
        let checkpoint = try HDF5Checkpoint(path: path)
        #expect(checkpoint.info("model.Norm.weight") == nil)
        let error = checkpointError { _ = try checkpoint.values("model.Norm.weight") }
        #expect(error == .tensors(path: path, problems: ["model.Norm.weight: missing"]))
    }

    @Test("Files that are missing, folders, empty or something else")
    func notHDF5() throws {
        let folder = try TemporaryFolder()
        #expect(
            checkpointError { _ = try HDF5Checkpoint(path: folder.file("none.h5")) }
                == .missing(path: folder.file("none.h5")))
        #expect(
            checkpointError { _ = try HDF5Checkpoint(path: folder.path) }
                == .unreadable(path: folder.path, reason: "it is a folder, not an HDF5 file"))
        try write([], to: folder.file("empty.h5"))
        #expect(
            checkpointError { _ = try HDF5Checkpoint(path: folder.file("empty.h5")) }
                == .unreadable(path: folder.file("empty.h5"), reason: "the file is empty (0 bytes)"))
        try write(Array(repeating: 65, count: 5000), to: folder.file("text.h5"))
        #expect(
            checkpointError { _ = try HDF5Checkpoint(path: folder.file("text.h5")) }
                == .unreadable(path: folder.file("text.h5"), reason: "not an HDF5 file"))
    }

    @Test("A file cut anywhere is unreadable, with both sizes", arguments: ["types", "flat-root", "reference"])
    func truncated(file: String) throws {
        let folder = try TemporaryFolder()
        let whole = try bytes(of: hdf5Fixture(file))
        let path = folder.file("cut.h5")
        for size in Array(stride(from: 1, to: whole.count, by: 311)) + [whole.count - 1] {
            try write(whole[..<size], to: path)
            let error = checkpointError { _ = try HDF5Checkpoint(path: path) }
            guard case .unreadable(path, let reason) = error else {
                Issue.record("cut to \(size) bytes: \(String(describing: error))")
                continue
            }
            if size >= 48 { #expect(reason.contains("\(size) bytes of \(whole.count)"), "\(reason)") }
        }
    }

    @Test("Reading goes on after an error")
    func afterError() throws {
        let checkpoint = try HDF5Checkpoint(path: hdf5Fixture("types"))
        for _ in 0..<3 {
            #expect(throws: CheckpointError.self) { try checkpoint.values("model.layers.3.partly") }
            let name = "model.layers.1.shufflex"
            #expect(try checkpoint.values(name) == fixtureValues(name, count: 35))
        }
    }
}
