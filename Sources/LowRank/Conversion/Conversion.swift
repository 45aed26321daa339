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

/// Makes low-rank projections of a dense decoder's linear layers.
public struct Conversion {
    let decoder: Decoder
    let plan: RankPlan
    let recipe: ConversionRecipe
    let statistics: (any CalibrationStatistics)?

    public init(
        _ decoder: Decoder, plan: RankPlan, recipe: ConversionRecipe, statistics: (any CalibrationStatistics)?
    ) {
        self.decoder = decoder
        self.plan = plan
        self.recipe = recipe
        self.statistics = statistics
    }

    /// The converted model. `configuration` is that of the dense model, with σ where the recipe puts it.
    ///
    /// - Parameters:
    ///   - tokens: the calibration tokens; needed as the recipe says.
    ///   - progress: told how many layers are done.
    public func run(
        _ configuration: DecoderConfiguration, tokens: TokenBatch?, progress: (Int) -> Void = { _ in }
    ) throws -> (decoder: Decoder, layers: [LayerRecord]) {
        let source = decoder.weights
        let weights = DecoderWeights(configuration, precision: .f32, includingHead: source.head != nil) {
            layer, module in
            let rank = plan.rank(module, layer: layer)
            return .init(rank: rank, hasBias: rank != nil || decoder.weights.layers[layer][module].bias != nil)
        }
        copy(source.embedding, weights.embedding)
        copy(source.norm, weights.norm)
        if let head = source.head, let target = weights.head, target !== weights.embedding { copy(head, target) }
        for (from, to) in zip(source.layers, weights.layers) {
            copy(from.inputNorm, to.inputNorm)
            copy(from.postAttentionNorm, to.postAttentionNorm)
        }
        let records: [LayerRecord]
        if recipe.needsTokens {
            guard let tokens else { preconditionFailure("the recipe needs the calibration tokens") }
            records = try convertWithTokens(tokens, to: weights, configuration, progress)
        } else {
            records = try convertByStatistics(to: weights, progress)
        }
        return (Decoder(configuration, weights), records)
    }

    /// How one linear layer was converted.
    public struct LayerRecord: Sendable {
        public let layer: Int
        public let module: LinearModule
        public let rank: Int
        /// s and the number of pairs, where σ was put in.
        public let scale: Double?
        public let pairs: Int?
        /// Share of the kept energy that σ is predicted to cost.
        public let activationError: Double?
    }

    private func record(_ module: LinearModule, _ layer: Int, _ outcome: LayerFit.Outcome) -> LayerRecord {
        LayerRecord(
            layer: layer, module: module, rank: outcome.factors.rank, scale: outcome.absorption?.scale,
            pairs: outcome.absorption?.pairs, activationError: outcome.absorption?.predictedError)
    }

    private func copy(_ from: Weight, _ to: Weight) { to.elements.update(from: from.elements, count: from.count) }

    private func fit(_ module: LinearModule, layer: Int, rank: Int, input: InputMoments?) throws -> LayerFit {
        guard case .dense(let dense) = decoder.weights.layers[layer][module] else { preconditionFailure("not dense") }
        let weight = dense.weight.doubles()
        return LayerFit(
            recipe: recipe, weight: weight,
            bias: dense.bias.map { $0.doubles().elements } ?? [Double](repeating: 0, count: weight.rows),
            rank: rank,
            gradient: recipe.weighting == .fisher ? try statistics?.gradient(of: module, layer: layer) : nil,
            input: input)
    }

    /// Copies a layer that stays dense; false for one that does not.
    private func keepsDense(_ module: LinearModule, layer: Int, in weights: DecoderWeights) -> Bool {
        guard case .dense(let target) = weights.layers[layer][module],
            case .dense(let dense) = decoder.weights.layers[layer][module]
        else { return false }
        copy(dense.weight, target.weight)
        if let bias = dense.bias, let to = target.bias { copy(bias, to) }
        return true
    }

    private func convertByStatistics(
        to weights: DecoderWeights, _ progress: (Int) -> Void
    ) throws -> [LayerRecord] {
        let modules = LinearModule.allCases
        let results = ParallelResults<Result<LayerRecord?, any Error>>(count: weights.layers.count * modules.count)
        results.fill(
            order: Array(0..<weights.layers.count * modules.count), progress: { progress($0 / modules.count) }
        ) { index in
            let (layer, module) = (index / modules.count, modules[index % modules.count])
            return Result {
                guard !keepsDense(module, layer: layer, in: weights),
                    case .lowRank(let target) = weights.layers[layer][module]
                else { return nil }
                let outcome = try fit(
                    module, layer: layer, rank: target.rank,
                    input: try statistics?.input(of: module, layer: layer)
                ).linear()
                outcome.factors.store(in: target)
                return record(module, layer, outcome)
            }
        }
        return try results.values.compactMap { try $0.get() }
    }

    /// One layer after the other, with all tokens' residual streams in memory.
    private func convertWithTokens(
        _ tokens: TokenBatch, to weights: DecoderWeights, _ configuration: DecoderConfiguration,
        _ progress: (Int) -> Void
    ) throws -> [LayerRecord] {
        var records: [LayerRecord] = []
        let steps = LayerSteps(configuration, tokens)
        var hidden = steps.embed(decoder)
        var drifted = hidden
        for layer in 0..<configuration.layers {
            let (dense, converted) = (decoder.weights.layers[layer], weights.layers[layer])
            /// Fits the modules that read x, and returns what leaves the dense ones and the converted ones.
            func stage(
                _ modules: [LinearModule], x: Matrix, drifted: Matrix, residual: Matrix? = nil
            ) throws -> (dense: [Matrix], converted: [Matrix]) {
                let outputs = modules.map { steps.project(x, dense[$0]) }
                let input =
                    recipe.anchors
                    ? InputMoments(drifted)
                    : try statistics?.input(of: modules[0], layer: layer) ?? InputMoments(drifted)
                let fits = ParallelResults<Result<LayerRecord?, any Error>>(count: modules.count)
                fits.fill(order: Array(modules.indices), progress: { _ in }) { index in
                    let (module, output) = (modules[index], outputs[index])
                    return Result {
                        guard !keepsDense(module, layer: layer, in: weights),
                            case .lowRank(let target) = converted[module]
                        else { return nil }
                        let outcome = try fit(module, layer: layer, rank: target.rank, input: input).fit(
                            drifted, targets: residual.map { steps.add(output, $0) } ?? output,
                            isDrifted: recipe.anchors)
                        outcome.factors.store(in: target)
                        return record(module, layer, outcome)
                    }
                }
                records += try fits.values.compactMap { try $0.get() }
                let results = recipe.anchors ? modules.map { steps.project(drifted, converted[$0]) } : []
                return (outputs, results)
            }
            func missing(_ a: Matrix, _ b: Matrix) -> Matrix? {
                guard recipe.anchors, recipe.residualShare > 0 else { return nil }
                let difference = Matrix(uninitialized: a.shape)
                let share = Float(recipe.residualShare)
                for i in 0..<a.count { difference.pointer[i] = share * (a.pointer[i] - b.pointer[i]) }
                return difference
            }
            let x = steps.normalize(hidden, dense.inputNorm)
            let queries = try stage(
                [.query, .key, .value], x: x,
                drifted: recipe.anchors ? steps.normalize(drifted, converted.inputNorm) : x)
            func attend(_ m: [Matrix]) -> Matrix { steps.attend(query: m[0], key: m[1], value: m[2]) }
            let attended = attend(queries.dense)
            let output = try stage(
                [.output], x: attended, drifted: recipe.anchors ? attend(queries.converted) : attended,
                residual: missing(hidden, drifted))
            hidden = steps.add(hidden, output.dense[0])
            if recipe.anchors { drifted = steps.add(drifted, output.converted[0]) }
            let x2 = steps.normalize(hidden, dense.postAttentionNorm)
            let gates = try stage(
                [.gate, .up], x: x2,
                drifted: recipe.anchors ? steps.normalize(drifted, converted.postAttentionNorm) : x2)
            let product = steps.multiply(gate: gates.dense[0], up: gates.dense[1])
            let down = try stage(
                [.down], x: product,
                drifted: recipe.anchors
                    ? steps.multiply(gate: gates.converted[0], up: gates.converted[1]) : product,
                residual: missing(hidden, drifted))
            hidden = steps.add(hidden, down.dense[0])
            if recipe.anchors { drifted = steps.add(drifted, down.converted[0]) }
            progress(layer + 1)
        }
        return records
    }
}
