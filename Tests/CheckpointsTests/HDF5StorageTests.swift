import CHDF5
import Foundation
import TestSupport
import Testing

@testable import Checkpoints

/// Files whose elements are elsewhere, or nowhere: the library answers zeros for most of them.
@Suite("HDF5: elements that are not in the file")
struct HDF5StorageTests {
    static let weight = "model.layers.0.mlp.up_proj.weight"
    static let shape = [6, 4]
    static let values = (0..<24).map { Float($0) + 0.5 }

    let place: TemporaryFolder
    private var path: String { place.file("m.h5") }

    init() throws { place = try TemporaryFolder() }

    /// A file of two tensors and a tokenizer, after a change to it by the library.
    private func make(_ change: (hid_t) throws -> Void) throws -> HDF5Checkpoint {
        // A file that is still open cannot be written anew.
        unlink(path)
        try makeFile(path, change)
        return try HDF5Checkpoint(path: path)
    }

    private func makeFile(_ path: String, _ change: (hid_t) throws -> Void) throws {
        try HDF5Library.locked {
            let file = try HDF5Handle(H5Fcreate(path, chdf5_truncate(), 0, 0), closing: H5Fclose)
            try Self.write(file.id, "model.norm.weight", shape: [3], values: [1, 2, 3])
            try change(file.id)
        }
    }

    /// A dataset with these creation properties; elements are written from the first on.
    private static func write(
        _ file: hid_t, _ name: String, shape: [Int], values: [Float], _ properties: (hid_t) throws -> Void = { _ in }
    ) throws {
        let space = try HDF5Handle(
            H5Screate_simple(Int32(shape.count), shape.map { hsize_t($0) }, nil), closing: H5Sclose)
        let creation = try HDF5Handle(H5Pcreate(chdf5_dataset_create_class()), closing: H5Pclose)
        try properties(creation.id)
        let dataset = try HDF5Handle(
            H5Dcreate2(file, name, chdf5_ieee_f32(), space.id, 0, creation.id, 0), closing: H5Dclose)
        guard !values.isEmpty else { return }
        let count = values.count / shape.dropFirst().reduce(1, *)
        let memory = try space.select(rows: 0..<count, of: shape)
        try HDF5Library.check(H5Dwrite(dataset.id, chdf5_native_float(), memory.id, space.id, 0, values))
    }

    private static func chunk(_ extents: [Int]) -> (hid_t) throws -> Void {
        { try HDF5Library.check(H5Pset_chunk($0, Int32(extents.count), extents.map { hsize_t($0) })) }
    }

    /// Maps the first rows of a dataset to one in another file.
    private static func map(_ rows: Int, to file: String, _ dataset: String) -> (hid_t) throws -> Void {
        { creation in
            let whole = try HDF5Handle(
                H5Screate_simple(2, shape.map { hsize_t($0) }, nil), closing: H5Sclose)
            let source = try whole.select(rows: 0..<rows, of: shape)
            try HDF5Library.check(H5Pset_virtual(creation, whole.id, file, dataset, source.id))
        }
    }

    /// Reading the tensor must fail with words that name it and all of these; another tensor is read as ever.
    private func expectRefused(
        _ checkpoint: HDF5Checkpoint, _ words: String..., isListed: Bool = true,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let error = checkpointError { _ = try checkpoint.values(Self.weight) }
        let text = try #require(error, "it was read", sourceLocation: sourceLocation).description
        for word in [path, Self.weight] + words {
            #expect(text.contains(word), "\(word) in: \(text)", sourceLocation: sourceLocation)
        }
        let obstacle = checkpoint.info(Self.weight)?.obstacle
        #expect((obstacle != nil) == isListed, sourceLocation: sourceLocation)
        #expect(try checkpoint.values("model.norm.weight") == [1, 2, 3], sourceLocation: sourceLocation)
    }

    // MARK: - Mapped and kept elsewhere

    @Test("A virtual dataset: its source there, gone, without the dataset, half of it mapped", arguments: 0..<4)
    func virtual(_ kind: Int) throws {
        try makeFile(place.file("source.h5")) {
            try Self.write($0, "w", shape: Self.shape, values: Self.values)
        }
        let (rows, file, dataset) = [
            (6, "source.h5", "w"), (6, "nosuch.h5", "w"), (6, "source.h5", "none"), (3, "source.h5", "w"),
        ][kind]
        let checkpoint = try make {
            try Self.write($0, Self.weight, shape: Self.shape, values: [], Self.map(rows, to: file, dataset))
        }
        let absence = file == "nosuch.h5" ? " (no such file)" : ""
        try expectRefused(checkpoint, "a virtual dataset, mapped from \(dataset) in \(file)\(absence); ")
    }

    @Test("A virtual dataset that grows with sources of numbered names, none of which is there")
    func numbered() throws {
        let checkpoint = try make { file in
            let unlimited = hsize_t.max
            let space = try HDF5Handle(H5Screate_simple(2, [6, 4], [unlimited, 4]), closing: H5Sclose)
            let mapped = try HDF5Handle(H5Scopy(space.id), closing: H5Sclose)
            try HDF5Library.check(
                H5Sselect_hyperslab(mapped.id, H5S_SELECT_SET, [0, 0], [2, 4], [unlimited, 1], [2, 4]))
            let source = try HDF5Handle(H5Screate_simple(2, [2, 4], nil), closing: H5Sclose)
            let creation = try HDF5Handle(H5Pcreate(chdf5_dataset_create_class()), closing: H5Pclose)
            try HDF5Library.check(H5Pset_virtual(creation.id, mapped.id, "part-%b.h5", "w", source.id))
            _ = try HDF5Handle(
                H5Dcreate2(file, Self.weight, chdf5_ieee_f32(), space.id, 0, creation.id, 0), closing: H5Dclose)
        }
        #expect(checkpoint.info(Self.weight)?.obstacle?.contains("mapped from w in part-%b.h5; ") == true)
        try expectRefused(checkpoint, "a virtual dataset")
    }

    @Test("External storage: the file there, gone, too short", arguments: [96, nil, 40])
    func external(bytes: Int?) throws {
        let checkpoint = try make {
            try Self.write($0, Self.weight, shape: Self.shape, values: []) {
                try HDF5Library.check(H5Pset_external($0, "raw.bin", 0, 96))
            }
        }
        if let bytes { try place.write([UInt8](repeating: 1, count: bytes), "raw.bin") }
        // The directory was read before the file was there.
        try expectRefused(checkpoint, "its elements are kept outside, in raw.bin")
        let again = try HDF5Checkpoint(path: path)
        try expectRefused(again, "raw.bin\(bytes == nil ? " (no such file)" : ""); ")
    }

    // MARK: - Links

    @Test("A soft link within the file is followed; a hard link is the same tensor")
    func followed() throws {
        let checkpoint = try make { file in
            let group = try HDF5Handle(H5Gcreate2(file, "parts", 0, 0, 0), closing: H5Gclose)
            try Self.write(group.id, "w", shape: Self.shape, values: Self.values)
            try HDF5Library.check(H5Lcreate_soft("/parts/./w", file, "alias", 0, 0))
            try HDF5Library.check(H5Lcreate_soft("alias", file, Self.weight, 0, 0))
        }
        #expect(try checkpoint.values(Self.weight) == Self.values)
        #expect(checkpoint.info(Self.weight)?.obstacle == nil)
    }

    @Test("Links that lead nowhere, in a circle, into another file, or there by a soft link", arguments: 0..<4)
    func notFollowed(_ kind: Int) throws {
        try makeFile(place.file("source.h5")) {
            try Self.write($0, "w", shape: Self.shape, values: Self.values)
        }
        let checkpoint = try make { file in
            switch kind {
            case 0: try HDF5Library.check(H5Lcreate_soft("/nowhere/w", file, Self.weight, 0, 0))
            case 1:
                try HDF5Library.check(H5Lcreate_soft("/other", file, Self.weight, 0, 0))
                try HDF5Library.check(H5Lcreate_soft(Self.weight, file, "other", 0, 0))
            case 2: try HDF5Library.check(H5Lcreate_external("source.h5", "/w", file, Self.weight, 0, 0))
            default:
                try HDF5Library.check(H5Lcreate_external("source.h5", "/", file, "away", 0, 0))
                try HDF5Library.check(H5Lcreate_soft("/away/w", file, Self.weight, 0, 0))
            }
        }
        let words = [
            "a soft link to /nowhere/w, where nothing is", "that leads in a circle",
            "an external link to /w in source.h5",
            "a soft link to /away/w: an external link to / in source.h5",
        ]
        try expectRefused(checkpoint, words[kind])
        #expect(checkpoint.info(Self.weight)?.shape == [])
    }

    @Test("A group of tensors behind a link is named; links that are no tensors stop nothing")
    func groups() throws {
        let checkpoint = try make { file in
            try HDF5Library.check(H5Lcreate_external("source.h5", "/model/layers", file, "model.layers", 0, 0))
            try HDF5Library.check(H5Lcreate_external("nosuch.h5", "/", file, "extra", 0, 0))
            try HDF5Library.check(H5Lcreate_soft("/nowhere", file, "tokenizer", 0, 0))
        }
        #expect(checkpoint.tensors.map(\.name) == ["model.layers", "model.norm.weight"])
        let obstacle = "an external link to /model/layers in source.h5"
        #expect(checkpoint.info("model.layers")?.obstacle?.hasPrefix(obstacle) == true)
        #expect(try checkpoint.values("model.norm.weight") == [1, 2, 3])
        let error = try #require(checkpointError { _ = try checkpoint.tokenizer() })
        #expect(error.description.hasSuffix("/tokenizer: a soft link to /nowhere, where nothing is"))
    }

    @Test("A configuration behind a link, and one that was never written, are errors that name it")
    func configuration() throws {
        let linked = checkpointError {
            _ = try make { try HDF5Library.check(H5Lcreate_external("c.h5", "/c", $0, "config", 0, 0)) }
        }
        #expect(linked?.description.contains("/config: an external link to /c in c.h5; ") == true)
        let empty = checkpointError {
            _ = try make { try Self.write($0, "config", shape: [8], values: []) }
        }
        #expect(empty?.description.contains("/config: nothing was ever written") == true)
    }

    // MARK: - Never written

    @Test("What was never written is an error, whatever the fill value, and what was is none")
    func unwritten() throws {
        let nothing = try make {
            try Self.write($0, Self.weight, shape: Self.shape, values: []) { creation in
                var value: Float = 0.25
                try HDF5Library.check(H5Pset_fill_value(creation, chdf5_native_float(), &value))
            }
        }
        try expectRefused(nothing, "nothing was ever written")
        let part = try make {
            try Self.write($0, Self.weight, shape: Self.shape, values: Array(Self.values[..<8]), Self.chunk([2, 3]))
        }
        try expectRefused(part, "only 2 of its 6 chunks were ever written", isListed: false)
        let grown = try make { file in
            let space = try HDF5Handle(H5Screate_simple(2, [2, 4], [.max, 4]), closing: H5Sclose)
            let creation = try HDF5Handle(H5Pcreate(chdf5_dataset_create_class()), closing: H5Pclose)
            try Self.chunk([2, 4])(creation.id)
            let dataset = try HDF5Handle(
                H5Dcreate2(file, Self.weight, chdf5_ieee_f32(), space.id, 0, creation.id, 0), closing: H5Dclose)
            try HDF5Library.check(H5Dwrite(dataset.id, chdf5_native_float(), 0, 0, 0, Self.values))
            try HDF5Library.check(H5Dset_extent(dataset.id, [6, 4]))
        }
        try expectRefused(grown, "only 1 of its 3 chunks were ever written", isListed: false)
        let whole = try make {
            try Self.write($0, Self.weight, shape: Self.shape, values: Self.values, Self.chunk([4, 3]))
        }
        #expect(try whole.values(Self.weight) == Self.values)
        let empty = try make { try Self.write($0, Self.weight, shape: [0, 4], values: []) }
        #expect(try empty.values(Self.weight) == [] && empty.info(Self.weight)?.obstacle == nil)
    }

    // MARK: - Token ids and moments

    @Test("Token ids are held to the same: mapped, outside, linked and never written ones")
    func tokens() throws {
        try HDF5Library.locked {
            let file = try HDF5Handle(H5Fcreate(path, chdf5_truncate(), 0, 0), closing: H5Fclose)
            let space = try HDF5Handle(H5Screate_simple(1, [4], nil), closing: H5Sclose)
            func create(_ name: String, _ properties: (hid_t) throws -> Void) throws {
                let creation = try HDF5Handle(H5Pcreate(chdf5_dataset_create_class()), closing: H5Pclose)
                try properties(creation.id)
                _ = try HDF5Handle(
                    H5Dcreate2(file.id, name, chdf5_std_u32(), space.id, 0, creation.id, 0), closing: H5Dclose)
            }
            try create("virtual") { try HDF5Library.check(H5Pset_virtual($0, space.id, "nosuch.h5", "t", space.id)) }
            try create("outside") { try HDF5Library.check(H5Pset_external($0, "raw.bin", 0, 16)) }
            try create("empty") { _ in }
            try HDF5Library.check(H5Lcreate_external("other.h5", "/t", file.id, "linked", 0, 0))
            try HDF5Library.check(H5Lcreate_soft("/none", file.id, "dangling", 0, 0))
        }
        for (dataset, words) in [
            ("virtual", "a virtual dataset, mapped from t in nosuch.h5 (no such file)"), ("outside", "raw.bin"),
            ("empty", "nothing was ever written"), ("linked", "an external link to /t in other.h5"),
            ("dangling", "a soft link to /none, where nothing is"),
        ] {
            let error = try #require(
                checkpointError { _ = try HDF5Dataset.readIntegers(path: path, dataset: "/" + dataset) }, "\(dataset)")
            #expect(error.description.hasPrefix("\(path): /\(dataset): "), "\(error)")
            #expect(error.description.contains(words), "\(error)")
        }
        let error = checkpointError { _ = try HDF5Dataset.readIntegers(path: path, dataset: "/none") }
        #expect(error?.description.contains("one of /empty, /outside, /virtual") == true)
    }

    @Test("Moments behind a link are an error that names them")
    func moments() throws {
        let writer = try ArrayWriter(path: path, format: "test", texts: [])
        try writer.write(["input", "a"], [1, 2, 3])
        try writer.finish()
        try HDF5Library.locked {
            let file = try HDF5Handle(H5Fopen(path, UInt32(H5F_ACC_RDWR_VALUE), 0), closing: H5Fclose)
            try HDF5Library.check(H5Lcreate_external("other.h5", "/a", file.id, "input/b", 0, 0))
        }
        let file = try ArrayFile(path: path, format: "test", texts: [])
        #expect(try file.read(["input", "a"], count: 3) == [1, 2, 3])
        let error = try #require(checkpointError { _ = try file.read(["input", "b"], count: 3) })
        #expect(error.description.hasPrefix("\(path): /input/b: an external link to /a in other.h5; "), "\(error)")
    }

    @Test("A file that holds more than the token ids to be written is found out")
    func otherDatasets() throws {
        #expect(checkpointError { try HDF5Dataset.requireNoOthers(path: path, dataset: "/train") } == nil)
        try HDF5Dataset.writeIntegers(path: path, dataset: "/train", shape: [3], values: [1, 2, 3])
        #expect(checkpointError { try HDF5Dataset.requireNoOthers(path: path, dataset: "train") } == nil)
        let error = try #require(
            checkpointError { try HDF5Dataset.requireNoOthers(path: path, dataset: "/valid") })
        #expect(error.description.contains("cannot write: it holds /train, which would be gone"), "\(error)")
        try place.write("no HDF5", "m.h5")
        #expect(checkpointError { try HDF5Dataset.requireNoOthers(path: path, dataset: "/train") } == nil)
    }
}

/// The library's own is a macro that opens it.
private let H5F_ACC_RDWR_VALUE: UInt32 = 1
