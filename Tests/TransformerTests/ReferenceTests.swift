import Checkpoints
import Foundation
import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

/// What is known of a model in `Fixtures` (see README.txt there).
struct Reference: Decodable {
    let input_ids: [[UInt32]]
    let loss: Double
    /// `[batch, sequence, V]` in one row.
    let logits: [Double]

    static let names = [
        "llama-mha", "llama-gqa-tied", "llama-headdim-rope3", "qwen2", "cola-both", "cola-inner-only", "cola-bias",
        "colam-both",
    ]

    static func url(_ file: String) -> URL { Bundle.module.bundleURL.appendingPathComponent("Fixtures/\(file)") }

    static func model(_ name: String) throws -> any TensorSource { try Checkpoint.open(url(name + ".h5").path) }

    init(_ name: String) throws {
        self = try JSONDecoder().decode(Self.self, from: Data(contentsOf: Self.url(name + ".json")))
    }

    var batch: TokenBatch { TokenBatch(ids: input_ids.flatMap { $0 }, lengths: input_ids.map(\.count)) }

    /// The next token of each, none after the last of a sequence.
    var targets: [UInt32?] { input_ids.flatMap { $0.dropFirst().map { $0 } + [nil] } }
}

@Suite("Models computed by the public implementations")
struct ReferenceTests {
    @Test("Logits and loss in single precision", arguments: Reference.names)
    func single(name: String) throws {
        let reference = try Reference(name)
        let model = try LanguageModel(from: try Reference.model(name))
        let (logits, loss) = run(model, reference)
        expectClose(logits, reference.logits, within: 5e-6, "\(name) logits")
        expectClose([loss], [reference.loss], within: 1e-5, "\(name) loss")
    }

    @Test("The naive twin agrees as well", arguments: Reference.names)
    func naive(name: String) throws {
        let reference = try Reference(name)
        let twin = NaiveModel(try LanguageModel(from: try Reference.model(name)))
        var (logits, losses): ([Double], [Double]) = ([], [])
        for ids in reference.input_ids {
            let trace = twin.forward(ids)
            logits += trace.logits.joined()
            losses += twin.losses(logits: trace.logits, targets: Array(ids.dropFirst()))
        }
        // Also in double precision the public implementations take RMSNorm, softmax and the angles of rotation in single.
        expectClose(logits, reference.logits, within: 1e-6)
        expectClose([losses.reduce(0, +) / Double(losses.count)], [reference.loss], within: 1e-7)
    }

    @Test("Logits in bfloat16 are near, and not the same", arguments: Reference.names)
    func bfloat16(name: String) throws {
        let reference = try Reference(name)
        let model = try LanguageModel(from: try Reference.model(name), precision: .bf16)
        let (logits, _) = run(model, reference)
        let most = reference.logits.map { abs($0) }.max()!
        // Each of the products one after the other rounds weights and activations by half a unit in the last place.
        let products = Double(10 * model.description.blocks.count + 1)
        expectClose(logits, reference.logits, within: 2 * products * bfloat16Error * most, name)
        #expect(!isClose(logits, reference.logits, within: reference.logits.map { _ in 5e-6 }))
    }

    private func run(_ model: LanguageModel, _ reference: Reference) -> (logits: [Double], loss: Double) {
        let batch = reference.batch
        let workspace = Workspace(model, maximumTokens: batch.count, longestSequence: batch.longest)
        let head = VocabularyHead(model)
        return withExtendedLifetime((workspace, head)) {
            let hidden = model.forward(batch, in: workspace)
            var logits: [Double] = []
            head.forEachChunk(of: hidden) { logits += copied($1) }
            let losses = head.losses(of: hidden, targets: reference.targets).compactMap { $0 }
            return (logits, losses.reduce(0, +) / Double(losses.count))
        }
    }
}
