import LinearAlgebra
import Tensors
import TestSupport
import Testing
import Transformer

@testable import LowRank

/// Conversion of models that are not built like LLaMA.
@Suite struct FamilyConversionTests {
    static func convert(
        _ kind: TinyModel.Kind, anchors: Bool, residualShare: Double = 0.5, rank: (LinearLayer) -> Int?
    ) throws -> (dense: LanguageModel, converted: LanguageModel) {
        let model = TinyModel.random(try kind.description())
        var recipe = ConversionTests.recipe(.identity, anchors: anchors)
        recipe.residualShare = residualShare
        let conversion = Conversion(
            model, plan: TinyModel.plan(model, rank: rank), recipe: recipe,
            statistics: try ConversionTests.statistics(model))
        return (model, try conversion.run(tokens: ConversionTests.tokens).model)
    }

    /// Factors are rounded to single precision, whose products add over at most 37 features; the errors before, of which there
    /// are six stages, are magnified on the way.
    static let bound = 37 * 6 * 0x1p-24

    @Test(
        "at full rank no linear layer differs, alone or in its place",
        arguments: TinyModel.Kind.allCases, [false, true])
    func fullRank(kind: TinyModel.Kind, anchors: Bool) throws {
        let (dense, converted) = try Self.convert(kind, anchors: anchors, rank: \.fullRank)
        let errors = try LayerError.measure(
            dense: dense, converted: converted, ConversionTests.heldOut, withFloor: false)
        #expect(errors.map(\.linear.id) == dense.description.linears.map(\.id))
        let found = try errors.flatMap { [try #require($0.relative), try #require($0.inPlace)] }
        expectClose(found, found.map { _ in 0 }, within: Self.bound, "\(kind)")
    }

    @Test("half the rank is far from it", arguments: TinyModel.Kind.allCases)
    func halfRank(kind: TinyModel.Kind) throws {
        let (dense, converted) = try Self.convert(kind, anchors: false) { $0.fullRank / 2 }
        let errors = try LayerError.measure(
            dense: dense, converted: converted, ConversionTests.heldOut, withFloor: false)
        for error in errors { #expect(try #require(error.relative) > 10 * Self.bound, "\(error)") }
    }

    @Test("what is no linear layer is copied, bit for bit, and activations stay", arguments: TinyModel.Kind.allCases)
    func otherParameters(kind: TinyModel.Kind) throws {
        let (dense, converted) = try Self.convert(kind, anchors: true) { _ in 3 }
        func others(_ model: LanguageModel) -> [String: [Float]] {
            let parameters = model.weights.parameters.filter { $0.role.linear == nil }
            return Dictionary(uniqueKeysWithValues: parameters.map { ($0.name, $0.weight.copy().elements) })
        }
        expectEqual(others(converted), others(dense))
        var expected = dense.description.with { _ in LinearLayout(rank: 3, hasBias: true) }
        expected.placement = .original
        #expect(converted.description.with(rank: 3) == expected.with(rank: 3))
        #expect(converted.description.blocks.allSatisfy { $0.feedForward.activation == .geluTanh })
    }

    @Test(
        "a stage mends the residual stream only where its output is added as it is",
        arguments: TinyModel.Kind.allCases)
    func residualShare(kind: TinyModel.Kind) throws {
        let prints = try [0, 0.5].map { share in
            try Self.convert(kind, anchors: true, residualShare: share) { _ in 3 }.converted.weights.fingerprint
        }
        #expect((prints[0] == prints[1]) == (kind == .normed))
    }

    @Test("a model whose configuration takes σ out of the feed-forward networks is refused")
    func innerPlacement() throws {
        let description = try TinyModel.description().with(.inner, outer: .silu)
        let model = TinyModel.random(description)
        let conversion = Conversion(
            model, plan: TinyModel.plan(model) { _ in 3 }, recipe: ConversionRecipe(), statistics: nil)
        let error = #expect(throws: LowRankError.self) { try conversion.target() }
        #expect("\(error!)".hasPrefix("cola_activation: found inner, expected both or original"))
    }

    // MARK: - Walks

    static let walked: [ModelDescription] =
        (try? TinyModel.Kind.allCases.map { try $0.description() } + [
            TinyModel.description(hasBias: true), TinyModel.description(keyValueHeads: 3).with(rank: 5),
        ]) ?? []

    @Test("stage by stage linear layers read what they read in the whole forward pass")
    func walkEqualsForward() throws {
        #expect(Self.walked.count == 4)
        for description in Self.walked {
            let model = TinyModel.random(description)
            let batch = TokenBatch(TinyModel.sequences([49, 1, 30]))
            let inputs = Inputs()
            let workspace = Workspace(model, maximumTokens: batch.count, longestSequence: batch.longest)
            model.forward(batch, in: workspace, observer: inputs)
            let walk = BlockWalk(model, batch)
            for (index, block) in description.blocks.enumerated() {
                for stream in Stream.allCases {
                    let x = walk.input(of: stream)
                    let expected = try #require(inputs.byPlace["\(index) \(stream)"])
                    // Sums of at most 33 products of numbers near 1 in another order, in two blocks.
                    expectClose(x.elements.map { Double($0) }, expected, within: 1e-4, "block \(index) \(stream)")
                    let isAdded = [.attended, .product].contains(stream) && block.norms.attentionOutput == nil
                    #expect((walk.residual(of: stream) != nil) == isAdded)
                    walk.advance(
                        stream,
                        outputs: block.linears(reading: stream).map { BlockWalk.project(x, model.weights[$0]) })
                }
            }
            #expect(walk.block == description.blocks.count)
        }
    }

    /// Keeps what linear layers read.
    private final class Inputs: ActivationObserver {
        var byPlace: [String: [Double]] = [:]

        func observe(_ site: ActivationSite, block: Int, _ activations: MatrixView<Float>) {
            guard case .input(let stream) = site else { return }
            byPlace["\(block) \(stream)"] = (0..<activations.rows).flatMap { row in
                (0..<activations.columns).map { Double(activations[row, $0]) }
            }
        }
    }
}
