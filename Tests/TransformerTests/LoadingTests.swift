import Checkpoints
import Files
import Foundation
import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

/// A checkpoint in a folder of its own, both removed afterwards.
private final class TemporaryCheckpoint {
    private let folder: TemporaryFolder
    var path: String { folder.file("model.h5") }

    /// Writes the tensors of a random model after `change` had its way with them.
    init(
        _ random: RandomModel, configuration: String? = nil, change: (inout [String: Matrix]) -> Void = { _ in }
    ) throws {
        folder = try TemporaryFolder()
        var tensors: [String: Matrix] = [:]
        for parameter in try random.make().weights.parameters { tensors[parameter.name] = parameter.weight.copy() }
        change(&tensors)
        let writer = try CheckpointWriter(
            path: path, configuration: configuration ?? random.json, provenance: "{}", tokenizer: nil)
        for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) { try writer.write(name, tensor) }
        try writer.finish()
    }

    /// The problems that loading reports.
    func problems(precision: Precision = .f32) throws -> [String] {
        do {
            _ = try LanguageModel(from: try Checkpoint.open(path), precision: precision)
        } catch CheckpointError.tensors(let path, let problems) {
            #expect(path == self.path)
            return problems
        }
        return []
    }
}

/// Notes which tensors are read, in order.
private final class RecordingSource: TensorSource {
    let source: any TensorSource
    var read: [String] = []

    init(_ source: any TensorSource) { self.source = source }

    var path: String { source.path }
    var formatName: String { source.formatName }
    var configuration: String? { source.configuration }
    var provenance: String? { source.provenance }
    var tensors: [TensorInfo] { source.tensors }
    func tokenizer() throws -> TokenizerBlob? { try source.tokenizer() }

    func read(_ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>) throws {
        if read.last != name { read.append(name) }
        try source.read(name, rows: rows, into: destination)
    }
}

@Suite("Loading weights")
struct LoadingTests {
    static let dense = RandomModel.named("llama3 rotation, biased like qwen2")
    static let lowRank = RandomModel.named("CoLA, both σ")

    @Test("A checkpoint comes back the same, rounded where asked", arguments: RandomModel.configured)
    func roundTrip(random: RandomModel) throws {
        let checkpoint = try TemporaryCheckpoint(random)
        let original = try random.make()
        let batch = TokenBatch(ids: random.ids(9), lengths: [9])
        for precision in Precision.allCases {
            let loaded = try LanguageModel(from: try Checkpoint.open(checkpoint.path), precision: precision)
            #expect(loaded.description == original.description)
            let expected = precision == .f32 ? original : try random.make(precision: .bf16)
            expectEqual(loaded.hiddenStates(batch), expected.hiddenStates(batch))
        }
    }

    @Test("Parameters are loaded in their order, and counted", arguments: RandomModel.configured)
    func order(random: RandomModel) throws {
        let checkpoint = try TemporaryCheckpoint(random)
        let source = RecordingSource(try Checkpoint.open(checkpoint.path))
        let model = try LanguageModel(from: source)
        var (names, count, bytes): ([String], Int, Int) = ([], 0, 0)
        for parameter in model.weights.parameters {
            names.append(parameter.name)
            count += parameter.weight.shape.reduce(1, *)
            bytes += 4 * parameter.weight.count
        }
        #expect(names == source.read)
        #expect(Set(names) == Set(source.tensors.map(\.name)) && Set(names).count == names.count)
        #expect(names.first == "model.embed_tokens.weight")
        let norm = model.description.finalNorm.hasBias ? "model.norm.bias" : "model.norm.weight"
        #expect(names.last == (random.isTied ? norm : "lm_head.weight"))
        #expect(model.weights.parameterCount == count && model.weights.bytes == bytes)
        #expect(count == source.tensors.reduce(0) { $0 + $1.count })
    }

    @Test("Without the head nothing of it is read")
    func withoutHead() throws {
        let checkpoint = try TemporaryCheckpoint(Self.dense)
        let source = RecordingSource(try Checkpoint.open(checkpoint.path))
        let model = try LanguageModel(from: source, includingHead: false)
        #expect(model.weights.head == nil && !source.read.contains("lm_head.weight"))
    }

    @Test("Missing, unexpected and mis-shaped tensors are listed together")
    func collected() throws {
        let checkpoint = try TemporaryCheckpoint(Self.dense) { tensors in
            tensors["model.norm.weight"] = nil
            tensors["model.layers.1.mlp.up_proj.weight"] = nil
            tensors["model.layers.0.mlp.down_proj.weight"] = Matrix(shape: [37, 24])
            tensors["model.layers.0.self_attn.q_proj.bias"] = Matrix(shape: [63])
            tensors["model.layers.2.mlp.up_proj.weight"] = Matrix(shape: [37, 24])
            tensors["model.layers.0.mlp.extra"] = Matrix(shape: [3])
        }
        #expect(
            try Set(checkpoint.problems()) == [
                "model.norm.weight: missing, expected [24]",
                "model.layers.1.mlp.up_proj.weight: missing, expected [37, 24]",
                "model.layers.0.mlp.down_proj.weight: found [37, 24], expected [24, 37]",
                "model.layers.0.self_attn.q_proj.bias: found [63], expected [64]",
                "model.layers.2.mlp.up_proj.weight: unexpected", "model.layers.0.mlp.extra: unexpected",
            ])
    }

    @Test("Half of a low-rank pair, factors of two ranks, a factor beside a dense weight")
    func factors() throws {
        let checkpoint = try TemporaryCheckpoint(Self.lowRank) { tensors in
            tensors["model.layers.0.self_attn.q_proj.cola_a"] = nil
            tensors["model.layers.0.self_attn.k_proj.cola_b"] = nil
            tensors["model.layers.1.self_attn.o_proj.cola_b"] = Matrix(shape: [7, 24])
            tensors["model.layers.1.mlp.gate_proj.weight"] = Matrix(shape: [37, 24])
        }
        #expect(
            try Set(checkpoint.problems()) == [
                "model.layers.0.self_attn.q_proj.cola_a: missing, expected [24, 3]",
                "model.layers.0.self_attn.k_proj.cola_b: missing, expected [3, 12]",
                "model.layers.1.self_attn.o_proj.cola_b: found [7, 24], expected [4, 24]",
                "model.layers.1.mlp.gate_proj.weight: unexpected",
            ])
    }

    @Test("Rotary tables of old files and the head of a tied model carry nothing")
    func ignored() throws {
        let checkpoint = try TemporaryCheckpoint(RandomModel.all[1]) { tensors in
            tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = Matrix(shape: [2])
            tensors["lm_head.weight"] = Matrix(shape: [29, 24])
        }
        #expect(try checkpoint.problems() == [])
    }

    @Test("Numbers that are not finite are named with their index, all tensors at once", arguments: Precision.allCases)
    func notFinite(precision: Precision) throws {
        let checkpoint = try TemporaryCheckpoint(Self.dense) { tensors in
            tensors["model.embed_tokens.weight"]![17, 19] = .nan
            tensors["model.layers.1.mlp.down_proj.weight"]![2, 36] = -.infinity
            tensors["model.norm.weight"]!.buffer[5] = .infinity
        }
        #expect(
            try checkpoint.problems(precision: precision) == [
                "model.embed_tokens.weight: element [17, 19] is nan",
                "model.layers.1.mlp.down_proj.weight: element [2, 36] is -inf",
                "model.norm.weight: element [5] is inf",
            ])
    }

    @Test("More blocks than the file can have is said before any work")
    func tooManyBlocks() throws {
        var random = Self.dense
        random.blocks = 1_000_000
        let checkpoint = try TemporaryCheckpoint(Self.dense, configuration: random.json)
        let source = try Checkpoint.open(checkpoint.path)
        #expect(
            throws: TransformerError.configuration(
                path: checkpoint.path, key: "num_hidden_layers", found: "1000000",
                expected: "no more than the file's \(source.tensors.count) tensors")
        ) { try ModelDescription(of: source) }
    }
}
