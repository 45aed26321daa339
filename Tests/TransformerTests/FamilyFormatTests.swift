import Checkpoints
import Files
import Foundation
import JSON
import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

@Suite("Names and layouts of the families' own files")
struct FamilyFormatTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private static func contents(_ source: any TensorSource) throws -> [String: [Float]] {
        try Dictionary(uniqueKeysWithValues: source.tensors.map { ($0.name, try FamilyFile.elements(source, $0.name)) })
    }

    /// What is in a file but for masks, which carry nothing.
    private static func stored(_ file: FamilyFile) -> [String: [Float]] {
        let tensors = file.tensors.filter { !$0.name.hasSuffix("attn.bias") || $0.name.hasSuffix("c_attn.bias") }
        return Dictionary(
            uniqueKeysWithValues: tensors.filter { !$0.name.hasSuffix("masked_bias") }.map { ($0.name, $0.values) })
    }

    private func expectCanonical(_ source: any TensorSource, _ file: FamilyFile) throws {
        expectEqual(source.tensors.map(\.name).sorted(), file.parts.map(\.canonical).sorted(), "names")
        for part in file.parts {
            let info = try #require(source.info(part.canonical))
            #expect(info.shape == part.shape, "\(part.canonical)")
            expectEqual(try FamilyFile.elements(source, part.canonical), try file.values(of: part), part.canonical)
        }
    }

    @Test("Canonical tensors are what they are in the file", arguments: FamilyFile.all, ["folder", "shards", "HDF5"])
    func canonical(file: FamilyFile, format: String) throws {
        let path =
            format == "HDF5"
            ? try file.writeHDF5(to: folder) : try file.write(to: folder, isSharded: format == "shards")
        let source = try openModel(path)
        try expectCanonical(source, file)
        #expect(source.contradictions.isEmpty)
        let description = try ModelDescription(of: source)
        let found = try StoredTensors(of: source, description)
        #expect(
            found.others.map(\.name)
                == file.parts.map(\.canonical).filter { !$0.hasPrefix("model.") && !$0.hasPrefix("lm_head") }.sorted())
        // Bytes in the file are counted once.
        let counted = Self.stored(file).values.reduce(0) { $0 + 4 * $1.count }
        #expect(source.tensors.reduce(0) { $0 + $1.storedBytes } == counted || format == "HDF5")
    }

    @Test("Rows are read piecewise as they are in the whole, in any order", arguments: FamilyFile.all)
    func rows(file: FamilyFile) throws {
        let source = try openModel(file.write(to: folder))
        let own = try OwnSource(source, namedAs: source)
        var generator = SeededGenerator(seed: 7)
        for (source, names) in [(source, source.tensors), (own as any TensorSource, own.tensors)] {
            let whole = try Self.contents(source)
            for info in names.shuffled(using: &generator) + names {
                let width = info.count / info.shape[0]
                let start = Int.random(in: 0..<info.shape[0], using: &generator)
                let rows = start..<Int.random(in: start + 1...info.shape[0], using: &generator)
                let expected = try #require(whole[info.name])[rows.lowerBound * width..<rows.upperBound * width]
                expectEqual(try FamilyFile.elements(source, info.name, rows: rows), expected, "\(info.name) \(rows)")
            }
        }
    }

    @Test("What was opened can be seen under the file's own names again", arguments: FamilyFile.all)
    func roundTrip(file: FamilyFile) throws {
        let source = try openModel(file.write(to: folder))
        let own = try OwnSource(source, namedAs: source)
        expectEqual(try Self.contents(own), Self.stored(file))
        for tensor in file.tensors where own.info(tensor.name) != nil {
            #expect(own.info(tensor.name)?.shape == tensor.shape, "\(tensor.name)")
        }
    }

    @Test(
        "A model in HDF5 under canonical names is left as it is, and comes back as the transformers library saves it",
        arguments: FamilyFile.all)
    func standard(file: FamilyFile) throws {
        let source = try openModel(file.write(to: folder))
        let path = folder.file("model.h5")
        let configuration = try #require(source.configuration)
        let writer = try CheckpointWriter(path: path, configuration: configuration, provenance: "{}", tokenizer: nil)
        for info in source.tensors { try writer.write(info.name, try source.read(info.name)) }
        try writer.finish()
        let copy = try openModel(path)
        try expectCanonical(copy, file)
        #expect(copy.familySource == nil)
        #expect(copy.configuration == configuration)

        var exporter = HuggingFaceExporter(type: .f32)
        exporter.architectures = Family.classes
        let target = folder.file("out")
        try exporter.export(OwnSource(copy), to: target)
        let written = try Checkpoint.openStored(target)
        let usual = { (name: String) in
            switch file.description {
            case "gpt2-hub": "transformer." + name
            case "gemma3 model.language_model.":
                // As saved before and by version 5; `model.` around all of it is how the library's modules are called.
                name.hasPrefix("model.language_model.")
                    ? "language_model.model." + name.dropFirst("model.language_model.".count)
                    : name.hasPrefix("lm_head") ? "language_model." + name : String(name.dropFirst("model.".count))
            default: name
            }
        }
        let expected = Dictionary(uniqueKeysWithValues: Self.stored(file).map { (usual($0.key), $0.value) })
        expectEqual(try Self.contents(written), expected)
        let before = try JSONValue(parsing: file.configuration)
        var after = try #require(written.configurationValues)
        after["torch_dtype"] = nil
        #expect(JSONValue.object(after) == before)
        try expectCanonical(try openModel(target), file)
    }

    @Test("Gradients are named as the weights in the file that was opened", arguments: FamilyFile.all)
    func gradients(file: FamilyFile) throws {
        let source = try openModel(file.write(to: folder))
        let description = try ModelDescription(of: source)
        let weights = try ModelWeights(from: source, description)
        let own = try OwnSource(
            WeightsSource(weights, path: "gradients", configuration: source.configuration), namedAs: source)
        let parameters = Set(weights.parameters.map(\.name))
        let names = Set(file.parts.filter { parameters.contains($0.canonical) }.map(\.stored))
        expectEqual(try Self.contents(own), Self.stored(file).filter { names.contains($0.key) })
    }

    // MARK: - Files that are wrong

    private func problems(_ file: FamilyFile) throws -> [String] {
        let folder = try TemporaryFolder()
        do {
            let source = try openModel(file.write(to: folder))
            _ = try ModelWeights(from: source, try ModelDescription(of: source))
        } catch CheckpointError.tensors(_, let problems) {
            return problems
        }
        return []
    }

    @Test("A missing tensor is named, a fused one for each part")
    func missing() throws {
        for prefix in ["transformer.", ""] {
            var file = FamilyFile.gpt2(prefix)
            file.remove("\(prefix)h.1.attn.c_attn.weight")
            file.remove("\(prefix)h.0.ln_1.bias")
            #expect(
                try problems(file) == [
                    "model.layers.0.input_layernorm.bias (\(prefix)h.0.ln_1.bias): missing, expected [6]",
                    "model.layers.1.self_attn.q_proj.weight (\(prefix)h.1.attn.c_attn.weight#q, transposed): missing, "
                        + "expected [6, 6]",
                    "model.layers.1.self_attn.k_proj.weight (\(prefix)h.1.attn.c_attn.weight#k, transposed): missing, "
                        + "expected [6, 6]",
                    "model.layers.1.self_attn.v_proj.weight (\(prefix)h.1.attn.c_attn.weight#v, transposed): missing, "
                        + "expected [6, 6]",
                ])
        }
        var nested = FamilyFile.gemma3("language_model.model.", "language_model.lm_head")
        nested.remove("language_model.model.layers.1.post_feedforward_layernorm.weight")
        #expect(
            try problems(nested) == [
                "model.layers.1.norms.mlp_out.weight (language_model.model.layers.1.post_feedforward_layernorm.weight): "
                    + "missing, expected [6]"
            ])
    }

    @Test("A wrong shape is an error, once for a fused tensor, and in the file's own extents")
    func shapes() throws {
        var file = FamilyFile.gpt2("transformer.")
        try file.reshape("transformer.h.0.attn.c_attn.weight", [6, 17])
        try file.reshape("transformer.h.1.attn.c_attn.bias", [19])
        try file.reshape("transformer.h.0.mlp.c_fc.weight", [6, 9])
        #expect(
            try problems(file) == [
                "transformer.h.0.attn.c_attn.weight: found [6, 17], expected [6, 18]",
                "model.layers.0.mlp.up_proj.weight (transformer.h.0.mlp.c_fc.weight, transposed): found [9, 6], "
                    + "expected [10, 6]",
                "transformer.h.1.attn.c_attn.bias: found [19], expected [18]",
            ])
        let source = try openModel(file.write(to: folder))
        #expect { try source.read("model.layers.0.self_attn.k_proj.weight") } throws: { "\($0)".contains("[6, 18]") }
    }

    @Test("Names of both kinds in one file are an error that names one of each", arguments: [0, 2, 3])
    func mixture(number: Int) throws {
        var file = FamilyFile.all[number]
        file.add("model.layers.0.norms.mlp_out.weight", [6])
        file.add("model.layers.0.self_attn.q_proj.bias", [6])
        let canonical = number == 0 ? "model.layers.0.self_attn.q_proj.bias" : "model.layers.0.norms.mlp_out.weight"
        #expect { try openModel(file.write(to: folder)) } throws: { error in
            [
                "is a name of the family", file.tensors[number == 0 ? 0 : 1].name.prefix(5),
                "\(canonical) a canonical one",
            ]
            .allSatisfy { "\(error)".contains($0) }
        }
    }

    @Test("A tensor that is there under two names is an error")
    func twice() throws {
        var file = FamilyFile.gpt2("transformer.")
        file.add("wte.weight", [7, 6])
        #expect { try openModel(file.write(to: folder)) } throws: {
            "\($0)".contains("wte.weight: also there as transformer.wte.weight")
        }
    }

    @Test("An unknown tensor inside the decoder is an error, one beside it is kept")
    func strays() throws {
        for prefix in ["transformer.", ""] {
            var file = FamilyFile.gpt2(prefix)
            for name in [
                "\(prefix)h.0.foo", "\(prefix)h.2.ln_1.weight", "\(prefix)h.2.attn.c_attn.weight", "v_head.weight",
            ] {
                file.add(name, [6, 18])
            }
            #expect(
                try problems(file) == [
                    "model.layers.2.input_layernorm.weight (\(prefix)h.2.ln_1.weight): unexpected",
                    "transformer.h.0.foo" + (prefix.isEmpty ? " (h.0.foo)" : "") + ": unexpected",
                    "transformer.h.2.attn.c_attn.weight" + (prefix.isEmpty ? " (h.2.attn.c_attn.weight)" : "")
                        + ": unexpected",
                ])
        }
    }

    @Test("A shard that is not there is an error, and what the index says otherwise concerns the parts")
    func shards() throws {
        let file = FamilyFile.gpt2("")
        let path = try file.write(to: folder, isSharded: true)
        let index = try folder.text("model.safetensors.index.json")
        let entry = "\"h.1.attn.c_attn.weight\":\"model-2.safetensors\""
        #expect(index.contains(entry))
        try folder.write(
            index.replacing(entry, with: entry.replacing("-2", with: "-1")), "model.safetensors.index.json")
        let source = try openModel(path)
        let parts = ["q", "k", "v"].map { "model.layers.1.self_attn.\($0)_proj.weight" }
        #expect(source.contradictions.map(\.name) == parts)
        #expect(source.warnings.count == 1)
        let description = try ModelDescription(of: source)
        #expect { try StoredTensors(of: source, description) } throws: { error in
            guard case .tensors(_, let problems) = error as? CheckpointError else { return false }
            return problems.count == 1 && problems[0].hasPrefix("h.1.attn.c_attn.weight: not in ")
        }
        let gone = folder.file("model-2.safetensors")
        try FileManager.default.removeItem(atPath: gone)
        #expect(throws: CheckpointError.missing(path: gone)) { try openModel(path) }
    }

    @Test("Factors and parts alone have no place in a layout that fuses")
    func factors() throws {
        let source = try openModel(FamilyFile.gpt2("").write(to: folder))
        let path = "model.layers.0.self_attn."
        let without = source.tensors.filter { $0.name != path + "k_proj.bias" }
        #expect { try OwnSource(source, kept: without) } throws: { error in
            "\(error)".contains(
                "\(path)k_proj.bias: missing, expected it as a part of transformer.h.0.attn.c_attn.bias")
        }
        let factor = TensorInfo(name: path + "q_proj.cola_a", shape: [6, 2], storedType: "f32", storedBytes: 48)
        #expect { try OwnSource(source, kept: [factor]) } throws: {
            "\($0)".contains("\(path)q_proj.cola_a: a low-rank")
        }
    }

    @Test("Linear layers are called as the transformers library calls their modules")
    func paths() throws {
        func paths(_ type: String, _ role: LinearRole) -> String? {
            Family.named(type)?.source(
                of: LinearLayer(block: 3, role, inputs: 1, outputs: 1), configuration: ["model_type": .string(type)])
        }
        #expect(paths("gpt2", .key) == "transformer.h.3.attn.c_attn#k")
        #expect(paths("gpt2", .down) == "transformer.h.3.mlp.c_proj")
        #expect(paths("gemma3", .gate) == "model.language_model.layers.3.mlp.gate_proj")
        #expect(paths("gemma3_text", .gate) == "model.layers.3.mlp.gate_proj")
        #expect(paths("mistral", .output) == "model.layers.3.self_attn.o_proj")
    }
}
