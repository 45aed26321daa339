import Transformer

/// What one step of training costs by the formulas of the paper, generalised to grouped queries, any d_ff, any placement of
/// σ, a rank for each linear layer, and blocks of any description.
///
/// Letters: n tokens of a sequence, d hidden size, d_ff width of the MLP, h heads, r rank, L layers, V vocabulary; for one
/// linear layer d_in and d_out. A sum Σ goes over the linear layers of the model; with four of d × d, two of d × d_ff and
/// one of d_ff × d in each of L layers every formula here is the paper's. A multiply-add is two FLOPs, backward is twice
/// forward. All but parameters are doubles, which are exact up to 2⁵³.
///
/// The paper's blocks are LLaMA's: two norms, a gate, attention over all tokens. Of other blocks this is assumed:
/// - without a gate there is one linear layer less, 2·d·d_ff in place of 3·d·d_ff, and the MLP keeps what leaves up and its
///   activation, 2·d_ff, in place of gate, up, silu(gate) and the product, 4·d_ff;
/// - each norm keeps what leaves it, d, as the paper's two do; norms of heads keep q and k once more;
/// - a window of W tokens leaves each query min(n, W) of the n keys;
/// - learned positions and biases of norms are parameters like others, and cost no FLOPs that count.
public struct MethodCost: Sendable, Equatable {
    public let method: TrainingMethod
    public let parameters: Int
    /// Those with a gradient: all, but for LoRA and ReLoRA, which freeze each W that has factors beside it.
    public let trainableParameters: Int
    /// Forward and backward of a step, without what is computed a second time.
    public let flopsPerStep: Double
    /// The decoder layers' part of them; the rest is the head's.
    public let layerFLOPsPerStep: Double
    public let flopsPerToken: Double
    /// What the backward pass computes again because it was not kept.
    public let recomputedFLOPsPerStep: Double
    /// Numbers that the decoder layers' forward pass keeps for the backward pass.
    public let keptElements: Double
    public let keptBytes: Double
    public let weightBytes: Double
    public let gradientBytes: Double
    /// AdamW's m and v of each parameter; GaLore's projections besides.
    public let optimizerBytes: Double

    public init(_ method: TrainingMethod, _ model: ModelDescription, _ step: TrainingStep) {
        let formulas = CostFormulas(method, model, step)
        self.method = method
        parameters = formulas.parameters
        trainableParameters = formulas.trainableParameters
        layerFLOPsPerStep = formulas.layerFLOPs
        flopsPerStep = formulas.layerFLOPs + formulas.headFLOPs
        flopsPerToken = flopsPerStep / Double(step.tokens)
        recomputedFLOPsPerStep = formulas.recomputedFLOPs
        keptElements = formulas.keptElements
        keptBytes = step.bytesPerNumber * formulas.keptElements
        weightBytes = step.bytesPerNumber * Double(formulas.parameters) + formulas.indexBytes
        gradientBytes = step.bytesPerNumber * Double(formulas.trainableParameters)
        optimizerBytes = step.bytesPerNumber * Double(formulas.optimizerElements)
    }

    /// All methods, full rank first.
    public static func all(_ model: ModelDescription, _ step: TrainingStep) -> [MethodCost] {
        TrainingMethod.allCases.map { MethodCost($0, model, step) }
    }
}

/// The formulas, each where a reader looks for it.
struct CostFormulas {
    private let method: TrainingMethod
    private let model: ModelDescription
    private let step: TrainingStep

    init(_ method: TrainingMethod, _ model: ModelDescription, _ step: TrainingStep) {
        self.method = method
        self.model = model
        self.step = step
    }

    private var isCola: Bool { method == .cola || method == .colaM }

    // MARK: - Parameters

    /// What every method trains as it is: embeddings, norms, head, and the layers that stay dense with their biases. Biases
    /// of low-rank layers are CoLA's.
    private var commonParameters: Int {
        let dense = model.sum { $0.rank == nil ? $0.denseParameters + $0.biasParameters : 0 }
        let biases = isCola ? model.sum { $0.rank == nil ? 0 : $0.biasParameters } : 0
        return model.vocabularyParameters + model.normParameters + dense + biases
    }

    /// Σ d_in · d_out over the layers that have a rank.
    private var replacedParameters: Int { model.sum { $0.rank == nil ? 0 : $0.denseParameters } }

    /// Σ r·(d_in + d_out).
    private var factorParameters: Int { model.sum(\.factorParameters) }

    /// Σ ⌊δ·d_in·d_out⌋, what SLTrain's S has besides the factors.
    private var sparseParameters: Int {
        model.sum { $0.rank == nil ? 0 : Int(step.sparseDensity * Double($0.denseParameters)) }
    }

    var parameters: Int {
        switch method {
        case .fullRank, .gcp, .galore: commonParameters + replacedParameters
        case .cola, .colaM: commonParameters + factorParameters
        case .lora, .relora: commonParameters + replacedParameters + factorParameters
        case .sltrain: commonParameters + factorParameters + sparseParameters
        }
    }

    var trainableParameters: Int {
        switch method {
        case .lora, .relora: commonParameters + factorParameters
        default: parameters
        }
    }

    /// m and v of each parameter that is trained. GaLore has those of the projected gradient, 2·r·max(d_in, d_out), and
    /// the projection, r·min(d_in, d_out), for each layer with a rank (table 1 of the GaLore paper, second-hand).
    var optimizerElements: Int {
        guard method == .galore else { return 2 * trainableParameters }
        return 2 * commonParameters
            + model.sum { ($0.rank ?? 0) * (2 * max($0.inputs, $0.outputs) + min($0.inputs, $0.outputs)) }
    }

    /// SLTrain names the place of each number of S by a 64-bit index (recalled, not measured).
    var indexBytes: Double { method == .sltrain ? 8 * Double(sparseParameters) : 0 }

    // MARK: - FLOPs

    /// Forward FLOPs of all decoder layers' attention for one sequence: q·kᵀ and P·v, 4n²d each, of all heads.
    private var attentionFLOPs: Double {
        model.blocks.reduce(0) {
            $0 + 4 * step.attentionPairs(window: $1.attention.window) * Double($1.attention.queryWidth)
        }
    }

    /// FLOPs of the decoder layers, forward and backward, for a step.
    ///
    /// Per layer and sequence: full rank 24nd² + 12n²d + 18nd·d_ff, CoLA 48ndr + 12n²d + 18nr(d + d_ff), LoRA
    /// 16nd² + 12n²d + 12nd·d_ff + 48ndr + 18nr(d + d_ff). Per step besides: SLTrain 24d²r + 18d·d_ff·r to form W and pass
    /// its gradient on to the factors, GaLore 16d²r + 12d·d_ff·r to project gradients and steps.
    var layerFLOPs: Double {
        let n = step.sequenceLength
        let products = model.linears.reduce(0.0) { sum, linear in
            let (dense, factors) = (Double(linear.denseParameters), Double(linear.factorParameters))
            guard linear.rank != nil else { return sum + Double(6 * n) * dense }
            switch method {
            case .fullRank, .gcp, .galore, .sltrain: return sum + Double(6 * n) * dense
            case .cola, .colaM: return sum + Double(6 * n) * factors
            // A frozen matrix has no gradient of its own: a third of its work is spared.
            case .lora, .relora: return sum + Double(4 * n) * dense + Double(6 * n) * factors
            }
        }
        return Double(step.batch) * (products + 3 * attentionFLOPs) + flopsPerStepAlone
    }

    /// What is computed once in a step, whatever its tokens.
    private var flopsPerStepAlone: Double {
        let products = model.linears.reduce(0.0) { $0 + Double($1.rank ?? 0) * Double($1.denseParameters) }
        switch method {
        case .sltrain: return 6 * products
        case .galore: return 4 * products
        default: return 0
        }
    }

    /// FLOPs of the head, forward and backward, for a step: 6n·d·V per sequence.
    var headFLOPs: Double {
        6 * Double(step.tokens) * Double(model.vocabularySize) * Double(model.hiddenSize)
    }

    /// FLOPs that the backward pass spends on what was not kept, for a step.
    ///
    /// Per layer and sequence: GCP a whole forward pass, 23nd² + 4n²d at d_ff = 2.5d; CoLA-M half of the low-rank products,
    /// 18.5ndr + 4n²d at d_ff = 2.5d. That half is how the paper's number is read here: applying B of q, k, v, gate and up
    /// would be 16ndr. A layer of a CoLA-M model that stays dense keeps nothing and is applied again.
    var recomputedFLOPs: Double {
        let n = Double(step.sequenceLength)
        let products: Double
        switch method {
        case .gcp: products = 2 * n * Double(model.sum(\.denseParameters))
        case .colaM:
            products = model.linears.reduce(0) {
                $0 + ($1.rank == nil ? 2 * n * Double($1.denseParameters) : n * Double($1.factorParameters))
            }
        default: return 0
        }
        return Double(step.batch) * (products + attentionFLOPs)
    }

    // MARK: - Activation memory

    /// Numbers that are kept between forward and backward, for a step; the head's are not counted.
    var keptElements: Double {
        let tokens = Double(step.tokens)
        switch method {
        case .gcp: return tokens * Double(model.blocks.count * model.hiddenSize)
        case .colaM:
            return tokens * Double(2 * model.blocks.count * model.hiddenSize + model.sum { $0.rank ?? 0 })
        default:
            return tokens * Double(model.sumOfBlocks(streamElementsPerToken) + bottleneckElementsPerToken)
                + Double(step.batch) * scores
        }
    }

    /// Of one layer, per token, all but scores and bottlenecks: 20d for a dense layer of d_ff = 2.5d, 17.5d for a CoLA layer
    /// with inner σ only.
    ///
    /// In detail 10d + 4d_ff: two residual streams, two norms, and what leaves o and down (6d); q and attention's output
    /// (2·h·d_h); k and v (2·h_kv·d_h); gate, up, silu(gate), and the product (4·d_ff). Where a CoLA layer has no silu
    /// besides σ, one d_ff less; for other blocks see `MethodCost`.
    private func streamElementsPerToken(_ block: BlockDescription) -> Int {
        let attention = block.attention
        let hasActivation = !isCola || model.placement.hasOuterActivation
        let heads = attention.headNorm == nil ? 0 : attention.queryWidth + attention.keyValueWidth
        return (4 + block.norms.all.count) * model.hiddenSize + 2 * attention.queryWidth
            + 2 * attention.keyValueWidth + heads
            + ((block.feedForward.isGated ? 3 : 1) + (hasActivation ? 1 : 0)) * block.feedForward.width
    }

    /// Of all layers, for one sequence: standard attention keeps 2n² scores of each head.
    private var scores: Double {
        guard step.attention == .standard else { return 0 }
        return model.blocks.reduce(0) {
            $0 + 2 * step.attentionPairs(window: $1.attention.window) * Double($1.attention.heads)
        }
    }

    /// Of all layers, per token: CoLA keeps A·x before and after σ, 14r a layer, LoRA A·x, 7r (this project's reading).
    private var bottleneckElementsPerToken: Int {
        switch method {
        case .cola: model.sum { ($0.bottleneck?.isActivated == true ? 2 : 1) * ($0.rank ?? 0) }
        case .lora, .relora: model.sum { $0.rank ?? 0 }
        default: 0
        }
    }
}
