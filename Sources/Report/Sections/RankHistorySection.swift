import JSON

/// Effective ranks of one training run, measured every so many steps.
struct RankHistorySection {
    let run: RunName
    private let alphas: [SpectraSection.Alpha]
    private var steps: [(step: Int, tokens: Int)] = []
    private var places: [Place] = []
    private var placeOf: [String: Int] = [:]

    private struct Place {
        let layer: Int
        let module: String
        let side: String
        let full: Int
        /// By step, and in it by α; nil where the step has no row for this place.
        var ranks: [[Int]?] = []
    }

    private init(_ run: RunName, alphas: [SpectraSection.Alpha]) { (self.run, self.alphas) = (run, alphas) }

    /// The run of a rank-history.csv, or all of them where its first columns are `arm` and `seed`.
    static func all(in table: CSVTable, folder: InputFolder) throws(ReportError) -> [RankHistorySection] {
        let ranks = try table.rankColumns()
        var sections: [RankHistorySection] = []
        for (run, rows) in table.rowsByRun(in: folder) {
            var section = RankHistorySection(run, alphas: ranks.map(\.alpha))
            for row in rows {
                try section.append(table, row, first: table.isCombined ? 2 : 0, ranks: ranks.map(\.index))
            }
            sections.append(section)
        }
        return sections
    }

    /// Takes one row, whose column `step` is the one numbered `first`.
    private mutating func append(_ table: CSVTable, _ row: Int, first: Int, ranks columns: [Int]) throws(ReportError) {
        let step = try table.count(row, first)
        if step != steps.last?.step {
            guard step > steps.last?.step ?? -1 else {
                throw table.invalid(row, first, expected: "\(steps.last?.step ?? 0) or a later step")
            }
            steps.append((step, try table.count(row, first + 1)))
        }
        let (layer, module, side) = (
            try table.count(row, first + 2), table.text(row, first + 3), table.text(row, first + 4)
        )
        let key = "\(layer),\(module),\(side)"
        let place = placeOf[key] ?? places.count
        if place == places.count {
            placeOf[key] = place
            let full = try table.count(row, try table.column("max_rank"))
            places.append(Place(layer: layer, module: module, side: side, full: full))
        }
        var values: [Int] = []
        for column in columns { values.append(try table.count(row, column)) }
        while places[place].ranks.count < steps.count { places[place].ranks.append(nil) }
        places[place].ranks[steps.count - 1] = values
    }

    func json(label: String) -> JSONValue {
        let places = places.map { place -> JSONValue in
            let ranks = steps.indices.map { index -> JSONValue in
                guard index < place.ranks.count, let values = place.ranks[index] else { return .null }
                return .array(values.map { .integer($0) })
            }
            return [
                "layer": .integer(place.layer), "module": .string(place.module), "side": .string(place.side),
                "full": .integer(place.full), "ranks": .array(ranks),
            ]
        }
        return [
            "label": .string(label), "arm": .string(run.arm), "seed": run.seed.map { .string($0) } ?? .null,
            "alphas": .array(alphas.map { ["text": .string($0.text), "value": .number($0.value)] }),
            "step": .array(steps.map { .integer($0.step) }), "tokens": .array(steps.map { .integer($0.tokens) }),
            "places": .array(places),
        ]
    }
}
