import Files
import Foundation
import TestSupport
import Testing

@testable import Checkpoints

@Suite("Where a model is: hub caches, links, stand-ins") struct PlaceTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// A hub's cache of one model with these revisions, each a folder of links to blobs.
    private func cache(_ revisions: String..., main: String? = nil) throws {
        for name in [
            "hub", "hub/models--a--b", "hub/models--a--b/blobs", "hub/models--a--b/refs", "hub/models--a--b/snapshots",
        ] {
            try folder.makeFolder(name)
        }
        let root = "hub/models--a--b"
        let weights: [(name: String, shape: [Int], values: [Float])] = [("model.norm.weight", [2], [1, 2])]
        _ = try folder.write(safetensors(weights), "\(root)/blobs/1")
        _ = try folder.write("{}", "\(root)/blobs/2")
        _ = try folder.write(#"{"model": {}}"#, "\(root)/blobs/3")
        for revision in revisions {
            try folder.makeFolder("\(root)/snapshots/\(revision)")
            for (file, blob) in [("model.safetensors", 1), ("config.json", 2), ("tokenizer.json", 3)] {
                try FileManager.default.createSymbolicLink(
                    atPath: folder.file("\(root)/snapshots/\(revision)/\(file)"),
                    withDestinationPath: "../../blobs/\(blob)")
            }
        }
        if let main { _ = try folder.write(main + "\n", "\(root)/refs/main") }
    }

    @Test("A cache's folders stand for its one snapshot")
    func oneSnapshot() throws {
        try cache("abc")
        for place in ["", "/", "/snapshots", "/snapshots/", "/snapshots/abc"] {
            let path = folder.file("hub/models--a--b") + place
            #expect(try Checkpoint.open(path).tensors.map(\.name) == ["model.norm.weight"], "\(place)")
            #expect(try Checkpoint.tokenizer(of: path) == .tokenizerJSON(Array(#"{"model": {}}"#.utf8)), "\(place)")
        }
        #expect { try Checkpoint.open(folder.file("hub")) } throws: { "\($0)".contains("holds neither") }
    }

    @Test("Of several snapshots the main revision counts; without one they are named")
    func severalSnapshots() throws {
        try cache("abc", "def")
        let path = folder.file("hub/models--a--b")
        #expect { try Checkpoint.open(path) } throws: { "\($0)".contains("abc, def") }
        _ = try folder.write("def", "hub/models--a--b/refs/main")
        #expect(try Checkpoint.open(path).path.hasSuffix("/snapshots/def"))
        #expect(try Checkpoint.open(path + "/snapshots").path.hasSuffix("/snapshots/def"))
    }

    @Test("A folder around a model's folder says where the model is")
    func around() throws {
        try folder.makeFolder("out")
        try folder.makeFolder("out/checkpoint-7")
        _ = try folder.write("{}", "out/checkpoint-7/config.json")
        #expect { try Checkpoint.open(folder.file("out")) } throws: { "\($0)".contains("in its folder checkpoint-7") }
    }

    @Test("A link whose blob is missing is named with where it leads", arguments: [1, 2, 3])
    func brokenLinks(blob: Int) throws {
        try cache("abc")
        let snapshot = folder.file("hub/models--a--b/snapshots/abc")
        try FileManager.default.removeItem(atPath: folder.file("hub/models--a--b/blobs/\(blob)"))
        let name = ["model.safetensors", "config.json", "tokenizer.json"][blob - 1]
        let expected = CheckpointError.brokenLink(path: "\(snapshot)/\(name)", target: "../../blobs/\(blob)")
        if blob == 3 {
            // Weights are there, and ids need no tokenizer.
            let source = try Checkpoint.open(snapshot)
            #expect(throws: expected) { try source.tokenizer() }
        } else {
            #expect(throws: expected) { try Checkpoint.open(snapshot) }
        }
        #expect(throws: expected) { _ = try MappedFile("\(snapshot)/\(name)") }
        #expect(expected.description.contains("is a link to ../../blobs/\(blob), which is not there"))
    }

    @Test("git-lfs' stand-ins are named", arguments: ["model.safetensors", "config.json", "tokenizer.json"])
    func pointers(name: String) throws {
        _ = try folder.write("{}", "config.json")
        let weights: [(name: String, shape: [Int], values: [Float])] = [("model.norm.weight", [2], [1, 2])]
        _ = try folder.write(safetensors(weights), "model.safetensors")
        _ = try folder.write("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", name)
        #expect { try Checkpoint.open(folder.path).tokenizer() } throws: {
            "\($0)".contains("\(name): is a pointer of git-lfs")
        }
    }

    @Test("The tokenizer of a GGUF file with nothing but a vocabulary, and of a family that is not read")
    func vocabularies() throws {
        var builder = GGUFBuilder.model()
        GGUFTokenizerTests.addByteLevel(&builder, pre: "smollm")
        let expected = try Checkpoint.tokenizer(of: folder.write(builder.bytes, "a.gguf"))
        #expect(expected != nil)
        builder.set("general.architecture", .text("gemma3"))
        #expect(try Checkpoint.tokenizer(of: folder.write(builder.bytes, "b.gguf")) == expected)
        builder.metadata.removeAll { $0.key.hasPrefix("llama.") }
        builder.tensors = []
        #expect(try Checkpoint.tokenizer(of: folder.write(builder.bytes, "c.gguf")) == expected)
    }
}
