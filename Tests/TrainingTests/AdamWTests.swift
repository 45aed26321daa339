import CKernels
import Foundation
import TestSupport
import Tensors
import Testing
import Transformer

@testable import Training

/// A decoder of two layers, the first dense with biases, the second low-rank; the embedding is longer than a block.
func optimizerModel(isTied: Bool = false) throws -> DecoderWeights {
    let json = """
        {"model_type": "llama", "hidden_size": 34, "intermediate_size": 51, "num_hidden_layers": 2,
         "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 2003, "tie_word_embeddings": \(isTied)}
        """
    let configuration = try DecoderConfiguration(json: json, path: "test")
    return DecoderWeights(configuration, precision: .f32) { layer, module in
        .init(rank: layer == 0 ? nil : 5, hasBias: layer == 0 && module != .down)
    }
}

extension DecoderWeights {
    fileprivate func fill(deviation: Double, seed: UInt64) {
        var seed = seed
        visitParameters {
            $1.fillNormal(deviation: deviation, seed: seed)
            seed += 1
        }
    }

    /// What `visitParameters` shows.
    var parameters: [(name: String, weight: Weight)] {
        var parameters: [(String, Weight)] = []
        visitParameters { parameters.append(($0, $1)) }
        return parameters
    }

    /// All elements, bfloat16 ones widened.
    fileprivate var elements: [[Float]] {
        parameters.map { parameter in
            switch parameter.weight.storage {
            case .single(let matrix): Array(matrix.buffer)
            case .bfloat16(let tensor): tensor.buffer.map(\.float)
            case .none: []
            }
        }
    }
}

/// Masters, gradients and an optimiser; gradients change from step to step.
private struct Run {
    let masters: DecoderWeights
    let gradients: DecoderWeights
    let copy: DecoderWeights
    let optimizer: AdamW

    init(_ settings: AdamW.Settings, isTied: Bool = false, copy: Precision = .bf16) throws {
        masters = try optimizerModel(isTied: isTied)
        masters.fill(deviation: 0.5, seed: 1000)
        gradients = DecoderWeights(like: masters, precision: .f32)
        self.copy = DecoderWeights(like: masters, precision: copy)
        optimizer = try AdamW(settings, for: masters)
    }

    func fillGradients() { gradients.fill(deviation: 0.03, seed: 5000 + 100 * UInt64(optimizer.step)) }

    func step(rate: Double? = nil, scale: Double = 1) {
        fillGradients()
        optimizer.apply(
            to: masters, workingCopy: copy, gradients: gradients, learningRate: rate, gradientScale: scale)
    }

    var state: [[Float]] {
        masters.elements + optimizer.firstMoments.elements + optimizer.secondMoments.elements + copy.elements
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
                run.masters.elements, run.optimizer.firstMoments.elements, run.optimizer.secondMoments.elements
            )
            let rate = 0.01 * Double(step)
            run.step(rate: rate, scale: scale)
            let after = (
                run.masters.elements, run.optimizer.firstMoments.elements, run.optimizer.secondMoments.elements
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
            masters.visitParameters { $1.fillNormal(deviation: 0, mean: Double(start), seed: 0) }
            let gradients = DecoderWeights(like: masters, precision: .f32)
            let optimizer = try AdamW(settings, for: masters)
            return [0.5, -0.25, 1].map { gradient in
                gradients.visitParameters { $1.fillNormal(deviation: 0, mean: gradient / scale, seed: 0) }
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
            guard case .single(let exact) = master.weight.storage else { continue }
            switch copy.weight.storage {
            case .single(let matrix):
                #expect(precision == .f32 || matrix.shape.count == 1)
                #expect(matrix.buffer.elementsEqual(exact.buffer), "\(copy.name)")
            case .bfloat16(let tensor):
                #expect(tensor.buffer.elementsEqual(exact.buffer.lazy.map { BFloat16($0) }), "\(copy.name)")
            case .none: Issue.record("\(copy.name) has no elements")
            }
        }
    }

    @Test("Tied embeddings are one parameter in all that is kept for them, and updated once")
    func tied() throws {
        let run = try Run(.init(learningRate: 0.5, weightDecay: 0), isTied: true)
        for weights in [run.copy, run.gradients, run.optimizer.firstMoments, run.optimizer.secondMoments] {
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

    @Test("An optimiser that goes on from its moments takes the same steps, to the bit")
    func resuming() throws {
        let settings = AdamW.Settings(learningRate: 1e-2)
        let whole = try Run(settings)
        for _ in 0..<3 { whole.step() }
        let first = try Run(settings)
        for _ in 0..<2 { first.step() }
        let second = try AdamW(
            settings, firstMoments: first.optimizer.firstMoments, secondMoments: first.optimizer.secondMoments, step: 2)
        first.fillGradients()
        second.apply(to: first.masters, workingCopy: first.copy, gradients: first.gradients)
        #expect(second.step == 3)
        expectIdentical(first.state, whole.state)
    }
}
