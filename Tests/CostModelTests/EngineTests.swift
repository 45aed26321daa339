import CostModel
import Testing
import Training

@testable import Tensors
@testable import Transformer

@Suite("CostModel: formulas against the engine")
struct CostModelEngineTests {
    private let threads = ThreadPool.threads

    /// Bytes of what a workspace really holds: matrices of one layer alone are kept, those of all layers are scratch.
    private func bytes(_ workspace: TrainingWorkspace) -> (kept: Int, shared: Int) {
        var (places, sizes): ([ObjectIdentifier: Int], [ObjectIdentifier: Int]) = ([:], [:])
        for layer in workspace.layers {
            for matrix in layer.distinct {
                places[ObjectIdentifier(matrix), default: 0] += 1
                sizes[ObjectIdentifier(matrix)] = matrix.bytes
            }
        }
        func sum(_ isKept: Bool) -> Int {
            places.filter { ($0.value == 1) == isKept }.reduce(0) { $0 + sizes[$1.key]! }
        }
        return (sum(true) + workspace.hidden.bytes, sum(false))
    }

    @Test(
        "Memory of a workspace is that of the formulas, buffer by buffer", arguments: SmallModel.all,
        MemoryMode.allCases)
    func memory(model: SmallModel, mode: MemoryMode) throws {
        for (batch, length) in [(1, 1), (3, 29), (2, 150), (7, 160)] {
            for precision in Precision.allCases {
                var step = try TrainingStep(batch: batch, sequenceLength: length)
                step.precision = precision
                let shape = try model.shape()
                let masters = DecoderWeights(shape.configuration, precision: .f32, layout: shape.layout)
                let decoder = Decoder(shape.configuration, masters.workingCopy(precision), precision: precision)
                let workspace = TrainingWorkspace(
                    decoder, mode: mode, maximumTokens: batch * length, longestSequence: length)
                let cost = EngineCost(shape, mode, step, threads: threads)
                let held = bytes(workspace)
                #expect(cost.keptBytes == held.kept && cost.keptBytes == workspace.keptBytes)
                #expect(held.shared > 0 || mode == .plain)
                #expect(cost.scratchBytes == workspace.scratchBytes)
                let rounded = precision == .bf16 ? decoder.weights.bytes : 0
                #expect(cost.weightBytes == masters.bytes + rounded && cost.parameters == masters.parameterCount)
                #expect(cost.gradientBytes == DecoderWeights(like: masters, precision: .f32).bytes)
                let optimizer = try AdamW(AdamW.Settings(learningRate: 1e-3), for: masters)
                #expect(cost.optimizerBytes == optimizer.firstMoments.bytes + optimizer.secondMoments.bytes)
                #expect(
                    cost.totalBytes == cost.keptBytes + cost.scratchBytes + cost.weightBytes + cost.gradientBytes
                        + cost.optimizerBytes)
            }
        }
    }

    @Test("FLOPs of the engine are those of the formulas", arguments: SmallModel.all, MemoryMode.allCases)
    func flops(model: SmallModel, mode: MemoryMode) throws {
        let shape = try model.shape()
        let decoder = shape.decoder()
        for (batch, length) in [(1, 1), (3, 29), (2, 150)] {
            let cost = EngineCost(shape, mode, try TrainingStep(batch: batch, sequenceLength: length), threads: threads)
            #expect(cost.flops == Double(batch) * decoder.trainingFLOPs(sequenceLength: length))
            #expect(
                cost.recomputedFLOPs == Double(batch) * decoder.recomputedFLOPs(sequenceLength: length, mode: mode))
            #expect(cost.allFLOPs == cost.flops + cost.recomputedFLOPs)
        }
    }

    @Test(
        "The paper's models: parameters, FLOPs and kept activations of the engine", arguments: ModelPreset.allCases,
        [false, true])
    func presets(preset: ModelPreset, isCola: Bool) throws {
        let shape = try preset.shape(rank: isCola ? preset.rank : nil)
        let decoder = shape.decoder()
        let step = try TrainingStep(batch: 2, sequenceLength: 256)
        for mode in MemoryMode.allCases {
            let cost = EngineCost(shape, mode, step, threads: threads)
            #expect(cost.parameters == decoder.weights.parameterCount)
            #expect(cost.flops == 2 * decoder.trainingFLOPs(sequenceLength: 256))
            #expect(cost.recomputedFLOPs == 2 * decoder.recomputedFLOPs(sequenceLength: 256, mode: mode))
            #expect(cost.keptBytes == TrainingWorkspace.keptBytes(decoder, mode: mode, tokens: 512))
        }
    }

    @Test("Counted causally, the paper's formulas and the engine differ by the scores that are computed again")
    func relation() throws {
        var step = try TrainingStep(batch: 2, sequenceLength: 40)
        step.pairs = .causal
        for model in SmallModel.all {
            let shape = try model.shape()
            // q·kᵀ over 820 pairs in two sequences.
            let again = Double(2 * model.layers * 2 * 820 * model.heads * model.headSize)
            for (method, engine) in [(TrainingMethod.fullRank, shape.dense), (.cola, shape)] {
                let cost = EngineCost(engine, .plain, step, threads: 1)
                #expect(cost.flops - MethodCost(method, shape, step).flopsPerStep == again, "\(model.name) \(method)")
            }
            // GCP computes down's output again and the engine does not: 2·80·37·24 in each layer.
            let gcp = MethodCost(.gcp, shape, step).recomputedFLOPsPerStep
            let checkpoint = EngineCost(shape.dense, .checkpoint, step, threads: 1).recomputedFLOPs
            #expect(gcp - checkpoint == Double(model.layers * 2 * 80 * 37 * 24))
        }
    }

    @Test("Fewer layers are a model of that depth, and the dense twin has no ranks and no biases of theirs")
    func parts() throws {
        let model = SmallModel.all[4]
        let shape = try model.shape()
        var shallow = model
        shallow.layers = 2
        #expect(shape.prefix(layers: 2) == (try shallow.shape()))
        #expect(shape.prefix(layers: 9) == shape)
        var dense = model
        (dense.rank, dense.biases) = ({ _, _ in nil }, [])
        #expect(shape.dense == (try dense.shape()))
        #expect(shape.isLowRank && !shape.dense.isLowRank)
        #expect(try SmallModel.all[3].shape().dense == SmallModel.all[3].shape())
    }
}
