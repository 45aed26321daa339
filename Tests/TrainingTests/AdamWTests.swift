import CKernels
import Foundation
import TestSupport
import Tensors
import Testing
import Transformer

@testable import Training

/// A model of two blocks, the first dense with biases, the second low-rank; the embedding is longer than a block of
/// parameters.
func optimizerModel(isTied: Bool = false) throws -> ModelWeights {
    let json = """
        {"model_type": "llama", "hidden_size": 34, "intermediate_size": 51, "num_hidden_layers": 2,
         "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 2003, "tie_word_embeddings": \(isTied)}
        """
    let description = try ModelDescription(json: json, path: "test").with {
        .init(rank: $0.block == 0 ? nil : 5, hasBias: $0.block == 0 && $0.role != .down)
    }
    return ModelWeights(description, precision: .f32)
}

extension ModelWeights {
    fileprivate func fill(deviation: Double, seed: UInt64) {
        for (index, parameter) in parameters.enumerated() {
            parameter.weight.fillNormal(deviation: deviation, seed: seed + UInt64(index))
        }
    }

    /// All elements, bfloat16 ones widened.
    fileprivate var elements: [[Float]] { parameters.map(\.weight.elements) }
}

/// Masters, gradients and an optimiser; gradients change from step to step.
private struct Run {
    let masters: ModelWeights
    let gradients: ModelWeights
    let copy: ModelWeights
    let optimizer: AdamW

    init(_ settings: AdamW.Settings, isTied: Bool = false, copy: Precision = .bf16) throws {
        masters = try optimizerModel(isTied: isTied)
        masters.fill(deviation: 0.5, seed: 1000)
        gradients = ModelWeights(like: masters, precision: .f32)
        self.copy = ModelWeights(like: masters, precision: copy)
        optimizer = try AdamW(settings, for: masters)
    }

    func fillGradients() { gradients.fill(deviation: 0.03, seed: 5000 + 100 * UInt64(optimizer.step)) }

    func step(rate: Double? = nil, scale: Double = 1) {
        fillGradients()
        optimizer.apply(
            to: masters, workingCopy: copy, gradients: gradients, learningRate: rate, gradientScale: scale)
    }

    var state: [[Float]] {
        masters.elements + optimizer.state.firstMoment.elements + optimizer.state.secondMoment.elements + copy.elements
    }
}

@Suite("AdamW")
struct AdamWTests {
    @Test("Steps with clipping, decay and groups are those of the definition", arguments: [false, true])
    func steps(isTied: Bool) throws {
        let groups = [
            ParameterGroup(pattern: "model.layers.0.*", learningRateFactor: 0.5),
            ParameterGroup(pattern: "*cola_b", learningRateFactor: 2, weightDecay: 0.3),
            ParameterGroup(pattern: "*norm.weight", weightDecay: 0),
        ]
        let run = try Run(
            .init(learningRate: 1, beta1: 0.8, beta2: 0.95, epsilon: 1e-6, weightDecay: 0.7, groups: groups),
            isTied: isTied)
        let names = run.masters.parameters.map(\.name)
        #expect(names.contains("lm_head.weight") != isTied)
        for step in 1...4 {
            run.fillGradients()
            let norm = AdamW.gradientNorm(run.gradients)
            let scale = AdamW.clippingScale(norm: norm, limit: 3)
            let naiveNorm = run.gradients.elements.joined().reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
            expectClose([norm], [naiveNorm], within: 200_000 * 0x1p-53 * naiveNorm)
            expectClose([scale], [3 / (naiveNorm + 1e-6)], within: 1e-9)
            #expect(scale < 0.5)
            let before = (
                run.masters.elements, run.optimizer.state.firstMoment.elements,
                run.optimizer.state.secondMoment.elements
            )
            let rate = 0.01 * Double(step)
            run.step(rate: rate, scale: scale)
            let after = (
                run.masters.elements, run.optimizer.state.firstMoment.elements,
                run.optimizer.state.secondMoment.elements
            )
            let gradients = run.gradients.elements
            for (index, name) in names.enumerated() {
                let isNorm = name.hasSuffix("norm.weight")
                let factor = isNorm ? 1 : name.hasSuffix("cola_b") ? 2 : name.hasPrefix("model.layers.0.") ? 0.5 : 1
                let factors = NaiveAdamWStep.Factors(
                    rate: rate * factor, beta1: 0.8, beta2: 0.95, epsilon: 1e-6,
                    decay: isNorm ? 0 : name.hasSuffix("cola_b") ? 0.3 : 0.7, scale: scale, step: step)
                let expected = gradients[index].indices.map {
                    NaiveAdamWStep(
                        w: Double(before.0[index][$0]), m: Double(before.1[index][$0]), v: Double(before.2[index][$0]),
                        g: Double(gradients[index][$0]), factors)
                }
                func check(_ found: [Float], _ value: (NaiveAdamWStep) -> Double, _ bound: (NaiveAdamWStep) -> Double) {
                    expectClose(found.map(Double.init), expected.map(value), within: expected.map(bound), name)
                }
                check(after.0[index], \.w, \.weightBound)
                check(after.1[index], \.m, \.firstBound)
                check(after.2[index], \.v, \.secondBound)
            }
        }
        #expect(run.optimizer.step == 4)
    }

    @Test("Three steps of one weight have the values of a computation with fifty digits")
    func knownValues() throws {
        func weights(_ settings: AdamW.Settings, start: Float, scale: Double) throws -> [Double] {
            let masters = try optimizerModel()
            for parameter in masters.parameters { parameter.weight.fill { start } }
            let gradients = ModelWeights(like: masters, precision: .f32)
            let optimizer = try AdamW(settings, for: masters)
            return [0.5, -0.25, 1].map { gradient in
                for parameter in gradients.parameters { parameter.weight.fill { Float(gradient / scale) } }
                optimizer.apply(to: masters, gradients: gradients, gradientScale: scale)
                let values = Set(masters.elements.joined())
                #expect(values.count == 1)
                return Double(values.first ?? .nan)
            }
        }
        // The usual settings: the first step is η·λ·w and nearly the whole rate. Three steps, about five roundings each.
        expectClose(
            try weights(.init(learningRate: 0.125), start: 1, scale: 0.25),
            [0.873750002499999950, 0.839365685881682703, 0.756052529985884916], within: 8 * 0x1p-24)
        // A large ε outside the root: −2 · 0.95 − 0.125 · 0.5 / (0.5 + 0.5) = −1.9625, then a first moment of zero.
        expectClose(
            try weights(
                .init(learningRate: 0.125, beta1: 0.5, beta2: 0.75, epsilon: 0.5, weightDecay: 0.4), start: -2, scale: 1
            ),
            [-1.9625, -1.864375, -1.829867950858063766], within: 12 * 0x1p-24)
    }

    @Test("A working copy is the masters, rounded where it is in bfloat16", arguments: Precision.allCases)
    func workingCopy(precision: Precision) throws {
        let run = try Run(.init(learningRate: 1e-2), copy: precision)
        for _ in 0..<2 { run.step() }
        for (master, copy) in zip(run.masters.parameters, run.copy.parameters) {
            let isRounded = precision == .bf16 && master.weight.shape.count > 1
            #expect(copy.weight.precision == (isRounded ? .bf16 : .f32))
            let exact = master.weight.elements
            expectEqual(copy.weight.elements, isRounded ? exact.map { BFloat16($0).float } : exact, copy.name)
        }
        #expect(run.copy.parameters.contains { !$0.weight.isContiguous })
    }

    @Test("Tied embeddings are one parameter in all that is kept for them, and updated once")
    func tied() throws {
        let run = try Run(.init(learningRate: 0.5, weightDecay: 0), isTied: true)
        for weights in [
            run.copy, run.gradients, run.optimizer.state.firstMoment, run.optimizer.state.secondMoment,
        ] {
            #expect(weights.head === weights.embedding)
            #expect(weights.parameterCount == run.masters.parameterCount)
            #expect(weights.elements.joined().allSatisfy { $0 == 0 })
        }
        let before = run.masters.elements[0]
        run.step()
        // The first step moves every weight by the whole rate, against its gradient.
        let moved = zip(before, zip(run.masters.elements[0], run.gradients.elements[0])).map { before, after in
            Double((before - after.0) * (after.1 < 0 ? -1 : 1))
        }
        let bounds = run.gradients.elements[0].map { 1e-6 + 0.5e-8 / abs(Double($0)) }
        expectClose(moved, [Double](repeating: 0.5, count: moved.count), within: bounds)
    }

    @Test("Any number of threads leaves the same bits")
    func threads() throws {
        let threads = ck_thread_count()
        // The number holds for the calling thread, so that other tests keep theirs.
        defer { ck_set_thread_count(threads) }
        var results: [(state: [[Float]], norm: Double)] = []
        for count in [1, 2, 5] {
            ck_set_thread_count(Int32(count))
            #expect(ThreadPool.threads == count)
            let run = try Run(.init(learningRate: 1e-3))
            for _ in 0..<3 { run.step(scale: 0.7) }
            results.append((run.state, AdamW.gradientNorm(run.gradients)))
        }
        for result in results.dropFirst() {
            expectIdentical(result.state, results[0].state)
            #expect(result.norm == results[0].norm)
        }
    }

    @Test("The gap between factors that share memory is the neighbours' alone, and norms are those of one piece")
    func strided() throws {
        let run = try Run(.init(learningRate: 1e-2))
        run.step()
        // The factor A of k lies between those of q and v.
        let key = try run.gradients.named("model.layers.1.self_attn.k_proj.cola_a")
        #expect(!key.isContiguous)
        for parameter in run.gradients.parameters { parameter.weight.fill { 0 } }
        key.fillNormal(deviation: 1, seed: 7)
        #expect(AdamW.gradientNorm(run.gradients) == ck_sum_of_squares(key.elements, key.count).squareRoot())
        let before = run.masters.elements
        let still = try AdamW(.init(learningRate: 1, weightDecay: 0), for: run.masters)
        still.apply(to: run.masters, gradients: run.gradients)
        for (index, parameter) in run.masters.parameters.enumerated() {
            let isMoved = parameter.name == "model.layers.1.self_attn.k_proj.cola_a"
            let pairs = zip(parameter.weight.elements, before[index])
            #expect(isMoved ? pairs.allSatisfy { $0 != $1 } : pairs.allSatisfy { $0 == $1 }, "\(parameter.name)")
        }
    }

    @Test("Where elements lie changes no bit: a factor beside others is updated and measured as one by itself")
    func places() throws {
        let run = try Run(.init(learningRate: 1e-2))
        // Both are [34, 5]; q's stands beside those of k and v, o's alone.
        let names = ["q_proj", "o_proj"].map { "model.layers.1.self_attn.\($0).cola_a" }
        func pair(_ weights: ModelWeights) throws -> [Weight] { try names.map(weights.named) }
        #expect(try pair(run.masters).map(\.isContiguous) == [false, true])
        for weight in try pair(run.masters) { weight.fillNormal(deviation: 0.5, seed: 3) }
        for seed in 11..<14 as Range<UInt64> {
            run.fillGradients()
            for weight in try pair(run.gradients) { weight.fillNormal(deviation: 0.03, seed: seed) }
            run.optimizer.apply(to: run.masters, workingCopy: run.copy, gradients: run.gradients, gradientScale: 0.7)
        }
        for weights in [run.masters, run.copy, run.optimizer.state.firstMoment, run.optimizer.state.secondMoment] {
            let (one, other) = (try pair(weights)[0].elements, try pair(weights)[1].elements)
            expectEqual(one, other)
        }
        let norms = try (0..<2).map { index in
            let gradients = ModelWeights(like: run.masters, precision: .f32)
            try pair(gradients)[index].fillNormal(deviation: 0.03, seed: 5)
            return AdamW.gradientNorm(gradients)
        }
        #expect(norms[0] == norms[1])
        let groups = ParameterGroup.bySize(of: run.masters).filter { names.contains($0.pattern) }
        #expect(groups.count == 2 && groups[0].unit == groups[1].unit)
    }

    @Test("An optimiser that goes on from its state takes the same steps, to the bit")
    func resuming() throws {
        let settings = AdamW.Settings(learningRate: 1e-2)
        let whole = try Run(settings)
        for _ in 0..<3 { whole.step() }
        let first = try Run(settings)
        for _ in 0..<2 { first.step() }
        #expect(first.optimizer.state.step == 2)
        let second = try AdamW(settings, from: first.optimizer.state)
        first.fillGradients()
        second.apply(to: first.masters, workingCopy: first.copy, gradients: first.gradients)
        #expect(second.step == 3)
        expectIdentical(first.state, whole.state)
    }
}
