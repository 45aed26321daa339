import Checkpoints
import Foundation
import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

/// A model of a family in `Fixtures/families` (see README.txt there), in the family's own names and layouts.
struct FamilyReference: CustomTestStringConvertible, Sendable {
    /// What is known of it besides logits and gradients.
    private struct Values: Decodable {
        let input_ids: [[UInt32]]
        let loss: Double
    }

    let testDescription: String

    static let all =
        [
            "gpt2", "gpt2-hub", "gpt2-inverse-layer", "mistral", "mistral-window", "qwen3", "qwen3-window", "gemma3",
            "gemma3-no-scaling", "gemma3-nested", "llama-bias", "llama-dynamic", "llama-dynamic-short", "llama-yarn",
            "llama-yarn-mscale", "llama-rope3", "llama-rope3-v4",
        ].map(FamilyReference.init)

    var folder: String { Reference.url("families/\(testDescription)").path }

    func model() throws -> LanguageModel { try LanguageModel(from: openModel(folder)) }

    func sequences() throws -> (ids: [[UInt32]], loss: Double) {
        let values = try JSONDecoder().decode(
            Values.self, from: Data(contentsOf: URL(fileURLWithPath: "\(folder)/reference.json")))
        return (values.input_ids, values.loss)
    }

    /// The gradients by canonical names, and the logits.
    func results() throws -> any TensorSource {
        try openStoredModel("\(folder)/gradients.safetensors", configurationPath: "\(folder)/config.json")
    }

    func gradients(_ results: any TensorSource) throws -> [String: [Double]] {
        let names = results.tensors.map(\.name).filter { $0 != "logits" }
        return try Dictionary(uniqueKeysWithValues: names.map { ($0, try Self.elements(results, $0)) })
    }

    static func elements(_ source: any TensorSource, _ name: String) throws -> [Double] {
        let matrix = Matrix(shape: try #require(source.info(name), "no \(name)").shape)
        try source.read(name, rows: nil, into: matrix.buffer)
        return matrix.buffer.map(Double.init)
    }
}

@Suite("Models of all families, computed by the public implementations")
struct FamilyReferenceTests {
    /// Errors of gradients relative to the parameter's largest element. Roundings in single precision come to 6e-6 in the
    /// worst of these cases, over all instruction sets.
    private static let tolerance = 2e-5

    /// The least that gradients are measured by. Some are nothing but rounding, such as those of key biases without a
    /// rotation; so nothing counts as smaller than a share of the model's largest.
    private static func floor(_ gradients: [String: [Double]]) -> Double {
        0.03 * largest(gradients.values.flatMap { $0 })
    }

    private static func largest(_ values: [Double]) -> Double { values.map { abs($0) }.max() ?? 0 }

    @Test("Logits, loss and every gradient, in every memory mode", arguments: FamilyReference.all)
    func everyElement(reference: FamilyReference) throws {
        let model = try reference.model()
        let (sequences, loss) = try reference.sequences()
        let stored = try reference.results()
        let batch = TokenBatch(ids: sequences.flatMap { $0 }, lengths: sequences.map(\.count))
        let targets: [UInt32?] = sequences.flatMap { $0.dropFirst().map { $0 } + [nil] }

        let logits = try FamilyReference.elements(stored, "logits")
        var found: [Double] = []
        let workspace = Workspace(model, maximumTokens: batch.count, longestSequence: batch.longest)
        withExtendedLifetime(workspace) {
            VocabularyHead(model).forEachChunk(of: model.forward(batch, in: workspace)) { found += copied($1) }
        }
        expectClose(found, logits, within: 1e-5 * Self.largest(logits), "logits")

        let expected = try reference.gradients(stored)
        let floor = Self.floor(expected)
        for mode in MemoryMode.allCases {
            let (found, gradients) = model.meanLossAndGradients(of: batch, targets, mode)
            expectClose([found], [loss], within: 1e-6 * loss, "loss")
            expectEqual(gradients.elements.map(\.name).sorted(), expected.keys.sorted(), "names of gradients")
            for (name, values) in gradients.elements {
                let expected = try #require(expected[name])
                expectClose(
                    values, expected, within: Self.tolerance * max(floor, Self.largest(expected)),
                    "\(mode.rawValue), \(name):")
            }
        }
    }

    @Test("The bound sees a change of sign in nearly every element", arguments: FamilyReference.all)
    func bound(reference: FamilyReference) throws {
        let gradients = try reference.gradients(reference.results())
        let floor = Self.floor(gradients)
        var (count, hidden) = (0, 0)
        for values in gradients.values {
            // The embedding's rows of ids that are not in the batch are exactly 0.
            let sizes = values.map { abs($0) }.filter { $0 > 0 }
            let bound = Self.tolerance * max(floor, sizes.max() ?? 0)
            count += sizes.count
            hidden += sizes.count { 2 * $0 <= bound }
        }
        #expect(100 * hidden <= count, "\(hidden) of \(count)")
    }

    @Test("The naive twin agrees as well", arguments: FamilyReference.all)
    func naive(reference: FamilyReference) throws {
        let twin = NaiveModel(try reference.model())
        let (sequences, loss) = try reference.sequences()
        var (logits, losses): ([Double], [Double]) = ([], [])
        for ids in sequences {
            let trace = twin.forward(ids)
            logits += trace.logits.joined()
            losses += twin.losses(logits: trace.logits, targets: Array(ids.dropFirst()))
        }
        let expected = try FamilyReference.elements(try reference.results(), "logits")
        // They were computed in double precision throughout, and stored in single.
        expectClose(logits, expected, within: 2 * singleError * Self.largest(expected), "logits")
        expectClose([losses.reduce(0, +) / Double(losses.count)], [loss], within: 1e-7 * loss, "loss")
    }

    @Test("The keys of transformers 4 say the same", arguments: FamilyReference.all)
    func olderKeys(reference: FamilyReference) throws {
        let path = "\(reference.folder)/config.v4.json"
        guard FileManager.default.fileExists(atPath: path) else { return }
        let older = try ModelDescription(json: String(contentsOfFile: path, encoding: .utf8), path: path)
        let newer = try ModelDescription(
            json: String(contentsOfFile: "\(reference.folder)/config.json", encoding: .utf8), path: "config.json")
        expectIdentical(older, newer)
    }
}
