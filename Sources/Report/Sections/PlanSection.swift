import JSON

/// A rank plan: the rank of each layer, and what it is predicted to cost.
struct PlanSection {
    let folder: InputFolder
    let path: String
    let document: JSONValue

    /// Throws `ReportError.invalid` for an entry without layer, module and rank.
    init(_ document: JSONValue, path: String, in folder: InputFolder) throws(ReportError) {
        (self.document, self.path, self.folder) = (document, path, folder)
        func invalid(_ place: String, _ found: JSONValue?, _ expected: String) -> ReportError {
            .invalid(path: path, place: place, found: found?.text() ?? "nothing", expected: expected)
        }
        guard let rows = document["layers"]?.arrayValue, !rows.isEmpty else {
            throw invalid("layers", document["layers"], "a list")
        }
        for (index, row) in rows.enumerated() {
            guard let layer = row["layer"]?.intValue, layer >= 0 else {
                throw invalid("layers[\(index)], layer", row["layer"], "a number")
            }
            guard row["module"]?.stringValue != nil else {
                throw invalid("layers[\(index)], module", row["module"], "a name")
            }
            guard let rank = row["rank"], rank.isNull || (rank.intValue ?? 0) > 0 else {
                throw invalid("layers[\(index)], rank", row["rank"], "a rank, or null for a layer that stays dense")
            }
        }
    }

    /// The name of its file.
    var name: String { stem(of: path, [".json"]) }

    func json(label: String) -> JSONValue {
        let rows = (document["layers"]?.arrayValue ?? []).map { row -> JSONValue in
            let numbers = ["kept_energy", "relative_error", "loss_increase"].map { rounded(row[$0]?.doubleValue) }
            return .array(["layer", "module", "rank"].map { row[$0] ?? .null } + numbers)
        }
        let columns: JSONValue = ["layer", "module", "rank", "energy", "error", "increase"]
        return [
            "label": .string(label), "weighting": document["weighting"] ?? .null, "policy": document["policy"] ?? .null,
            "parameters": document["parameters"] ?? .null, "denseParameters": document["dense_parameters"] ?? .null,
            "increase": rounded(document["predicted_loss_increase"]?.doubleValue),
            "layers": ["columns": columns, "rows": .array(rows)],
        ]
    }
}

/// The name of a file without the first of these endings that it has.
func stem(of path: String, _ endings: [String]) -> String {
    let name = InputFolder.name(of: path)
    guard let ending = endings.first(where: name.hasSuffix) else { return name }
    return String(name.dropLast(ending.count))
}
