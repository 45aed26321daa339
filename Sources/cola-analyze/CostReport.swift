import CommandSupport
import CostModel
import JSON
import Transformer

/// What `cost` prints.
struct CostReport {
    let name: String
    let model: ModelDescription
    let step: TrainingStep
    let costs: [MethodCost]
    let measured: [CostMeasurement.Result]?

    /// Of the first block, which stands for all.
    private var attention: AttentionDescription { model.blocks[0].attention }
    private var width: Int { model.blocks[0].feedForward.width }
    private var fullRank: MethodCost { costs[0] }

    /// The decoder layers' FLOPs in parts of full rank's: the paper's ratio per layer, where ranks are equal.
    private func layerRatio(_ cost: MethodCost) -> Double { cost.layerFLOPsPerStep / fullRank.layerFLOPsPerStep }

    // MARK: - JSON

    var json: JSONObject {
        let methods = costs.map { cost -> JSONValue in
            let values = CostTable.values(cost, reference: fullRank).map(number)
            let row = [("method", JSONValue.string(cost.method.rawValue))] + zip(CostTable.columns.dropFirst(), values)
            return .object(JSONObject(row + [("layer_flops_ratio", .number(layerRatio(cost)))]))
        }
        var record = JSONObject([
            ("model", .string(name)), ("layers", .integer(model.blocks.count)),
            ("hidden_size", .integer(model.hiddenSize)),
            ("intermediate_size", .integer(width)), ("heads", .integer(attention.heads)),
            ("key_value_heads", .integer(attention.keyValueHeads)),
            ("vocabulary", .integer(model.vocabularySize)),
            ("ranks", .array(ranks.map { .integer($0) })), ("dense_layers", .integer(denseLayers)),
            ("batch", .integer(step.batch)), ("sequence_length", .integer(step.sequenceLength)),
            ("attention", .string(step.attention.rawValue)), ("pairs", .string(step.pairs.rawValue)),
            ("precision", .string(step.precision.rawValue)), ("sparse_density", .number(step.sparseDensity)),
            ("methods", .array(methods)),
        ])
        if let measured { record["measured"] = .array(measured.map(json)) }
        return record
    }

    private func json(_ result: CostMeasurement.Result) -> JSONValue {
        let figures = result.figures.map { figure -> JSONValue in
            [
                "figure": .string(figure.name), "measured": number(figure.measured),
                "predicted": number(figure.predicted), "deviation": .number(figure.deviation),
            ]
        }
        return [
            "model": .string(result.variant.name.lowercased()), "memory": .string(result.variant.mode.rawValue),
            "layers": .integer(result.variant.model.blocks.count), "head_s": .number(result.headSeconds),
            "adamw_s": .number(result.updateSeconds), "figures": .array(figures),
        ]
    }

    private func number(_ value: Double) -> JSONValue { Int(exactly: value).map { .integer($0) } ?? .number(value) }

    // MARK: - Text

    /// All ranks that there are, ascending.
    private var ranks: [Int] { Set(model.linears.compactMap(\.rank)).sorted() }
    private var denseLayers: Int { model.linears.count { $0.rank == nil } }

    var text: String {
        var parts = [heading, methodTable, notes]
        if let measured { parts += [measuredHeading, measuredTable(measured), measuredNotes(measured)] }
        return parts.joined(separator: "\n\n")
    }

    private var heading: String {
        let rank =
            switch ranks.count {
            case 0: "no low-rank layer"
            case 1: "rank \(ranks[0])"
            default: "ranks \(ranks.first!) to \(ranks.last!)"
            }
        let dense = ranks.isEmpty || denseLayers == 0 ? "" : ", \(denseLayers) linear layers dense"
        let heads =
            attention.keyValueHeads == attention.heads
            ? "\(attention.heads) heads" : "\(attention.heads) heads on \(attention.keyValueHeads) of keys"
        return """
            \(name): \(model.blocks.count) layers, d \(model.hiddenSize), d_ff \(width), \
            \(heads), vocabulary \(grouped(model.vocabularySize)), \(rank)\(dense)
            A step of \(step.batch) × \(step.sequenceLength) tokens, \(step.precision.rawValue), \
            \(step.attention.rawValue) attention over \(step.pairs.rawValue) pairs; ratios and bars are to full rank
            """
    }

    private var methodTable: String {
        var table = TextTable([
            ("method", .left), ("parameters", .right), ("trained", .right), ("FLOPs", .right), ("ratio", .right),
            ("", .left), ("again", .right), ("activations", .right), ("ratio", .right), ("weights", .right),
            ("gradients", .right), ("optimizer", .right),
        ])
        let largest = costs.map { $0.flopsPerStep / fullRank.flopsPerStep }.max() ?? 1
        for cost in costs {
            let ratio = cost.flopsPerStep / fullRank.flopsPerStep
            table.append([
                cost.method.rawValue, scaled(Double(cost.parameters)), scaled(Double(cost.trainableParameters)),
                scaled(cost.flopsPerStep), fixed(ratio, 3), bar(ratio / largest, width: 8),
                cost.recomputedFLOPsPerStep > 0 ? scaled(cost.recomputedFLOPsPerStep) : "–",
                bytes(cost.keptBytes), fixed(cost.keptElements / fullRank.keptElements, 3), bytes(cost.weightBytes),
                bytes(cost.gradientBytes), bytes(cost.optimizerBytes),
            ])
        }
        return table.text
    }

    /// What a reader must know to take the numbers right.
    private var notes: String {
        let cola = costs.first { $0.method == .cola }!
        return """
            FLOPs are forward and backward of a step with the head; of the decoder layers alone CoLA has \
            \(fixed(layerRatio(cola), 3)). “again” is what the backward pass computes a second time.
            GaLore and SLTrain spend part of theirs once per step, whatever the batch: \
            \(scaled(extra(.galore))) and \(scaled(extra(.sltrain))).
            """
    }

    private func extra(_ method: TrainingMethod) -> Double {
        costs.first { $0.method == method }!.flopsPerStep - fullRank.flopsPerStep
    }

    private func bytes(_ count: Double) -> String { byteCount(Int(clamping: Int64(exactly: count.rounded()) ?? .max)) }

    // MARK: - Measured

    private var measuredHeading: String {
        let layers = measured?.first?.variant.model.blocks.count ?? 0
        let part = layers < model.blocks.count ? ", \(layers) of \(model.blocks.count) layers" : ""
        return "Measured with random weights\(part), beside the formulas of this engine"
    }

    private func measuredTable(_ results: [CostMeasurement.Result]) -> String {
        var table = TextTable([
            ("model", .left), ("memory", .left), ("", .left), ("measured", .right), ("predicted", .right),
            ("deviation", .right),
        ])
        for result in results {
            for (index, figure) in result.figures.enumerated() {
                table.append([
                    index == 0 ? result.variant.name : "", index == 0 ? result.variant.mode.rawValue : "", figure.name,
                    text(figure.measured, figure.unit), text(figure.predicted, figure.unit),
                    (figure.deviation >= 0 ? "+" : "") + fixed(100 * figure.deviation, 1) + " %",
                ])
            }
        }
        return table.text
    }

    private func text(_ value: Double, _ unit: CostMeasurement.Figure.Unit) -> String {
        switch unit {
        case .seconds: "\(fixed(value, 3)) s"
        case .flopsPerSecond: scaled(value)
        case .tokensPerSecond: grouped(Int(value.rounded()))
        case .bytes: bytes(value)
        }
    }

    private func measuredNotes(_ results: [CostMeasurement.Result]) -> String {
        let updates = results.map {
            "\($0.variant.name) \($0.variant.mode.rawValue) \(fixed($0.updateSeconds, 3)) s"
        }
        return """
            The predicted step is its FLOPs at the speed of a large matrix product, timed in turn with the steps. It has no \
            time for what moves memory and computes little; AdamW alone: \(updates.joined(separator: ", ")).
            """
    }
}
