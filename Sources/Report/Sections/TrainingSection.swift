import JSON

/// The losses of one training run.
struct TrainingSection {
    let run: RunName
    private var steps: [(step: Int, tokens: Int, loss: Double)] = []
    private var evaluations: [(step: Int, tokens: Int, loss: Double)] = []

    static let points = 300

    private init(_ run: RunName) { self.run = run }

    /// The run of a metrics.csv, or all those of a curves.csv.
    static func all(in table: CSVTable, folder: InputFolder) throws(ReportError) -> [TrainingSection] {
        let (step, tokens) = (try table.column("step"), try table.column("tokens"))
        let (loss, evaluation) = (try table.column("loss"), try table.column("evaluation_loss"))
        var sections: [TrainingSection] = []
        for (run, rows) in table.rowsByRun(in: folder) {
            var section = TrainingSection(run)
            for row in rows {
                let at = (step: try table.count(row, step), tokens: try table.count(row, tokens))
                if let value = try table.optionalNumber(row, loss) { section.steps.append((at.step, at.tokens, value)) }
                if let value = try table.optionalNumber(row, evaluation) {
                    section.evaluations.append((at.step, at.tokens, value))
                }
            }
            sections.append(section)
        }
        return sections
    }

    /// A long run's losses are means over so many rows each, which is also the noise of a batch made less.
    var rowsPerPoint: Int { (steps.count + Self.points - 1) / Self.points }

    func json(label: String) -> JSONValue {
        let stride = max(1, rowsPerPoint)
        let groups = Swift.stride(from: 0, to: steps.count, by: stride).map {
            steps[$0..<min($0 + stride, steps.count)]
        }
        let means = groups.map { group in
            // Each stands where its rows end.
            (group.last!.step, group.last!.tokens, group.reduce(0) { $0 + $1.loss } / Double(group.count))
        }
        func columns(_ points: [(Int, Int, Double)]) -> JSONValue {
            [
                "step": .array(points.map { .integer($0.0) }), "tokens": .array(points.map { .integer($0.1) }),
                "loss": .array(points.map { rounded($0.2) }),
            ]
        }
        return [
            "label": .string(label), "arm": .string(run.arm), "seed": run.seed.map { .string($0) } ?? .null,
            "rowsPerPoint": .integer(stride), "training": columns(means), "evaluation": columns(evaluations),
        ]
    }
}
