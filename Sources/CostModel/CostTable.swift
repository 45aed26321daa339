import Files

/// Costs as a CSV file: RFC 4180 with a header line, one row for each method, ratios to full rank.
public enum CostTable {
    public static let columns = [
        "method", "parameters", "trainable_parameters", "flops_per_token", "flops_per_step",
        "recomputed_flops_per_step", "kept_activation_elements", "kept_activation_bytes", "weight_bytes",
        "gradient_bytes", "optimizer_bytes", "flops_ratio", "activation_ratio",
    ]

    /// The numbers of a row in the order of the columns after the first. `reference` is full rank.
    public static func values(_ cost: MethodCost, reference: MethodCost) -> [Double] {
        [
            Double(cost.parameters), Double(cost.trainableParameters), cost.flopsPerToken, cost.flopsPerStep,
            cost.recomputedFLOPsPerStep, cost.keptElements, cost.keptBytes, cost.weightBytes, cost.gradientBytes,
            cost.optimizerBytes, cost.flopsPerStep / reference.flopsPerStep, cost.keptElements / reference.keptElements,
        ]
    }

    /// The first of the costs is the one that the others are compared with.
    public static func csv(_ costs: [MethodCost]) -> String {
        let rows = costs.map { cost in
            ([cost.method.rawValue] + values(cost, reference: costs[0]).map(text)).joined(separator: ",")
        }
        return ([columns.joined(separator: ",")] + rows).map { $0 + "\r\n" }.joined()
    }

    /// The shortest text that reads back as the same number; whole ones without a fraction.
    private static func text(_ value: Double) -> String { Int(exactly: value).map(String.init) ?? csvField(value) }
}
