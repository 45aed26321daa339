import JSON

/// What a conversion of a dense model did: its report, the table of its layers, or both, which have the same stem.
struct ConversionSection {
    let folder: InputFolder
    let name: String
    let report: JSONValue?
    let layers: CSVTable?

    /// All conversions of a folder. Throws `ReportError.invalid` for a report whose losses are no numbers.
    static func all(in folder: InputFolder) throws -> [ConversionSection] {
        var tables: [String: CSVTable] = [:]
        for table in folder.tables(.layers) { tables[stem(of: table.path, [".layers.csv", ".csv"])] = table }
        var reports: [String: JSONValue] = [:]
        for (path, report) in folder.documents(.conversion) {
            try check(report, path: path)
            reports[stem(of: path, [".report.json", ".json"])] = report
        }
        return Set(tables.keys).union(reports.keys).sorted().map {
            ConversionSection(folder: folder, name: $0, report: reports[$0], layers: tables[$0])
        }
    }

    private static func check(_ report: JSONValue, path: String) throws(ReportError) {
        for (index, row) in (report["losses"]?.arrayValue ?? []).enumerated() {
            for side in ["before", "after"] where row[side]?["nats_per_token"]?.doubleValue == nil {
                throw .invalid(
                    path: path, place: "losses[\(index)], \(side)", found: row[side]?.text() ?? "nothing",
                    expected: "nats_per_token, a number")
            }
        }
    }

    /// The numbers of layers.csv that are shown.
    private static let columns = [
        "rank", "parameters", "dense_parameters", "predicted_relative_error", "relative_error",
        "relative_error_in_place", "relative_error_held_out", "relative_error_in_place_held_out",
        "predicted_loss_increase", "floor_ratio",
    ]

    func json(label: String) throws -> JSONValue {
        var columns: [JSONValue] = ["layer", "module"]
        var rows: [JSONValue] = []
        if let layers {
            let present = Self.columns.compactMap { layers.columns.firstIndex(of: $0) }
            columns += present.map { .string(layers.columns[$0]) }
            for row in layers.rows {
                let numbers = try present.map { rounded(try layers.optionalNumber(row, $0)) }
                rows.append(.array([.integer(try layers.count(row, 0)), .string(layers.text(row, 1))] + numbers))
            }
        }
        let kept = [
            "method", "activation", "anchored", "policy", "refinement", "before", "after", "losses",
            "predicted_loss_increase",
        ]
        let record = kept.compactMap { key in report?[key].map { (key: key, value: $0) } }
        return [
            "label": .string(label), "report": .object(JSONObject(record)),
            "layers": ["columns": .array(columns), "rows": .array(rows)],
        ]
    }
}
