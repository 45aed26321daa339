import Foundation
import TestSupport
import Testing

@testable import Checkpoints
@testable import Tensors
@testable import Transformer

@Suite("Gradients computed by the public implementations")
struct GradientReferenceTests {
    @Test("Every element of every parameter, in every memory mode", arguments: Reference.names)
    func everyElement(name: String) throws {
        let reference = try Reference(name)
        let expected = try Reference.gradients(name)
        let model = try LanguageModel(from: try Reference.model(name))
        let isLowRank = model.description.isLowRank
        let tolerance = tolerance(model, reference.batch)
        for mode in MemoryMode.allCases where mode != .colaM || isLowRank {
            let found = gradients(model, reference, mode)
            #expect(found.keys.sorted() == expected.keys.sorted())
            for (parameter, expected) in expected.sorted(by: { $0.key < $1.key }) {
                let size = expected.map { abs($0) }.max() ?? 0
                expectClose(
                    found[parameter] ?? [], expected, within: tolerance * size,
                    "\(name), \(mode.rawValue), \(parameter):")
            }
        }
    }

    @Test("The bound is so narrow that a change of sign is seen in nearly every element", arguments: Reference.names)
    func bound(name: String) throws {
        let model = try LanguageModel(from: try Reference.model(name))
        let tolerance = tolerance(model, try Reference(name).batch)
        for (parameter, values) in try Reference.gradients(name) {
            // The embedding's rows of ids that are not in the batch are exactly 0.
            let sizes = values.map { abs($0) }.filter { $0 > 0 }
            let bound = tolerance * (sizes.max() ?? 0)
            let hidden = sizes.count { 2 * $0 <= bound }
            #expect(100 * hidden <= sizes.count, "\(name) \(parameter): \(hidden) of \(sizes.count)")
        }
    }

    /// The bound of every element, relative to its parameter's largest one because an error anywhere reaches all of them.
    ///
    /// k counts the rounded additions that follow one another between the ids and a gradient, at most. Forward, a block
    /// adds up products over C (q, k, v; gate and up), the past, H·D and F, with bottlenecks over R besides; RMSNorm adds
    /// over C. Backward it adds over what the same products put out. Head and softmax add over C and V there and back, and
    /// the parameter's gradient over the tokens. One after the other, roundings of ε could come to k·ε; being as often up
    /// as down they come to √k·ε (Higham & Mary, "A New Approach to Probabilistic Rounding Error Analysis", 2019), of
    /// which four times is exceeded once in a thousand times.
    private func tolerance(_ model: LanguageModel, _ batch: TokenBatch) -> Double {
        let (model, block) = (model.description, model.description.blocks[0])
        let ranks = block.linears.reduce(0) { $0 + ($1.rank ?? 0) }
        let (c, f) = (model.hiddenSize, block.feedForward.width)
        let (query, key) = (block.attention.queryWidth, block.attention.keyValueWidth)
        let forward = 4 * c + batch.longest + query + f + ranks
        let backward = c + 2 * f + c + 2 * batch.longest + query + 2 * key + 2 * c + ranks
        let k = model.blocks.count * (forward + backward) + 2 * (c + model.vocabularySize) + batch.count
        return 4 * Double(k).squareRoot() * singleError
    }

    private func gradients(_ model: LanguageModel, _ reference: Reference, _ mode: MemoryMode) -> [String: [Double]] {
        let (loss, gradients) = model.meanLossAndGradients(of: reference.batch, reference.targets, mode)
        expectClose([loss], [reference.loss], within: 1e-5, "loss")
        return Dictionary(uniqueKeysWithValues: gradients.elements.map { ($0.name, $0.values) })
    }
}

extension LanguageModel {
    /// The mean loss of the tokens that have a target, and its gradients.
    func meanLossAndGradients(
        of batch: TokenBatch, _ targets: [UInt32?], _ mode: MemoryMode
    ) -> (loss: Double, gradients: ModelWeights) {
        let gradients = ModelWeights(like: weights, precision: .f32)
        let workspace = TrainingWorkspace(
            self, mode: mode, maximumTokens: batch.count, longestSequence: batch.longest)
        let scale = 1 / Double(targets.count { $0 != nil })
        let sum = lossAndGradients(
            of: batch, targets: targets, scale: scale, in: workspace, ModelGradients(into: gradients))
        return (sum * scale, gradients)
    }
}

extension Reference {
    /// The stored gradients by the canonical names of their parameters, row by row.
    static func gradients(_ name: String) throws -> [String: [Double]] {
        let path = url(name + ".h5").path
        let file = try HDF5Group.openFile(path)
        return try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: $0) }) {
            let place = ["reference", "grad"]
            let names = try #require(try file.openGroup(place)).links()
            let gradients = try names.map { name in
                let dataset = try #require(try file.open(place + [name]))
                let (type, shape) = try dataset.describeDataset()
                try #require(type == .float(.f32))
                let matrix = Matrix(uninitialized: shape)
                try HDF5TensorReader(name: name, dataset: dataset, shape: shape, type: .f32)
                    .read(rows: nil, into: matrix.buffer)
                return (PublishedNames.canonical(name), matrix.buffer.map(Double.init))
            }
            return Dictionary(uniqueKeysWithValues: gradients)
        }
    }
}
