import CostModel
import Testing
import Training

@testable import Tensors
@testable import Transformer

@Suite("CostModel: formulas against the engine")
struct CostModelEngineTests {
    private let threads = ThreadPool.threads

    /// Bytes of what a workspace really holds: matrices of one layer alone are kept, those of several layers are scratch.
    private func bytes(_ workspace: TrainingWorkspace) -> (kept: Int, shared: Int) {
        var columns: [UnsafeMutablePointer<Float>: [Int]] = [:]
        for trace in workspace.traces {
            for view in BlockBuffer.allCases.map({ trace[$0] }) where view.columns > 0 {
                columns[view.pointer, default: []].append(view.columns)
            }
        }
        let rows = 4 * workspace.maximumTokens
        return (
            columns.values.reduce(workspace.hidden.bytes) { $0 + ($1.count == 1 ? rows * $1[0] : 0) },
            columns.values.reduce(0) { $0 + ($1.count == 1 ? 0 : rows * $1.max()!) }
        )
    }

    @Test(
        "Memory of a workspace is that of the formulas, buffer by buffer", arguments: AnyModel.all,
        MemoryMode.allCases)
    func memory(model: AnyModel, mode: MemoryMode) throws {
        for (batch, length) in [(1, 1), (3, 29), (2, 150), (7, 160)] {
            for precision in Precision.allCases {
                var step = try TrainingStep(batch: batch, sequenceLength: length)
                step.precision = precision
                let description = try model.description()
                let masters = ModelWeights(description, precision: .f32)
                let engine = LanguageModel(masters.workingCopy(precision), precision: precision)
                let workspace = TrainingWorkspace(
                    engine, mode: mode, maximumTokens: batch * length, longestSequence: length)
                let cost = EngineCost(description, mode, step, threads: threads)
                let held = bytes(workspace)
                #expect(cost.keptBytes == held.kept && cost.keptBytes == workspace.keptBytes)
                let plain = EngineCost(description, .plain, step, threads: threads)
                #expect(held.shared == cost.scratchBytes - plain.scratchBytes)
                #expect(held.shared > 0 || mode == .plain)
                #expect(cost.scratchBytes == workspace.scratchBytes)
                let rounded = precision == .bf16 ? engine.weights.bytes : 0
                #expect(cost.weightBytes == masters.bytes + rounded && cost.parameters == masters.parameterCount)
                #expect(cost.gradientBytes == ModelWeights(like: masters, precision: .f32).bytes)
                let optimizer = try AdamW(AdamW.Settings(learningRate: 1e-3), for: masters)
                #expect(cost.optimizerBytes == optimizer.state.bytes)
                #expect(
                    cost.totalBytes == cost.keptBytes + cost.scratchBytes + cost.weightBytes + cost.gradientBytes
                        + cost.optimizerBytes)
            }
        }
    }

    @Test("FLOPs of the engine are those of the formulas", arguments: AnyModel.all, MemoryMode.allCases)
    func flops(model: AnyModel, mode: MemoryMode) throws {
        let description = try model.description()
        for (batch, length) in [(1, 1), (3, 29), (2, 150)] {
            let step = try TrainingStep(batch: batch, sequenceLength: length)
            let cost = EngineCost(description, mode, step, threads: threads)
            #expect(cost.flops == Double(batch) * description.trainingFLOPs(sequenceLength: length))
            #expect(
                cost.recomputedFLOPs == Double(batch) * description.recomputedFLOPs(sequenceLength: length, mode: mode))
            #expect(cost.allFLOPs == cost.flops + cost.recomputedFLOPs)
        }
    }

    @Test(
        "The paper's models: parameters, FLOPs and kept activations of the engine", arguments: ModelPreset.allCases,
        [false, true])
    func presets(preset: ModelPreset, isCola: Bool) throws {
        let description = try preset.description(rank: isCola ? preset.rank : nil)
        // Names and shapes alone: large models need no memory.
        let weights = ModelWeights(description, precision: nil)
        let step = try TrainingStep(batch: 2, sequenceLength: 256)
        for mode in MemoryMode.allCases {
            let cost = EngineCost(description, mode, step, threads: threads)
            #expect(cost.parameters == weights.parameterCount)
            #expect(cost.flops == 2 * description.trainingFLOPs(sequenceLength: 256))
            #expect(cost.recomputedFLOPs == 2 * description.recomputedFLOPs(sequenceLength: 256, mode: mode))
            #expect(cost.keptBytes == TrainingWorkspace.keptBytes(description, mode: mode, tokens: 512))
        }
    }

    @Test("Counted causally, the paper's formulas and the engine differ by the scores that are computed again")
    func relation() throws {
        var step = try TrainingStep(batch: 2, sequenceLength: 40)
        step.pairs = .causal
        for model in SmallModel.all {
            let description = try model.description()
            // q·kᵀ over 820 pairs in two sequences.
            let again = Double(2 * model.layers * 2 * 820 * model.heads * model.headSize)
            for (method, engine) in [(TrainingMethod.fullRank, description.dense), (.cola, description)] {
                let cost = EngineCost(engine, .plain, step, threads: 1)
                let paper = MethodCost(method, description, step)
                #expect(cost.flops - paper.flopsPerStep == again, "\(model.name) \(method)")
            }
            // GCP computes down's output again and the engine does not: 2·80·37·24 in each layer.
            let gcp = MethodCost(.gcp, description, step).recomputedFLOPsPerStep
            let checkpoint = EngineCost(description.dense, .checkpoint, step, threads: 1).recomputedFLOPs
            #expect(gcp - checkpoint == Double(model.layers * 2 * 80 * 37 * 24))
        }
    }

    @Test("The dense twin has no ranks and no biases of theirs, and silu where CoLA took it away")
    func dense() throws {
        let model = SmallModel.all[4]
        let description = try model.description()
        var dense = model
        (dense.rank, dense.biases) = ({ _, _ in nil }, [])
        #expect(description.dense == (try dense.description()))
        #expect(description.isLowRank && !description.dense.isLowRank)
        #expect(try SmallModel.all[3].description().dense == SmallModel.all[3].description())
        #expect(try SmallModel.cola.description().dense == SmallModel.dense.description())
    }
}
