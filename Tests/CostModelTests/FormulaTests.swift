import CostModel
import Foundation
import Testing
import Training
import Transformer

@Suite("CostModel: formulas")
struct CostModelFormulaTests {
    /// A model with d_ff = 2.5d and as many keys as queries, which the paper's formulas are for.
    private struct Special: Sendable {
        let n = 96.0, d = 64.0, h = 8.0, r = 12.0, layers = 3.0, batch = 5.0
        let placement: ActivationPlacement

        func cost(_ method: TrainingMethod) throws -> MethodCost {
            let model = SmallModel(
                name: "special", hidden: 64, intermediate: 160, layers: 3, heads: 8, keyValueHeads: 8, headSize: 8,
                placement: placement, rank: { _, _ in 12 })
            return MethodCost(method, try model.description(), try TrainingStep(batch: 5, sequenceLength: 96))
        }
    }

    @Test("At d_ff = 2.5d and without grouped queries FLOPs are the paper's formulas")
    func flops() throws {
        let s = Special(placement: .inner)
        let (n, d, r) = (s.n, s.d, s.r)
        let f = 2.5 * d
        // swift-format-ignore
        let layer: [TrainingMethod: (perSequence: Double, perStep: Double)] = [
            .fullRank: (24*n*d*d + 12*n*n*d + 18*n*d*f, 0),
            .gcp: (24*n*d*d + 12*n*n*d + 18*n*d*f, 0),
            .cola: (48*n*d*r + 12*n*n*d + 18*n*r*(d + f), 0),
            .colaM: (48*n*d*r + 12*n*n*d + 18*n*r*(d + f), 0),
            .lora: (16*n*d*d + 12*n*n*d + 12*n*d*f + 48*n*d*r + 18*n*r*(d + f), 0),
            .relora: (16*n*d*d + 12*n*n*d + 12*n*d*f + 48*n*d*r + 18*n*r*(d + f), 0),
            .galore: (24*n*d*d + 12*n*n*d + 18*n*d*f, 16*d*d*r + 12*d*f*r),
            .sltrain: (24*n*d*d + 12*n*n*d + 18*n*d*f, 24*d*d*r + 18*d*f*r),
        ]
        for method in TrainingMethod.allCases {
            let expected = s.layers * (s.batch * layer[method]!.perSequence + layer[method]!.perStep)
            #expect(try s.cost(method).layerFLOPsPerStep == expected, "\(method)")
        }
        let sequences = s.layers * s.batch
        #expect(try s.cost(.gcp).recomputedFLOPsPerStep == sequences * (23 * n * d * d + 4 * n * n * d))
        #expect(try s.cost(.colaM).recomputedFLOPsPerStep == sequences * (18.5 * n * d * r + 4 * n * n * d))
    }

    @Test("At d_ff = 2.5d and without grouped queries kept activations are the paper's formulas")
    func kept() throws {
        let s = Special(placement: .inner)
        let (n, d, h, r) = (s.n, s.d, s.h, s.r)
        let sequences = s.layers * s.batch
        #expect(try s.cost(.fullRank).keptElements == sequences * (20 * n * d + 2 * n * n * h))
        #expect(try s.cost(.gcp).keptElements == sequences * n * d)
        #expect(try s.cost(.cola).keptElements == sequences * (17.5 * n * d + 2 * n * n * h + 14 * n * r))
        #expect(try s.cost(.colaM).keptElements == sequences * (2 * n * d + 7 * n * r))
    }

    @Test(
        "Where σ stands decides whether a bottleneck is kept once or twice, and whether there is a silu",
        arguments: [
            (ActivationPlacement.both, 20.0, 14.0), (.inner, 17.5, 14), (.reduced, 17.5, 8), (.original, 20, 7),
        ])
    func placement(_ placement: ActivationPlacement, wide: Double, narrow: Double) throws {
        let s = Special(placement: placement)
        let expected = wide * s.n * s.d + 2 * s.n * s.n * s.h + narrow * s.n * s.r
        #expect(try s.cost(.cola).keptElements == s.layers * s.batch * expected)
        // A dense model has its silu wherever σ would stand.
        #expect(
            try s.cost(.fullRank).keptElements == s.layers * s.batch * (20 * s.n * s.d + 2 * s.n * s.n * s.h))
    }

    @Test("Tiled attention keeps no scores, and computes as much", arguments: SmallModel.all)
    func tiled(model: SmallModel) throws {
        let description = try model.description()
        let standard = try TrainingStep(batch: 3, sequenceLength: 50)
        var tiled = standard
        tiled.attention = .tiled
        let scores = Double(3 * model.layers * 2 * 50 * 50 * model.heads)
        for method in TrainingMethod.allCases {
            let (a, b) = (MethodCost(method, description, standard), MethodCost(method, description, tiled))
            let keepsScores = method != .gcp && method != .colaM
            #expect(a.keptElements - b.keptElements == (keepsScores ? scores : 0), "\(method)")
            #expect(a.flopsPerStep == b.flopsPerStep && a.recomputedFLOPsPerStep == b.recomputedFLOPsPerStep)
        }
    }

    @Test("Causal counting has (n + 1)/2n of attention's FLOPs and scores", arguments: SmallModel.all)
    func causal(model: SmallModel) throws {
        let description = try model.description()
        let all = try TrainingStep(batch: 2, sequenceLength: 50)
        var causal = all
        causal.pairs = .causal
        let width = model.heads * model.headSize
        // 50² pairs, or 1275.
        let pairs = Double(2 * model.layers * (2500 - 1275))
        for method in TrainingMethod.allCases {
            let (a, b) = (MethodCost(method, description, all), MethodCost(method, description, causal))
            #expect(a.flopsPerStep - b.flopsPerStep == 12 * pairs * Double(width), "\(method)")
            let isAgain = method == .gcp || method == .colaM
            #expect(
                a.recomputedFLOPsPerStep - b.recomputedFLOPsPerStep == (isAgain ? 4 * pairs * Double(width) : 0),
                "\(method)")
            #expect(a.keptElements - b.keptElements == (isAgain ? 0 : 2 * pairs * Double(model.heads)), "\(method)")
        }
    }

    @Test("Grouped queries: widths and parameters of q, k, v and o by hand")
    func grouped() throws {
        // d 24, d_ff 37, 6 heads of 10 on 2 of keys: q 24 → 60, k and v 24 → 20, o 60 → 24; V 301, tied; 3 layers.
        let model = SmallModel.all[2]
        // 24·60 + 2·24·20 + 60·24 + 3·24·37 = 1440 + 960 + 1440 + 2664 = 6504 in each layer, 24·301 + 7·24 = 7392 besides.
        let cost = MethodCost(.fullRank, try model.description(), try TrainingStep(batch: 1, sequenceLength: 10))
        #expect(cost.parameters == 3 * 6504 + 7392)
        // 6·10·(3·6504 + 7224) of products, 3 layers of 12·100·60 of attention.
        #expect(cost.flopsPerStep == 60 * Double(3 * 6504 + 7224) + 3 * 72_000)
        // 6·24 + 2·60 + 2·20 + 4·37 = 452 of each token and layer; 2·100·6 scores.
        #expect(cost.keptElements == 3 * (10 * 452 + 1200))
    }

    @Test("A layer that stays dense costs CoLA what it costs full rank, and CoLA-M computes it again")
    func partlyDense() throws {
        let (dense, step) = (try SmallModel.dense.description(), try TrainingStep(batch: 1, sequenceLength: 10))
        let (full, gcp) = (MethodCost(.fullRank, dense, step), MethodCost(.gcp, dense, step))
        for method in TrainingMethod.allCases {
            let cost = MethodCost(method, dense, step)
            #expect(cost.flopsPerStep == full.flopsPerStep && cost.parameters == full.parameters, "\(method)")
            #expect(cost.trainableParameters == full.parameters && cost.optimizerBytes == full.optimizerBytes)
        }
        #expect(MethodCost(.colaM, dense, step).recomputedFLOPsPerStep == gcp.recomputedFLOPsPerStep)
        // One layer of 24 × 24 at rank 5 instead: q of layer 0.
        var model = SmallModel.dense
        model.rank = { layer, role in layer == 0 && role == .query ? 5 : nil }
        let part = MethodCost(.cola, try model.description(), step)
        #expect(full.parameters - part.parameters == 24 * 24 - 5 * 48)
        #expect(full.flopsPerStep - part.flopsPerStep == Double(60 * (24 * 24 - 5 * 48)))
        #expect(part.keptElements - full.keptElements == 2 * 10 * 5)
    }

    @Test("Biases of low-rank layers are CoLA's; those of dense layers everybody's")
    func biases() throws {
        var model = SmallModel.cola
        model.rank = { _, role in role == .key ? nil : 5 }
        let (bare, step) = (try model.description(), try TrainingStep())
        // Outputs of q and k: 24 each, in three layers.
        model.biases = [.query, .key]
        let biased = try model.description()
        for method in TrainingMethod.allCases {
            let added = MethodCost(method, biased, step).parameters - MethodCost(method, bare, step).parameters
            #expect(added == (method == .cola || method == .colaM ? 144 : 72), "\(method)")
        }
    }

    @Test(
        "Without a gate: a linear layer less, up and its activation kept; learned positions and biases of norms by hand"
    )
    func ungated() throws {
        // d 24, d_ff 37, 4 heads of 6, V 301 tied, 173 positions, 3 layers. Matrices: 4·576 + 2·888 = 4080 in each; biases
        // 5·24 + 37 = 157; norms 2·2·24 in each and 2·24.
        let (model, step) = (try OtherModel.ungated(), try TrainingStep(batch: 2, sequenceLength: 10))
        let full = MethodCost(.fullRank, model, step)
        #expect(full.parameters == 3 * (4080 + 157 + 96) + 48 + (301 + 173) * 24)
        // 6·20·(3·4080 + 301·24) of products, 3 layers of 2·12·100·24 of attention.
        #expect(full.flopsPerStep == 120 * Double(3 * 4080 + 7224) + 3 * 57_600)
        // 6·24 + 4·24 + 2·37 of each token and layer; 2·100·4 scores of each sequence.
        #expect(full.keptElements == Double(3 * (20 * 314 + 2 * 800)))
        // CoLA of rank 5 with σ in bottlenecks only: one activation less, six bottlenecks before and after σ.
        let inner = model.with(.inner, outer: .geluTanh).with(rank: 5)
        #expect(MethodCost(.cola, inner, step).keptElements == Double(3 * (20 * (314 - 37 + 60) + 1600)))
        #expect(inner.dense.blocks[0].feedForward.activation == .silu)
        #expect(model.with(rank: 5).dense.blocks[0].feedForward.activation == .geluTanh)
    }

    @Test("Norms around and inside, windows and widths of each layer, by hand")
    func sandwiched() throws {
        // d 24, 6 heads of 8 on 2 of keys; d_ff 31, 37 and 29; windows of 2, 20 and none; V 301.
        let model = try OtherModel.sandwiched()
        var step = try TrainingStep(batch: 1, sequenceLength: 10)
        // q and o 24·48, k and v 24·16, gate, up and down 24·d_ff; norms: 4·24 and 2·8 twice, then 3·24; 24 at the end.
        let matrices = 3 * (2 * 1152 + 2 * 384) + 72 * (31 + 37 + 29)
        #expect(
            MethodCost(.fullRank, model, step).parameters == matrices + 3 * 16 + 2 * (96 + 16) + 72 + 24 + 2 * 301 * 24)
        // Pairs: 10·2 and 10·10 twice, or causally 3 + 8·2 and 55 twice. Streams of layers: 2 + 2 and four norms, or three.
        for (pairs, first, whole) in [(TrainingStep.Pairs.all, 20, 100), (.causal, 19, 55)] {
            step.pairs = pairs
            let cost = MethodCost(.fullRank, model, step)
            #expect(cost.flopsPerStep == Double(60 * (matrices + 7224) + 12 * 48 * (first + 2 * whole)))
            let widths = 2 * (8 * 24 + 2 * 48 + 2 * 16 + 48 + 16) + (7 * 24 + 2 * 48 + 2 * 16) + 4 * (31 + 37 + 29)
            #expect(cost.keptElements == Double(10 * widths + 2 * 6 * (first + 2 * whole)))
        }
    }

    @Test("The share of SLTrain's sparse matrix is rounded down in each layer", arguments: [0, 0.03, 0.5, 1])
    func sparse(density: Double) throws {
        let (description, step) = (try SmallModel.cola.description(), try TrainingStep(sparseDensity: density))
        let count = 3 * (4 * Int(density * 576) + 3 * Int(density * 888))
        let cost = MethodCost(.sltrain, description, step)
        #expect(cost.parameters == MethodCost(.cola, description, step).parameters + count)
        #expect(cost.weightBytes == Double(4 * cost.parameters + 8 * count))
    }

    // MARK: - What cannot be

    @Test("A rank is from 1 to the layer's narrower side", arguments: [(LinearRole.key, 12), (.query, 24), (.up, 24)])
    func ranks(role: LinearRole, largest: Int) throws {
        var model = SmallModel.dense
        model.keyValueHeads = 2
        func validate(_ rank: Int) throws {
            model.rank = { layer, other in layer == 1 && other == role ? rank : nil }
            try model.description().validateRanks()
        }
        for rank in [1, largest] { try validate(rank) }
        for rank in [0, -1, largest + 1, .max] {
            let error = #expect(throws: CostModelError.self) { try validate(rank) }
            #expect(error?.description.contains("layer 1 \(role.module): found \(rank), expected 1 to") == true)
        }
    }

    @Test("A step has tokens, and not too many")
    func steps() throws {
        for (batch, length) in [(0, 1), (1, 0), (-1, 5), (1 << 30, 2), (.max, .max), (1, (1 << 30) + 1)] {
            #expect(throws: CostModelError.self) { try TrainingStep(batch: batch, sequenceLength: length) }
        }
        for density in [-0.1, 1.1, .nan] {
            #expect(throws: CostModelError.self) { try TrainingStep(sparseDensity: density) }
        }
        // The largest step of the largest model overflows nothing.
        let step = try TrainingStep(batch: 1, sequenceLength: 1 << 30)
        let description = try ModelPreset.size7b.description(rank: 1024)
        for cost in MethodCost.all(description, step) { #expect(cost.flopsPerStep > 1e18 && cost.keptElements > 1e14) }
        for mode in MemoryMode.allCases {
            #expect(EngineCost(description, mode, step, threads: 64).totalBytes > 1 << 40)
        }
    }

    @Test("The table has a row for each method, lines end as in RFC 4180, and numbers are those of the costs")
    func table() throws {
        let costs = MethodCost.all(try SmallModel.cola.description(), try TrainingStep(batch: 2, sequenceLength: 7))
        let csv = CostTable.csv(costs)
        let lines = csv.components(separatedBy: "\r\n")
        #expect(
            lines[0] == "method,parameters,trainable_parameters,flops_per_token,flops_per_step,"
                + "recomputed_flops_per_step,kept_activation_elements,kept_activation_bytes,weight_bytes,"
                + "gradient_bytes,optimizer_bytes,flops_ratio,activation_ratio")
        #expect(lines.count == 10 && lines.last == "")
        let names = ["full-rank", "gcp", "cola", "cola-m", "lora", "relora", "galore", "sltrain"]
        for (index, cost) in costs.enumerated() {
            let fields = lines[index + 1].split(separator: ",").map(String.init)
            try #require(fields.count == 13)
            #expect(fields[0] == names[index])
            let numbers = fields.dropFirst().compactMap { Double($0) }
            let expected = [
                Double(cost.parameters), Double(cost.trainableParameters), cost.flopsPerToken, cost.flopsPerStep,
                cost.recomputedFLOPsPerStep, cost.keptElements, cost.keptBytes, cost.weightBytes, cost.gradientBytes,
                cost.optimizerBytes, cost.flopsPerStep / costs[0].flopsPerStep,
                cost.keptElements / costs[0].keptElements,
            ]
            #expect(numbers == expected)
            // Counts have no fraction.
            #expect(fields[1...2].allSatisfy { Int($0) != nil } && fields[5...10].allSatisfy { Int($0) != nil })
        }
    }
}
