import TestSupport
import Tensors
import Testing

@testable import Checkpoints

@Suite("Names and parts of models") struct TensorNamesTests {
    private let folder: TemporaryFolder
    private let names = [
        "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.10.mlp.up_proj.weight",
        "model.norm.weight", "lm_head.weight",
    ]

    init() throws { folder = try TemporaryFolder() }

    typealias Contents = [(name: String, shape: [Int], values: [Float])]

    private func open(_ tensors: Contents, configuration: String = "{}") throws -> any TensorSource {
        _ = try folder.write(configuration, "config.json")
        return try Checkpoint.open(folder.write(safetensors(tensors), "model.safetensors"))
    }

    /// The same as an HDF5 file, its names as paths of groups where `isNested`.
    private func openHDF5(
        _ tensors: Contents, configuration: String = "{}", isNested: Bool = false
    ) throws -> any TensorSource {
        _ = try folder.write(configuration, "config.json")
        let path = folder.file("model.h5")
        let output = try HDF5Output(path: path)
        let type = try HDF5Failure.translated({ .cannotWrite(path: path, reason: $0) }) {
            try ElementType.f32.makeHDF5Type()
        }
        var groups: Set<[String]> = []
        for (name, shape, values) in tensors {
            let place = isNested ? name.split(separator: ".").map(String.init) : [name]
            for length in 1..<place.count where groups.insert(Array(place.prefix(length))).inserted {
                try output.makeGroup(Array(place.prefix(length)))
            }
            var dataset = try output.create(place, shape: shape, type: type)
            for rows in dataset.blocks {
                let part = Array(values[(rows.lowerBound * dataset.record.rowElements)...])
                try output.write(rows, part, to: &dataset)
            }
            try output.close(dataset)
        }
        try output.finish()
        return try Checkpoint.open(path)
    }

    /// What stands in front of names, or between their parts.
    static let wrappings: [@Sendable (String) -> String] = [
        { $0 }, { "module." + $0 }, { "_orig_mod." + $0 }, { "_fsdp_wrapped_module." + $0 },
        { "base_model.model." + $0 }, { "module._orig_mod." + $0 }, { "_orig_mod.module." + $0 },
        { "_forward_module._fsdp_wrapped_module.module.base_model.model._orig_mod." + $0 }, { "model." + $0 },
        { "module.model." + $0 }, { $0.hasPrefix("model.") ? String($0.dropFirst(6)) : $0 },
        { "_orig_mod." + ($0.hasPrefix("model.") ? String($0.dropFirst(6)) : $0) },
        { $0.replacing("layers.10.", with: "layers.10._checkpoint_wrapped_module.") },
        {
            $0.replacing("layers.0.", with: "layers.0._orig_mod.").replacing("model.norm", with: "model.norm._orig_mod")
        },
        { $0.replacing("model.layers", with: "model.module.layers").replacing("q_proj", with: "q_proj.base_layer") },
        { $0.replacing("model.layers", with: "_fsdp_wrapped_module.model._fsdp_wrapped_module.layers") },
    ]

    @Test("Any wrapper, any chain of them, a bare model: the canonical names and every value", arguments: 0..<16)
    func wrapped(index: Int) throws {
        let tensors: Contents = names.enumerated().map { place, name in
            (Self.wrappings[index](name), [2, 3], (0..<6).map { Float(10 * place + $0) })
        }
        for source in [try open(tensors), try openHDF5(tensors), try openHDF5(tensors, isNested: true)] {
            #expect(Set(source.tensors.map(\.name)) == Set(names), "\(tensors[1].name) in \(source.formatName)")
            for (name, tensor) in zip(names, tensors) where source.info(name) != nil {
                expectSameBits(try elements(source, name), tensor.values, "\(tensor.name) in \(source.formatName)")
            }
        }
    }

    @Test("Names of other models stay as they are")
    func others() throws {
        let names = [
            "score.weight", "model.layers.0.mlp.experts.1.w1.weight", "v_head.summary.weight", "modules.0.weight",
        ]
        #expect(TensorNames.canonical(names) == names)
        #expect(TensorNames.canonical(["module"]) == ["module"])
    }

    @Test("Two names that are one without wrappers are an error with both")
    func collision() throws {
        let tensors: Contents = [
            ("model.norm.weight", [2], [1, 2]), ("module.model.norm.weight", [2], [1, 2]),
        ]
        #expect { try open(tensors) } throws: {
            "\($0)".contains("module.model.norm.weight: also in") && "\($0)".contains("as model.norm.weight")
        }
        #expect { try openHDF5(tensors) } throws: {
            "\($0)".contains("/module.model.norm.weight") && "\($0)".contains("/model.norm.weight")
        }
    }

    // MARK: - Ties

    private static let tied = #"{"tie_word_embeddings": true, "note": NaN}"#
    private static let values: [Float] = [1, 2, 3, 4, 5, 6]

    @Test("A tied model that kept the head's name has an embedding")
    func headOnly() throws {
        let tensors: Contents = [("model.norm.weight", [3], [7, 8, 9]), ("lm_head.weight", [2, 3], Self.values)]
        let wrapped: Contents = tensors.map { ("module." + $0.name, $0.shape, $0.values) }
        for (contents, isHDF5) in [(tensors, false), (tensors, true), (wrapped, false), (wrapped, true)] {
            let source =
                isHDF5
                ? try openHDF5(contents, configuration: Self.tied) : try open(contents, configuration: Self.tied)
            #expect(Set(source.tensors.map(\.name)) == ["model.norm.weight", "model.embed_tokens.weight"])
            #expect(source.info("lm_head.weight") == nil && source.warnings == [])
            expectSameBits(try elements(source, "model.embed_tokens.weight", rows: 1..<2), [4, 5, 6])
        }
        // Without a word about a tie it is a model that lacks its embedding.
        #expect(try open(tensors).info("model.embed_tokens.weight") == nil)
    }

    @Test("A name that only the metadata keep is there as well")
    func alias() throws {
        let header = #"""
            {"__metadata__":{"format":"pt","model.embed_tokens.weight":"lm_head.weight"},
            "lm_head.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}
            """#
        for configuration in ["{}", Self.tied] {
            _ = try folder.write(configuration, "config.json")
            let path = try folder.write(
                safetensors(header: header, data: littleEndian(Self.values)), "model.safetensors")
            let source = try Checkpoint.open(path)
            #expect(source.tensors.map(\.name) == ["lm_head.weight", "model.embed_tokens.weight"])
            #expect(source.tensors.map(\.storedBytes) == [24, 0])
            expectSameBits(try elements(source, "model.embed_tokens.weight"), Self.values)
            #expect(source.configuration == configuration && source.warnings == [])
        }
    }

    @Test("A tied head of the same values is the embedding's copy, one of other values a tensor of its own")
    func bothStored() throws {
        for change in [nil, 0, 5] as [Int?] {
            var other = Self.values
            if let change { other[change] = 0 }
            let tensors: Contents = [
                ("model.embed_tokens.weight", [2, 3], Self.values), ("lm_head.weight", [2, 3], other),
            ]
            for source in [
                try open(tensors, configuration: Self.tied), try openHDF5(tensors, configuration: Self.tied),
            ] {
                let isTied = source.configurationValues?["tie_word_embeddings"]
                #expect(isTied == .bool(change == nil), "\(String(describing: change))")
                #expect(source.warnings.contains { $0.contains("lm_head.weight has other values") } == (change != nil))
                expectSameBits(try elements(source, "lm_head.weight"), other)
                expectSameBits(try elements(source, "model.embed_tokens.weight"), Self.values)
                #expect(source.configuration?.contains("NaN") == true)
            }
            #expect(try Checkpoint.openStored(folder.file("model.h5")).configuration == Self.tied)
        }
    }

    @Test("A tied head without elements is none, one of another shape a tensor of its own")
    func oddHeads() throws {
        let embedding = ("model.embed_tokens.weight", [2, 3], Self.values)
        let empty = try open([embedding, ("lm_head.weight", [0], [])], configuration: Self.tied)
        #expect(empty.warnings == [] && empty.configuration == Self.tied)
        let other = try open([embedding, ("lm_head.weight", [3, 2], Self.values)], configuration: Self.tied)
        #expect(other.configurationValues?["tie_word_embeddings"] == false)
    }
}
