import LinearAlgebra
import Tensors
import TestSupport
import Testing
import Transformer

@testable import LowRank

@Suite struct ConversionTests {
    static let tokens = TokenBatch(TinyDecoder.sequences([40, 33, 40, 37], seed: 4))
    static let heldOut = TokenBatch(TinyDecoder.sequences([40, 40], seed: 5))

    static func statistics(_ decoder: Decoder) throws -> CalibrationMoments {
        let moments = CalibrationMoments(decoder, fingerprint: "", labelSeed: 2, sequenceLength: 40)
        try moments.add(TinyDecoder.sequences([40, 33, 40, 37], seed: 4))
        return moments
    }

    static func convert(
        _ decoder: Decoder, _ recipe: ConversionRecipe, rank: (Int, LinearModule) -> Int?
    ) throws -> Decoder {
        let plan = TinyDecoder.plan(decoder, weighting: recipe.weighting, rank: rank)
        return try Conversion(decoder, plan: plan, recipe: recipe, statistics: statistics(decoder)).run(
            TinyDecoder.converted(decoder, plan, recipe.activation), tokens: tokens
        ).decoder
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
    static func distance(_ a: Decoder, _ b: Decoder, _ batch: TokenBatch = heldOut) -> Double {
        let (x, y) = (TinyDecoder.hidden(a, batch), TinyDecoder.hidden(b, batch))
        return zip(x, y).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / x.reduce(0) { $0 + $1 * $1 }
    }

    @Test(
        "at full rank a linear bottleneck is the dense model", arguments: Weighting.allCases, [false, true])
    func fullRank(weighting: Weighting, anchors: Bool) throws {
        let decoder = try TinyDecoder.make(hasBias: true)
        let full = { (_: Int, module: LinearModule) -> Int? in
            min(decoder.configuration.shape(of: module).inputs, decoder.configuration.shape(of: module).outputs)
        }
        let converted = try Self.convert(decoder, Self.recipe(.identity, weighting, anchors: anchors), rank: full)
        #expect(Self.distance(decoder, converted) < 1e-7)
    }

    @Test("at full rank with σ inside, what is left is what σ costs", arguments: [0.02, 0.1])
    func fullRankWithActivation(scale: Double) throws {
        let decoder = try TinyDecoder.make()
        let full = { (_: Int, module: LinearModule) -> Int? in
            min(decoder.configuration.shape(of: module).inputs, decoder.configuration.shape(of: module).outputs)
        }
        var recipe = Self.recipe(.silu)
        recipe.scale = scale
        let distance = try Self.distance(decoder, Self.convert(decoder, recipe, rank: full))
        #expect(distance < 3 * scale * scale && distance > 1e-7, "\(distance)")
    }

    @Test("layers that stay dense are copied, bit for bit")
    func mixed() throws {
        let decoder = try TinyDecoder.make(keyValueHeads: 3, isTied: true, hasBias: true)
        let converted = try Self.convert(decoder, Self.recipe(.silu)) { layer, module in
            layer == 0 && module != .gate ? nil : 6
        }
        guard case .dense(let from) = decoder.weights.layers[0][.down],
            case .dense(let to) = converted.weights.layers[0][.down]
        else {
            Issue.record("not dense")
            return
        }
        expectEqual(from.weight.doubles().elements, to.weight.doubles().elements)
        expectEqual(from.bias?.doubles().elements ?? [], to.bias?.doubles().elements ?? [])
        #expect(converted.weights.layers[0][.gate].rank == 6 && converted.weights.layers[1][.value].rank == 6)
        #expect(converted.weights.head === converted.weights.embedding)
    }

    @Test("a larger rank is closer to the dense model", arguments: ConversionRecipe.Activation.allCases)
    func ranksMatter(activation: ConversionRecipe.Activation) throws {
        let decoder = try TinyDecoder.make()
        let distances = try [3, 8, 16].map { rank in
            try Self.distance(
                decoder, Self.convert(decoder, Self.recipe(activation), rank: { $1 == .key || $1 == .value ? 4 : rank })
            )
        }
        #expect(distances == distances.sorted(by: >), "\(distances)")
    }

    @Test(
        "anchoring brings the stack's output closer on the calibration tokens",
        arguments: ConversionRecipe.Activation.allCases)
    func anchoring(activation: ConversionRecipe.Activation) throws {
        let decoder = try TinyDecoder.make(layers: 4)
        let rank = { (_: Int, module: LinearModule) -> Int? in module == .key || module == .value ? 5 : 9 }
        let plain = try Self.convert(decoder, Self.recipe(activation, .output), rank: rank)
        let anchored = try Self.convert(decoder, Self.recipe(activation, .output, anchors: true), rank: rank)
        let (a, b) = (
            Self.distance(decoder, plain, Self.tokens), Self.distance(decoder, anchored, Self.tokens)
        )
        #expect(b < 0.9 * a, "\(a) → \(b)")
    }

    @Test("the same input gives the same bits, with σ, anchors and several threads")
    func isDeterministic() throws {
        let decoder = try TinyDecoder.make()
        let prints = try (0..<3).map { _ in
            try Self.convert(decoder, Self.recipe(.silu, anchors: true), rank: { _, _ in 4 }).weights.fingerprint
        }
        #expect(Set(prints).count == 1)
    }

    // MARK: - Errors of layers

    @Test("measured errors are those of plain loops, and the floor holds")
    func measuredErrors() throws {
        let decoder = try TinyDecoder.make()
        let converted = try Self.convert(decoder, Self.recipe(.silu)) { _, module in module == .up ? nil : 5 }
        let errors = try LayerError.measure(
            dense: decoder, converted: converted, Self.tokens, withFloor: true)
        #expect(errors.count == 2 * 6)
        for error in errors {
            #expect(error.floorRatio! >= 1 - 1e-6, "layer \(error.layer) \(error.module): \(error)")
            let relative = try #require(error.relative)
            #expect(relative > 0 && relative < 1.2)
        }
        // In the first layer nothing has drifted yet where q, k and v read.
        for error in errors where error.layer == 0 && error.module.inputOwner == .query {
            #expect(try abs(#require(error.relative) - #require(error.inPlace)) < 1e-6)
        }
        let steps = LayerSteps(decoder.configuration, Self.tokens)
        let x = steps.normalize(steps.embed(decoder), decoder.weights.layers[0].inputNorm)
        let y = steps.project(x, decoder.weights.layers[0][.query]).elements
        let z = steps.project(x, converted.weights.layers[0][.query]).elements
        let expected =
            (zip(y, z).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
            / y.reduce(0.0) { $0 + Double($1) * Double($1) }).squareRoot()
        let found = try #require(errors.first { $0.layer == 0 && $0.module == .query }?.relative)
        #expect(abs(found - expected) < 1e-6 * expected)
    }

    @Test("a layer whose output is zero has no error relative to it")
    func relativeToNothing() throws {
        let decoder = try TinyDecoder.make()
        let converted = try Self.convert(decoder, Self.recipe(.silu)) { _, _ in 5 }
        guard case .dense(let output) = decoder.weights.layers[1][.output],
            case .single(let matrix) = output.weight.storage
        else { preconditionFailure("a dense decoder in single precision") }
        for index in 0..<matrix.count { matrix.pointer[index] = 0 }
        let errors = try LayerError.measure(dense: decoder, converted: converted, Self.tokens, withFloor: true)
        for error in errors {
            let isOfNothing = error.layer == 1 && error.module == .output
            #expect((error.relative == nil) == isOfNothing, "\(error)")
            #expect((error.inPlace == nil) == isOfNothing, "\(error)")
            #expect([error.relative, error.inPlace, error.floorRatio].allSatisfy { $0?.isFinite ?? true }, "\(error)")
        }
    }

    @Test("in the output weighting a linear bottleneck attains the floor")
    func attainsFloor() throws {
        let decoder = try TinyDecoder.make()
        let converted = try Self.convert(decoder, Self.recipe(.identity, .output)) { _, _ in 5 }
        let errors = try LayerError.measure(dense: decoder, converted: converted, Self.tokens, withFloor: true)
        for error in errors {
            #expect(error.floorRatio! < 1.001 && error.floorRatio! > 0.999, "\(error)")
        }
    }
}

@Suite struct LayerStepsTests {
    @Test("step by step is the same as the whole forward pass", arguments: [1, 3])
    func equalsForward(keyValueHeads: Int) throws {
        let decoder = try TinyDecoder.make(keyValueHeads: keyValueHeads, hasBias: true)
        let batch = TokenBatch(TinyDecoder.sequences([300, 1, 77]))
        let steps = LayerSteps(decoder.configuration, batch)
        var hidden = steps.embed(decoder)
        for layer in decoder.weights.layers {
            let x = steps.normalize(hidden, layer.inputNorm)
            let attended = steps.attend(
                query: steps.project(x, layer[.query]), key: steps.project(x, layer[.key]),
                value: steps.project(x, layer[.value]))
            hidden = steps.add(hidden, steps.project(attended, layer[.output]))
            let y = steps.normalize(hidden, layer.postAttentionNorm)
            let product = steps.multiply(gate: steps.project(y, layer[.gate]), up: steps.project(y, layer[.up]))
            hidden = steps.add(hidden, steps.project(product, layer[.down]))
        }
        let expected = TinyDecoder.hidden(decoder, batch)
        expectClose(hidden.elements.map { Double($0) }, expected, within: 1e-4)
    }
}
