import CostModel
import Testing
import Training

/// One of the paper's models, worked out by hand from the formulas of the paper, one sequence of n = 256 tokens.
///
/// With d, d_ff, L, h, r of the table and V = 32000, for 60m as an example (d 512, d_ff 1376, L 8, h 8, r 128):
///
///     dense matrices of a layer  4d² + 3d·d_ff = 1,048,576 + 2,113,536 = 3,162,112
///     factors of a layer         8dr + 3r(d + d_ff) = 524,288 + 724,992 = 1,249,280
///     the rest                   2Vd + 2dL + d = 32,768,000 + 8,192 + 512 = 32,776,704
///     parameters                 32,776,704 + 8 · 3,162,112 = 58,073,600, CoLA + 8 · 1,249,280 = 42,770,944
///     attention                  12n²d = 402,653,184
///     layer, full rank           6n · 3,162,112 + 402,653,184 = 5,259,657,216
///     layer, CoLA                6n · 1,249,280 + 402,653,184 = 2,321,547,264
///     layer, LoRA                4n · 3,162,112 + 6n · 1,249,280 + 402,653,184 = 5,559,549,952
///     head                       6ndV = 25,165,824,000
///     SLTrain, GaLore, per layer 6r · 3,162,112 = 2,428,502,016 and 4r · 3,162,112 = 1,619,001,344
///     again, GCP                 L(2n · 3,162,112 + 4n²d) = 8 · (1,619,001,344 + 134,217,728) = 14,025,752,576
///     again, CoLA-M              L(n · 1,249,280 + 4n²d) = 8 · (319,815,680 + 134,217,728) = 3,632,267,264
///     kept, full rank            L(10nd + 4n·d_ff + 2n²h) = 8 · (1,310,720 + 1,409,024 + 1,048,576) = 30,146,560
///     kept, CoLA                 + L · 14nr = + 8 · 458,752 = 33,816,576; from 350m on one n·d_ff less
///     kept, GCP and CoLA-M       Lnd = 1,048,576 and L(2nd + 7nr) = 8 · (262,144 + 229,376) = 3,932,160
struct HandComputed: CustomTestStringConvertible, Sendable {
    let preset: ModelPreset
    let rank: Int
    /// Full rank, CoLA, SLTrain.
    let parameters: (full: Int, cola: Int, sltrain: Int)
    /// Full rank, CoLA, LoRA.
    let layerFLOPs: (full: Double, cola: Double, lora: Double)
    let headFLOPs: Double
    let perStep: (sltrain: Double, galore: Double)
    let again: (gcp: Double, colaM: Double)
    let kept: (full: Double, gcp: Double, cola: Double, colaM: Double)
    /// Numbers in GaLore's moments and projections.
    let galoreElements: Int
    /// CoLA / full rank, per layer and in all, to three places.
    let ratios: (layer: Double, whole: Double)

    var testDescription: String { preset.rawValue }

    static let all: [HandComputed] = [
        .init(
            preset: .size60m, rank: 128, parameters: (58_073_600, 42_770_944, 43_529_832),
            layerFLOPs: (5_259_657_216, 2_321_547_264, 5_559_549_952), headFLOPs: 25_165_824_000,
            perStep: (2_428_502_016, 1_619_001_344), again: (14_025_752_576, 3_632_267_264),
            kept: (30_146_560, 1_048_576, 33_816_576, 3_932_160), galoreElements: 81_871_872, ratios: (0.441, 0.650)),
        .init(
            preset: .size130m, rank: 256, parameters: (134_105_856, 93_997_824, 96_545_796),
            layerFLOPs: (11_475_615_744, 6_341_787_648, 13_589_544_960), headFLOPs: 37_748_736_000,
            perStep: (10_871_635_968, 7_247_757_312), again: (45_902_462_976, 13_891_534_848),
            kept: (67_633_152, 2_359_296, 78_643_200, 10_223_616), galoreElements: 171_480_576, ratios: (0.553, 0.649)),
        .init(
            preset: .size350m, rank: 256, parameters: (367_969_280, 185_222_144, 194_293_544),
            layerFLOPs: (20_157_825_024, 8_462_008_320, 21_363_687_424), headFLOPs: 50_331_648_000,
            perStep: (19_352_518_656, 12_901_679_104), again: (161_262_600_192, 37_069_258_752),
            kept: (180_486_144, 6_291_456, 185_696_256, 23_592_960), galoreElements: 326_404_096,
            ratios: (0.420, 0.474)),
        .init(
            preset: .size1b, rank: 512, parameters: (1_339_082_752, 609_310_720, 645_547_960),
            layerFLOPs: (78_916_878_336, 32_211_468_288, 83_748_978_688), headFLOPs: 100_663_296_000,
            perStep: (154_612_531_200, 103_075_020_800), again: (631_335_026_688, 135_288_324_096),
            kept: (360_701_952, 12_582_912, 371_189_760, 47_185_920), galoreElements: 1_042_460_672,
            ratios: (0.408, 0.438)),
        .init(
            preset: .size7b, rank: 1024, parameters: (6_738_415_616, 2_820_935_680, 3_015_215_776),
            layerFLOPs: (314_069_483_520, 126_030_446_592, 333_262_618_624), headFLOPs: 201_326_592_000,
            perStep: (1_243_393_032_192, 828_928_688_128), again: (3_350_074_490_880, 689_342_251_008),
            kept: (830_472_192, 33_554_432, 857_735_168, 125_829_120), galoreElements: 4_702_347_264,
            ratios: (0.401, 0.413)),
    ]
}

@Suite("CostModel: the paper's models")
struct CostModelPresetTests {
    private func costs(_ hand: HandComputed, batch: Int = 1) throws -> [TrainingMethod: MethodCost] {
        let step = try TrainingStep(batch: batch)
        return Dictionary(
            uniqueKeysWithValues: MethodCost.all(try hand.preset.description(rank: hand.rank), step).map {
                ($0.method, $0)
            })
    }

    @Test("The preset's rank is the one that the paper's table has", arguments: HandComputed.all)
    func ranks(hand: HandComputed) { #expect(hand.preset.rank == hand.rank) }

    @Test("Parameters are those worked out by hand", arguments: HandComputed.all)
    func parameters(hand: HandComputed) throws {
        let costs = try costs(hand)
        let (full, cola, sltrain) = hand.parameters
        for method in [TrainingMethod.fullRank, .gcp, .galore] {
            #expect(costs[method]!.parameters == full && costs[method]!.trainableParameters == full)
        }
        for method in [TrainingMethod.cola, .colaM] {
            #expect(costs[method]!.parameters == cola && costs[method]!.trainableParameters == cola)
        }
        // LoRA has CoLA's factors beside the dense matrices, and trains what CoLA does.
        let rest = 2 * 32000 * hand.hidden + (2 * hand.layers + 1) * hand.hidden
        for method in [TrainingMethod.lora, .relora] {
            #expect(costs[method]!.parameters == full + cola - rest && costs[method]!.trainableParameters == cola)
        }
        #expect(costs[.sltrain]!.parameters == sltrain && costs[.sltrain]!.trainableParameters == sltrain)
    }

    @Test(
        "Parameters of the paper's table, in millions",
        arguments: zip(
            HandComputed.all,
            [(58.07, 42.77), (134.1, 94.00), (368.0, 185.22), (1339.1, 609.31), (6738.4, 2820.9)]))
    func published(hand: HandComputed, millions: (dense: Double, cola: Double)) throws {
        let costs = try costs(hand)
        #expect(abs(Double(costs[.fullRank]!.parameters) / 1e6 - millions.dense) < 0.051)
        #expect(abs(Double(costs[.cola]!.parameters) / 1e6 - millions.cola) < 0.051)
    }

    @Test(
        "SLTrain's parameters round to the totals that are remembered from its paper, in millions",
        arguments: zip(HandComputed.all, [44.0, 97, 194, 646]))
    func sltrain(hand: HandComputed, millions: Double) throws {
        #expect((Double(try costs(hand)[.sltrain]!.parameters) / 1e6).rounded() == millions)
    }

    @Test("FLOPs are those worked out by hand, whatever the batch", arguments: HandComputed.all, [1, 3])
    func flops(hand: HandComputed, batch: Int) throws {
        let costs = try costs(hand, batch: batch)
        let layers = Double(hand.layers)
        for (method, layer, perStep) in [
            (TrainingMethod.fullRank, hand.layerFLOPs.full, 0), (.gcp, hand.layerFLOPs.full, 0),
            (.cola, hand.layerFLOPs.cola, 0), (.colaM, hand.layerFLOPs.cola, 0), (.lora, hand.layerFLOPs.lora, 0),
            (.relora, hand.layerFLOPs.lora, 0), (.galore, hand.layerFLOPs.full, hand.perStep.galore),
            (.sltrain, hand.layerFLOPs.full, hand.perStep.sltrain),
        ] {
            let cost = costs[method]!
            let inLayers = layers * (Double(batch) * layer + perStep)
            #expect(cost.layerFLOPsPerStep == inLayers, "\(method)")
            #expect(cost.flopsPerStep == inLayers + Double(batch) * hand.headFLOPs, "\(method)")
            #expect(cost.flopsPerToken == cost.flopsPerStep / Double(256 * batch), "\(method)")
            let again =
                method == .gcp ? hand.again.gcp : method == .colaM ? hand.again.colaM : 0
            #expect(cost.recomputedFLOPsPerStep == Double(batch) * again, "\(method)")
        }
    }

    @Test("CoLA's part of full rank's FLOPs, per layer and in all with the head", arguments: HandComputed.all)
    func ratios(hand: HandComputed) throws {
        let costs = try costs(hand)
        let layer = costs[.cola]!.layerFLOPsPerStep / costs[.fullRank]!.layerFLOPsPerStep
        let whole = costs[.cola]!.flopsPerStep / costs[.fullRank]!.flopsPerStep
        #expect(abs(layer - hand.ratios.layer) <= 0.0005 && abs(whole - hand.ratios.whole) <= 0.0005)
    }

    @Test("Activations that are kept are those worked out by hand", arguments: HandComputed.all, [1, 2])
    func kept(hand: HandComputed, batch: Int) throws {
        let costs = try costs(hand, batch: batch)
        // LoRA keeps 7nr a layer besides what full rank keeps.
        let lora = hand.kept.full + Double(7 * 256 * hand.rank * hand.layers)
        for (method, elements) in [
            (TrainingMethod.fullRank, hand.kept.full), (.gcp, hand.kept.gcp), (.cola, hand.kept.cola),
            (.colaM, hand.kept.colaM), (.lora, lora), (.relora, lora), (.galore, hand.kept.full),
            (.sltrain, hand.kept.full),
        ] {
            #expect(costs[method]!.keptElements == Double(batch) * elements, "\(method)")
            #expect(costs[method]!.keptBytes == 4 * costs[method]!.keptElements, "\(method)")
        }
    }

    @Test("Bytes of weights, gradients and optimiser, in both precisions", arguments: HandComputed.all, [2.0, 4])
    func bytes(hand: HandComputed, size: Double) throws {
        var step = try TrainingStep()
        step.precision = size == 2 ? .bf16 : .f32
        let (full, cola, sltrain) = hand.parameters
        let model = try hand.preset.description(rank: hand.rank)
        let sparse = sltrain - cola
        for (method, weights, trained, moments) in [
            (TrainingMethod.fullRank, full, full, 2 * full), (.gcp, full, full, 2 * full),
            (.cola, cola, cola, 2 * cola), (.colaM, cola, cola, 2 * cola),
            (.lora, hand.loraParameters, cola, 2 * cola), (.relora, hand.loraParameters, cola, 2 * cola),
            (.galore, full, full, hand.galoreElements), (.sltrain, sltrain, sltrain, 2 * sltrain),
        ] {
            let cost = MethodCost(method, model, step)
            let indices = method == .sltrain ? 8 * Double(sparse) : 0
            #expect(cost.weightBytes == size * Double(weights) + indices, "\(method)")
            #expect(cost.gradientBytes == size * Double(trained), "\(method)")
            #expect(cost.optimizerBytes == size * Double(moments), "\(method)")
            #expect(cost.keptBytes == size * cost.keptElements, "\(method)")
        }
    }
}

extension HandComputed {
    /// d and L of the paper's table.
    fileprivate var hidden: Int { [512, 768, 1024, 2048, 4096][index] }
    fileprivate var layers: Int { [8, 12, 24, 24, 32][index] }
    private var index: Int { Self.all.firstIndex { $0.preset == preset }! }

    /// The dense model's parameters and the factors'.
    fileprivate var loraParameters: Int {
        [68_067_840, 178_932_480, 487_605_248, 1_817_221_120, 9_296_941_056][index]
    }
}
