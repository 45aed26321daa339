import Checkpoints
import Tensors
import TestSupport
import Transformer

@testable import Workflows

/// Keeps all that it is told.
final class RecordingObserver: WorkflowObserver {
    final class Phase: WorkflowPhase {
        let title: String
        let unit: String
        let total: Int
        private(set) var updates: [Int] = []
        private(set) var isOver = false

        init(title: String, unit: String, total: Int) {
            self.title = title
            self.unit = unit
            self.total = total
        }

        func update(_ done: Int) { updates.append(done) }
        func end() { isOver = true }
    }

    private(set) var phases: [Phase] = []
    private(set) var notices: [WorkflowNotice] = []

    func begin(_ title: String, unit: String, total: Int) -> Phase {
        phases.append(Phase(title: title, unit: unit, total: total))
        return phases[phases.count - 1]
    }

    func note(_ notice: WorkflowNotice) { notices.append(notice) }
}

/// A tiny dense model with random weights, in a file that vanishes with it.
struct TinyModel {
    static let vocabulary = 41
    private let folder: TemporaryFolder
    let source: any TensorSource
    let model: LanguageModel

    init() throws {
        folder = try TemporaryFolder()
        let config = """
            {"model_type": "llama", "hidden_size": 20, "intermediate_size": 33, "num_hidden_layers": 2, \
            "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": \(Self.vocabulary), \
            "tie_word_embeddings": true}
            """
        let weights = ModelWeights(try ModelDescription(json: config, path: "tiny"), precision: .f32)
        let path = folder.file("dense.h5")
        let writer = try CheckpointWriter(path: path, configuration: config, provenance: "{}", tokenizer: nil)
        for (index, parameter) in weights.parameters.enumerated() {
            let isVector = parameter.weight.shape.count == 1
            parameter.weight.fillNormal(
                deviation: isVector ? 0.2 : 0.25, mean: isVector ? 1 : 0, seed: 501 + UInt64(index))
            try writer.write(parameter.name, parameter.weight.copy())
        }
        try writer.finish()
        source = try openModel(path)
        model = try LanguageModel(from: source)
    }

    func file(_ name: String) -> String { folder.file(name) }

    static func sequences(_ lengths: [Int], seed: UInt64) -> [ArraySlice<UInt32>] {
        var generator = SeededGenerator(seed: seed)
        return lengths.map { length in
            (0..<length).map { _ in UInt32(generator.next() % UInt64(vocabulary)) }[...]
        }
    }

    /// The losses of all tokens but the first of a part of a text, which goes through the model alone.
    func losses(_ text: ArraySlice<UInt32>, from begin: Int, to end: Int) -> [Double] {
        let tokens = TokenBatch([text[begin..<end]])
        let workspace = Workspace(model, maximumTokens: tokens.count, longestSequence: tokens.count)
        let targets = (begin..<end).map { $0 + 1 < end ? text[$0 + 1] : nil }
        return VocabularyHead(model).losses(of: model.forward(tokens, in: workspace), targets: targets).compactMap {
            $0
        }
    }
}
