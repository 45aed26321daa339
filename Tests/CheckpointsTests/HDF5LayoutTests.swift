import Checkpoints
import Foundation
import TestSupport
import Testing

@Suite("HDF5: files of other people")
struct HDF5LayoutTests {
    static let names = [
        "lm_head.weight", "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
        "model.layers.2.self_attn.q_proj.weight", "model.layers.10.self_attn.q_proj.weight", "model.norm.weight",
    ]
    static let shapes = [[5, 3], [5, 3], [3, 3], [3, 3], [3, 3], [3]]
    static let configuration = #"{"hidden_size": 3, "note": "größer"}"#

    @Test(
        "Every layout gives the canonical names in the layers' order, and every element",
        arguments: [
            "flat-root", "flat-weights", "flat-state_dict", "flat-other", "nested-root", "nested-group", "nested-bare",
            "bare-root", "bare-model", "wrapped", "reference",
        ])
    func layout(file: String) throws {
        let checkpoint = try HDF5Checkpoint(path: hdf5Fixture(file))
        #expect(checkpoint.tensors.map(\.name) == Self.names)
        #expect(checkpoint.tensors.map(\.shape) == Self.shapes)
        for info in checkpoint.tensors {
            #expect(try checkpoint.values(info.name) == fixtureValues(info.name, count: info.count), "\(info.name)")
            #expect(info.storedType == "f32")
            #expect(info.storedBytes == info.count * 4)
        }
        #expect(checkpoint.provenance == nil)
    }

    @Test("Every place of the configuration is found")
    func configuration() throws {
        for file in ["flat-root", "flat-weights", "flat-state_dict", "flat-other", "nested-root"] {
            #expect(try HDF5Checkpoint(path: hdf5Fixture(file)).configuration == Self.configuration, "\(file)")
        }
        #expect(try HDF5Checkpoint(path: hdf5Fixture("bare-root")).configuration == nil)
    }

    @Test("A config.json beside the file counts if the file has none, a given one always")
    func configurationFiles() throws {
        let folder = try TemporaryFolder()
        for name in ["bare-root", "flat-root"] {
            try write(bytes(of: hdf5Fixture(name)), to: folder.file(name + ".h5"))
        }
        try write("beside".utf8, to: folder.file("config.json"))
        try write("given".utf8, to: folder.file("other.json"))
        #expect(try HDF5Checkpoint(path: folder.file("bare-root.h5")).configuration == "beside")
        #expect(try HDF5Checkpoint(path: folder.file("flat-root.h5")).configuration == Self.configuration)
        let given = try HDF5Checkpoint(path: folder.file("flat-root.h5"), configurationPath: folder.file("other.json"))
        #expect(given.configuration == "given")
        let error = checkpointError {
            _ = try HDF5Checkpoint(path: folder.file("flat-root.h5"), configurationPath: folder.file("none.json"))
        }
        #expect(error == .missing(path: folder.file("none.json")))
    }

    @Test("GPT-2 keeps its names, and gradients beside the model are not taken for it")
    func gpt2() throws {
        let checkpoint = try HDF5Checkpoint(path: hdf5Fixture("gpt2"))
        #expect(checkpoint.tensors.map(\.name) == ["transformer.h.0.attn.c_attn.weight", "transformer.wte.weight"])
        #expect(try checkpoint.values("transformer.wte.weight") == fixtureValues("transformer.wte.weight", count: 15))
    }

    @Test("Unknown names are taken as they are if there is one place for them")
    func otherFamily() throws {
        let checkpoint = try HDF5Checkpoint(path: hdf5Fixture("other-family"))
        #expect(checkpoint.tensors.map(\.name) == ["encoder.weight"])
    }

    @Test("Two models in one file, one tensor twice, and no weights at all are errors that say so")
    func ambiguous() throws {
        let two = try #require(checkpointError { _ = try HDF5Checkpoint(path: hdf5Fixture("two")) })
        #expect(two.description.contains("/one, /other"))
        let twice = try #require(checkpointError { _ = try HDF5Checkpoint(path: hdf5Fixture("twice")) })
        #expect(twice.description.contains("model.norm.weight: stored twice"))
        let nothing = try #require(checkpointError { _ = try HDF5Checkpoint(path: hdf5Fixture("nothing")) })
        #expect(nothing.description.contains("/labels"))
    }

    @Test("A tokenizer whose kind is not said is recognised")
    func tokenizer() throws {
        let found = try HDF5Checkpoint(path: hdf5Fixture("flat-state_dict")).tokenizer()
        #expect(found == .tokenizerJSON(Array(#"{"model": {}}"#.utf8)))
        #expect(try HDF5Checkpoint(path: hdf5Fixture("flat-root")).tokenizer() == nil)
    }

    @Test("CoLA-M names become the canonical ones")
    func colaM() throws {
        let folder = try TemporaryFolder()
        let canonical = [
            "model.embed_tokens.weight", "model.layers.0.mlp.down_proj.cola_b",
            "model.layers.0.self_attn.q_proj.cola_a", "model.layers.1.mlp.down_proj.cola_b",
        ]
        let writer = try CheckpointWriter(
            path: folder.file("m.h5"), configuration: "{}", provenance: "{}", tokenizer: nil)
        for name in canonical {
            let published = PublishedNames.colaM(name, layers: 2)
            try writer.write(published, .init(shape: [2, 3], fixtureValues(name, count: 6)))
        }
        try writer.finish()
        let checkpoint = try HDF5Checkpoint(path: folder.file("m.h5"))
        #expect(checkpoint.tensors.map(\.name) == canonical)
        for name in canonical { #expect(try checkpoint.values(name) == fixtureValues(name, count: 6)) }
    }
}
