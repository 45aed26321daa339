import LinearAlgebra
import Tensors
import TestSupport
import Testing
import Transformer

@testable import LowRank

@Suite struct ConversionTests {
    static let tokens = TokenBatch(TinyModel.sequences([40, 33, 40, 37], seed: 4))
    static let heldOut = TokenBatch(TinyModel.sequences([40, 40], seed: 5))

    static func statistics(_ model: LanguageModel) throws -> CalibrationMoments {
        let moments = CalibrationMoments(model, fingerprint: "", labelSeed: 2, sequenceLength: 40)
        try moments.add(TinyModel.sequences([40, 33, 40, 37], seed: 4))
        return moments
    }

    static func convert(
        _ model: LanguageModel, _ recipe: ConversionRecipe, rank: (LinearLayer) -> Int?
    ) throws -> LanguageModel {
        let plan = TinyModel.plan(model, weighting: recipe.weighting, rank: rank)
        let conversion = Conversion(model, plan: plan, recipe: recipe, statistics: try statistics(model))
        return try conversion.run(tokens: tokens).model
    }

    static func recipe(
        _ activation: ConversionRecipe.Activation, _ weighting: Weighting = .fisher, anchors: Bool = false
    ) -> ConversionRecipe {
        var recipe = ConversionRecipe()
        recipe.activation = activation
        recipe.weighting = weighting
        recipe.anchors = anchors
        return recipe
    }

    /// Mean squared difference of the residual streams, in parts of the dense one's.
    static func distance(_ a: LanguageModel, _ b: LanguageModel, _ batch: TokenBatch = heldOut) -> Double {
        let (x, y) = (TinyModel.hidden(a, batch), TinyModel.hidden(b, batch))
        return zip(x, y).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / x.reduce(0) { $0 + $1 * $1 }
    }

    @Test(
        "at full rank a linear bottleneck is the dense model", arguments: Weighting.allCases, [false, true])
    func fullRank(weighting: Weighting, anchors: Bool) throws {
        let model = try TinyModel.make(hasBias: true)
        let converted = try Self.convert(model, Self.recipe(.identity, weighting, anchors: anchors), rank: \.fullRank)
        #expect(Self.distance(model, converted) < 1e-7)
    }

    @Test("at full rank with σ inside, what is left is what σ costs", arguments: [0.02, 0.1])
    func fullRankWithActivation(scale: Double) throws {
        let model = try TinyModel.make()
        var recipe = Self.recipe(.silu)
        recipe.scale = scale
        let distance = try Self.distance(model, Self.convert(model, recipe, rank: \.fullRank))
        #expect(distance < 3 * scale * scale && distance > 1e-7, "\(distance)")
    }

    @Test("layers that stay dense are copied, bit for bit")
    func mixed() throws {
        let model = try TinyModel.make(keyValueHeads: 3, isTied: true, hasBias: true)
        let converted = try Self.convert(model, Self.recipe(.silu)) { linear in
            linear.block == 0 && linear.role != .gate ? nil : 6
        }
        let dense = Dictionary(uniqueKeysWithValues: model.weights.parameters.map { ($0.name, $0.weight) })
        let copied = converted.weights.parameters.filter { $0.role.linear?.isLowRank != true }
        for parameter in copied {
            expectEqual(parameter.weight.copy().elements, try #require(dense[parameter.name]).copy().elements)
        }
        // Embedding and three norms with the last, six dense layers with a bias each.
        #expect(copied.count == 1 + 2 * 2 + 1 + 6 * 2)
        let ranks = converted.description.linears.map(\.rank)
        #expect(ranks == [nil, nil, nil, nil, 6, nil, nil] + Array(repeating: 6, count: 7))
        #expect(converted.weights.head === converted.weights.embedding)
    }

    @Test("a larger rank is closer to the dense model", arguments: ConversionRecipe.Activation.allCases)
    func ranksMatter(activation: ConversionRecipe.Activation) throws {
        let model = try TinyModel.make()
        let distances = try [3, 8, 16].map { rank in
            let converted = try Self.convert(model, Self.recipe(activation)) {
                [.key, .value].contains($0.role) ? 4 : rank
            }
            return Self.distance(model, converted)
        }
        #expect(distances == distances.sorted(by: >), "\(distances)")
    }

    @Test(
        "anchoring brings the stack's output closer on the calibration tokens",
        arguments: ConversionRecipe.Activation.allCases)
    func anchoring(activation: ConversionRecipe.Activation) throws {
        let model = try TinyModel.make(layers: 4)
        let rank = { (linear: LinearLayer) -> Int? in [.key, .value].contains(linear.role) ? 5 : 9 }
        let plain = try Self.convert(model, Self.recipe(activation, .output), rank: rank)
        let anchored = try Self.convert(model, Self.recipe(activation, .output, anchors: true), rank: rank)
        let (a, b) = (
            Self.distance(model, plain, Self.tokens), Self.distance(model, anchored, Self.tokens)
        )
        #expect(b < 0.9 * a, "\(a) → \(b)")
    }

    @Test("the same input gives the same bits, with σ, anchors and several threads")
    func isDeterministic() throws {
        let model = try TinyModel.make()
        let prints = try (0..<3).map { _ in
            try Self.convert(model, Self.recipe(.silu, anchors: true), rank: { _ in 4 }).weights.fingerprint
        }
        #expect(Set(prints).count == 1)
    }

    // MARK: - Errors of layers

    @Test("measured errors are those of plain loops, and the floor holds")
    func measuredErrors() throws {
        let model = try TinyModel.make()
        let converted = try Self.convert(model, Self.recipe(.silu)) { $0.role == .up ? nil : 5 }
        let errors = try LayerError.measure(
            dense: model, converted: converted, Self.tokens, withFloor: true)
        #expect(errors.count == 2 * 6)
        for error in errors {
            #expect(error.floorRatio! >= 1 - 1e-6, "\(error)")
            let relative = try #require(error.relative)
            #expect(relative > 0 && relative < 1.2)
        }
        // In the first layer nothing has drifted yet where q, k and v read.
        for error in errors where error.linear.block == 0 && error.linear.role.stream == .attentionInput {
            #expect(try abs(#require(error.relative) - #require(error.inPlace)) < 1e-6)
        }
        let query = model.description.blocks[0].linears[0]
        let x = BlockWalk(model, Self.tokens).input(of: .attentionInput)
        let y = BlockWalk.project(x, model.weights[query]).elements
        let z = BlockWalk.project(x, converted.weights[query]).elements
        let expected =
            (zip(y, z).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
            / y.reduce(0.0) { $0 + Double($1) * Double($1) }).squareRoot()
        let found = try #require(errors.first { $0.linear.id == query.id }?.relative)
        #expect(abs(found - expected) < 1e-6 * expected)
    }

    @Test("a layer whose output is zero has no error relative to it")
    func relativeToNothing() throws {
        let model = try TinyModel.make()
        let converted = try Self.convert(model, Self.recipe(.silu)) { _ in 5 }
        let output = try #require(model.description.blocks[1].linears.first { $0.role == .output })
        guard case .dense(let weights) = model.weights[output] else { preconditionFailure("a dense model") }
        weights.weight.fill { 0 }
        let errors = try LayerError.measure(dense: model, converted: converted, Self.tokens, withFloor: true)
        for error in errors {
            let isOfNothing = error.linear.block == 1 && error.linear.role == .output
            #expect((error.relative == nil) == isOfNothing, "\(error)")
            #expect((error.inPlace == nil) == isOfNothing, "\(error)")
            #expect([error.relative, error.inPlace, error.floorRatio].allSatisfy { $0?.isFinite ?? true }, "\(error)")
        }
    }

    @Test("in the output weighting a linear bottleneck attains the floor")
    func attainsFloor() throws {
        let model = try TinyModel.make()
        let converted = try Self.convert(model, Self.recipe(.identity, .output)) { _ in 5 }
        let errors = try LayerError.measure(dense: model, converted: converted, Self.tokens, withFloor: true)
        for error in errors {
            #expect(error.floorRatio! < 1.001 && error.floorRatio! > 0.999, "\(error)")
        }
    }
}
