import JSON

/// A table that is shown as it is: costs by method, arms of a study, a model as it heals.
struct PlainTable {
    let folder: InputFolder
    private let columns: [String]
    private let rows: [[JSONValue]]

    /// Columns of names, in which a number is a name too.
    private static let names = ["arm", "seed", "text", "method"]

    /// Fields that read as numbers become numbers, empty ones null. In the columns of `numeric` nothing else is taken.
    init(_ table: CSVTable, in folder: InputFolder, numeric: [String] = []) throws(ReportError) {
        self.folder = folder
        columns = table.columns
        var numericColumns: Set<Int> = []
        for name in numeric { numericColumns.insert(try table.column(name)) }
        var rows: [[JSONValue]] = []
        for row in table.rows {
            var cells: [JSONValue] = []
            for column in table.columns.indices {
                cells.append(
                    numericColumns.contains(column)
                        ? rounded(try table.optionalNumber(row, column), digits: 15)
                        : Self.cell(table.text(row, column), isName: Self.names.contains(table.columns[column])))
            }
            rows.append(cells)
        }
        self.rows = rows
    }

    private static func cell(_ text: String, isName: Bool) -> JSONValue {
        if isName { return .string(text) }
        if text.isEmpty { return .null }
        if let count = Int(text) { return .integer(count) }
        guard let value = Double(text) else { return .string(text) }
        // One that is not finite is none: rounded, it is null.
        return rounded(value, digits: 8)
    }

    func json(label: String) -> JSONValue {
        [
            "label": .string(label), "columns": .array(columns.map { .string($0) }),
            "rows": .array(rows.map { .array($0) }),
        ]
    }
}
