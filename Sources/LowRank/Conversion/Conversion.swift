import CKernels
import LinearAlgebra
import Tensors
import Transformer

/// How a dense model becomes a CoLA one, apart from its ranks.
public struct ConversionRecipe: Sendable {
    public enum Activation: String, Sendable, CaseIterable, Codable {
        /// σ = silu in every bottleneck: CoLA's layer.
        case silu
        /// A linear bottleneck B·A.
        case identity

        /// Where σ stands then: the feed-forward networks keep their own in either case.
        var placement: ActivationPlacement { self == .silu ? .both : .original }
    }

    public var weighting = Weighting.fisher
    public var activation = Activation.silu
    /// Whether each layer is fitted to the inputs that the converted layers before it produce.
    public var anchors = false
    /// Size of a layer's largest latent in front of σ, the fourth root of E[z⁴]; nil chooses it for each layer.
    public var scale: Double?
    /// Weight of the analytic B in its refit, in parts of each latent's variance.
    public var refitRidge = 1e-3
    /// Weight of W in an anchored fit, in parts of the mean variance of the inputs.
    public var anchorRidge = 1e-2
    /// Part of the residual stream's own error that o and down are asked to mend in an anchored fit.
    public var residualShare = 0.5

    public init() {}

    /// Whether the calibration tokens themselves are needed, not only their statistics.
    public var needsTokens: Bool { activation == .silu || anchors }
}

/// Makes low-rank linear layers of a dense model's.
public struct Conversion {
    let model: LanguageModel
    let plan: RankPlan
    let recipe: ConversionRecipe
    let statistics: (any CalibrationStatistics)?

    public init(
        _ model: LanguageModel, plan: RankPlan, recipe: ConversionRecipe, statistics: (any CalibrationStatistics)?
    ) {
        self.model = model
        self.plan = plan
        self.recipe = recipe
        self.statistics = statistics
    }

    /// How one linear layer was converted.
    public struct LayerRecord: Sendable {
        public let linear: LinearLayer
        public let rank: Int
        /// s and the number of pairs, where σ was put in.
        public let scale: Double?
        public let pairs: Int?
        /// Share of the kept energy that σ is predicted to cost.
        public let activationError: Double?
    }

    /// What a dense model becomes: bottlenecks with a bias where the plan has ranks, σ in them where the recipe puts it. All
    /// else stays.
    ///
    /// Throws `LowRankError.setting` for a model whose configuration takes σ out of the feed-forward networks.
    public func target() throws(LowRankError) -> ModelDescription {
        var target = model.description
        guard target.placement.hasOuterActivation else {
            throw .setting(
                name: "cola_activation", found: target.placement.rawValue,
                expected: "both or original: the feed-forward networks of a dense model have an activation")
        }
        target.placement = recipe.activation.placement
        return target.with { linear in
            let rank = plan.rank(of: linear.id)
            return LinearLayout(rank: rank, hasBias: rank != nil || linear.hasBias)
        }
    }

    /// The converted model.
    ///
    /// - Parameters:
    ///   - tokens: the calibration tokens; needed as the recipe says.
    ///   - progress: told how many blocks are done.
    public func run(
        tokens: TokenBatch?, progress: (Int) -> Void = { _ in }
    ) throws -> (model: LanguageModel, layers: [LayerRecord]) {
        let weights = ModelWeights(try target(), precision: .f32, includingHead: model.weights.head != nil)
        // What does not become low-rank, which has the same name in both.
        let dense = Dictionary(uniqueKeysWithValues: model.weights.parameters.map { ($0.name, $0.weight) })
        for parameter in weights.parameters where parameter.role.linear?.isLowRank != true {
            guard let weight = dense[parameter.name] else { preconditionFailure("no \(parameter.name) to copy") }
            parameter.weight.assign(weight)
        }
        let converted = LanguageModel(weights)
        guard recipe.needsTokens else { return (converted, try convertByStatistics(converted, progress)) }
        guard let tokens else { preconditionFailure("the recipe needs the calibration tokens") }
        return (converted, try convertWithTokens(tokens, converted, progress))
    }

    private func record(_ linear: LinearLayer, _ outcome: LayerFit.Outcome) -> LayerRecord {
        LayerRecord(
            linear: linear, rank: outcome.factors.rank, scale: outcome.absorption?.scale,
            pairs: outcome.absorption?.pairs, activationError: outcome.absorption?.predictedError)
    }

    /// Fits a linear layer of the converted model as `body` says; nil for one that stays dense.
    private func convert(
        _ linear: LinearLayer, _ converted: LanguageModel, input: InputMoments?,
        _ body: (LayerFit) throws -> LayerFit.Outcome
    ) throws -> LayerRecord? {
        guard case .lowRank(let target) = converted.weights[linear] else { return nil }
        guard case .dense(let dense) = model.weights[linear] else { preconditionFailure("\(linear.id) is not dense") }
        let weight = dense.weight.doubles()
        let fit = LayerFit(
            recipe: recipe, weight: weight,
            bias: dense.bias.map { $0.doubles().elements } ?? [Double](repeating: 0, count: weight.rows),
            rank: target.rank, gradient: recipe.weighting == .fisher ? try statistics?.gradient(of: linear) : nil,
            input: input)
        let outcome = try body(fit)
        outcome.factors.store(in: target)
        return record(linear, outcome)
    }

    private func convertByStatistics(
        _ converted: LanguageModel, _ progress: (Int) -> Void
    ) throws -> [LayerRecord] {
        let linears = converted.description.linears.filter(\.isLowRank)
        let blocks = converted.description.blocks.count
        let results = ParallelResults<Result<LayerRecord?, any Error>>(count: linears.count)
        results.fill(
            order: Array(linears.indices), progress: { progress($0 * blocks / linears.count) }
        ) { index in
            Result {
                let input = try statistics?.input(of: linears[index])
                return try convert(linears[index], converted, input: input) { try $0.linear() }
            }
        }
        return try results.values.compactMap { try $0.get() }
    }

    /// One stage after the other, with all tokens' residual streams in memory: those of the dense model and, with anchors,
    /// those that the converted one makes.
    private func convertWithTokens(
        _ tokens: TokenBatch, _ converted: LanguageModel, _ progress: (Int) -> Void
    ) throws -> [LayerRecord] {
        var records: [LayerRecord] = []
        let walk = BlockWalk(model, tokens)
        let drift = recipe.anchors ? BlockWalk(converted, tokens) : nil
        for (index, block) in converted.description.blocks.enumerated() {
            for stream in Stream.allCases {
                let linears = block.linears(reading: stream)
                let x = walk.input(of: stream)
                let outputs = linears.map { BlockWalk.project(x, model.weights[$0]) }
                let drifted = drift?.input(of: stream) ?? x
                let stored = recipe.anchors ? nil : try statistics?.input(of: stream, block: index)
                let (input, missing) = (stored ?? InputMoments(drifted), missing(stream, walk, drift))
                let fits = ParallelResults<Result<LayerRecord?, any Error>>(count: linears.count)
                fits.fill(order: Array(linears.indices), progress: { _ in }) { index in
                    Result {
                        let targets = missing.map { sum(outputs[index], $0) } ?? outputs[index]
                        return try convert(linears[index], converted, input: input) {
                            try $0.fit(drifted, targets: targets, isDrifted: recipe.anchors)
                        }
                    }
                }
                records += try fits.values.compactMap { try $0.get() }
                walk.advance(stream, outputs: outputs)
                drift?.advance(stream, outputs: linears.map { BlockWalk.project(drifted, converted.weights[$0]) })
            }
            progress(index + 1)
        }
        return records
    }

    /// What a stage's linear layer is asked to mend: a share of what the converted model's residual stream lacks, `[N, C]`.
    /// Nil where its output is not added to the stream as it is, and without anchors.
    private func missing(_ stream: Stream, _ walk: BlockWalk, _ drift: BlockWalk?) -> Matrix? {
        guard recipe.residualShare > 0, let drift, let wanted = walk.residual(of: stream),
            let found = drift.residual(of: stream)
        else { return nil }
        let share = Float(recipe.residualShare)
        for i in 0..<wanted.count { wanted.pointer[i] = share * (wanted.pointer[i] - found.pointer[i]) }
        return wanted
    }

    private func sum(_ a: Matrix, _ b: Matrix) -> Matrix {
        let sum = Matrix(uninitialized: a.shape)
        ck_sum(a.pointer, b.pointer, sum.pointer, sum.count)
        return sum
    }
}
