import JSON
import Spectra

/// The spectra of one run: of each place its effective ranks, what d/4 keeps there, and its singular values thinned out
/// to a curve.
struct SpectraSection {
    struct Place {
        let layer: Int
        let module: String
        let side: String
        /// Of the matrix of activations; nil where there is no ranks.csv.
        var tokens: Int?
        var features: Int?
        /// The largest rank it can have.
        let full: Int
        /// r(α) for each α of the section.
        let ranks: [Int]
        var energyAtQuarter: Double?
        var errorAtQuarter: Double?
        /// Singular values at `logarithmicIndices(upTo: full)`; none where there is no spectra.csv.
        var curve: [Double] = []
        /// Further columns of ranks.csv, by `otherColumns`.
        var others: [Double] = []

        var key: String { "\(layer),\(module),\(side)" }
    }

    struct Alpha: Equatable {
        let text: String
        let value: Double
    }

    static let points = 100
    static let usualAlphas = ["0.5", "0.8", "0.9", "0.95", "0.98", "0.99", "0.995", "0.999", "0.9999"]
    static let otherColumns = ["entropy_rank", "participation_ratio", "stable_rank"]

    let folder: InputFolder
    private(set) var alphas: [Alpha]
    private(set) var places: [Place]
    /// nil if nothing says it.
    private(set) var hiddenSize: Int?
    private let tokens: Int?

    /// nil for a folder without spectra and ranks. Throws `ReportError.invalid` for files that are damaged, and where
    /// spectra.csv and ranks.csv do not belong together.
    init?(_ folder: InputFolder) throws {
        let (spectra, ranks) = (try folder.table(.spectra), try folder.table(.ranks))
        guard spectra != nil || ranks != nil else { return nil }
        self.folder = folder
        let run = folder.documents(.run).first?.value
        tokens = run?["tokens"]?.intValue
        let tabulated = try ranks.map(RanksTable.init)
        hiddenSize = run?["hidden_size"]?.intValue ?? tabulated?.hiddenSize
        let columns = tabulated?.alphas ?? []
        let usual = spectra == nil ? [] : Self.usualAlphas.map { Alpha(text: $0, value: Double($0)!) }
        alphas = (columns + usual.filter { alpha in !columns.contains { $0.value == alpha.value } })
            .sorted { $0.value < $1.value }
        guard let spectra else {
            places = tabulated?.places ?? []
            return
        }
        places = try Self.places(in: spectra, alphas: alphas.map(\.value), quarter: hiddenSize.map { $0 / 4 })
        if let tabulated { try join(tabulated) }
    }

    /// The rows of spectra.csv, place by place.
    private static func places(in table: CSVTable, alphas: [Double], quarter: Int?) throws(ReportError) -> [Place] {
        let (index, value) = (try table.column("index"), try table.column("singular_value"))
        var places: [Place] = []
        var values: [Double] = []
        for row in table.rows {
            if row > 0, !table.repeats(row, first: 3) { values.removeAll(keepingCapacity: true) }
            let singularValue = try table.number(row, value)
            guard try table.count(row, index) == values.count + 1 else {
                throw table.invalid(row, index, expected: "\(values.count + 1), the next of this place")
            }
            guard singularValue >= 0, singularValue <= values.last ?? .infinity else {
                throw table.invalid(row, value, expected: "at least 0 and no more than the one before")
            }
            values.append(singularValue)
            guard row + 1 == table.rows.upperBound || !table.repeats(row + 1, first: 3) else { continue }
            let ranks = EffectiveRanks(singularValues: values, alphas: alphas, quarter: quarter ?? 0)
            places.append(
                Place(
                    layer: try table.count(row, 0), module: table.text(row, 1), side: table.text(row, 2),
                    full: values.count, ranks: ranks.energyRanks,
                    energyAtQuarter: quarter.map { _ in ranks.energyAtQuarter },
                    errorAtQuarter: quarter.map { _ in ranks.relativeErrorAtQuarter },
                    curve: logarithmicIndices(upTo: values.count, points: points).map { values[$0 - 1] }))
        }
        return places
    }

    /// Adds what only ranks.csv knows, after a check that its ranks are those of the spectra.
    private mutating func join(_ table: RanksTable) throws {
        let columns = alphas.indices.filter { index in table.alphas.contains(alphas[index]) }
        let byKey = Dictionary(table.places.map { ($0.key, $0) }, uniquingKeysWith: { $1 })
        for index in places.indices {
            let place = places[index]
            guard let row = byKey[place.key], row.full == place.full, columns.map({ place.ranks[$0] }) == row.ranks
            else {
                throw ReportError.invalid(
                    path: table.path, place: "layer \(place.layer) \(place.module) \(place.side)",
                    found: byKey[place.key].map { "ranks \($0.ranks) of \($0.full)" } ?? "no row",
                    expected: "\(columns.map { place.ranks[$0] }) of \(place.full) as in spectra.csv beside it")
            }
            places[index].tokens = row.tokens
            places[index].features = row.features
            places[index].others = row.others
            places[index].energyAtQuarter = row.energyAtQuarter
            places[index].errorAtQuarter = row.errorAtQuarter
        }
    }

    func json(label: String) -> JSONValue {
        func distinct(_ path: KeyPath<Place, String>) -> JSONValue {
            var names: [String] = []
            for place in places where !names.contains(place[keyPath: path]) { names.append(place[keyPath: path]) }
            return .array(names.map { .string($0) })
        }
        let lengths = Set(places.filter { !$0.curve.isEmpty }.map(\.full)).sorted()
        let indices = lengths.map { length -> JSONObject.Member in
            ("\(length)", .array(logarithmicIndices(upTo: length, points: Self.points).map { .integer($0) }))
        }
        return [
            "label": .string(label), "hidden": .integer(hiddenSize), "quarter": .integer(hiddenSize.map { $0 / 4 }),
            "tokens": .integer(tokens ?? places.first?.tokens), "modules": distinct(\.module),
            "sides": distinct(\.side),
            "alphas": .array(alphas.map { ["text": .string($0.text), "value": .number($0.value)] }),
            "indices": .object(JSONObject(indices)), "places": .array(places.map(\.json)),
        ]
    }
}

extension SpectraSection.Place {
    fileprivate var json: JSONValue {
        var members: [JSONObject.Member] = [
            ("layer", .integer(layer)), ("module", .string(module)), ("side", .string(side)), ("full", .integer(full)),
            ("features", .integer(features)), ("ranks", .array(ranks.map { .integer($0) })),
            ("energy", rounded(energyAtQuarter, digits: 6)), ("error", rounded(errorAtQuarter)),
        ]
        if !others.isEmpty { members.append(("others", .array(others.map { rounded($0) }))) }
        if !curve.isEmpty { members.append(("curve", .array(curve.map { rounded($0, digits: 4) }))) }
        return .object(JSONObject(members))
    }
}

extension JSONValue {
    static func integer(_ value: Int?) -> JSONValue { value.map { .integer($0) } ?? .null }
}

/// The rows of a ranks.csv.
private struct RanksTable {
    let path: String
    let alphas: [SpectraSection.Alpha]
    let places: [SpectraSection.Place]

    init(_ table: CSVTable) throws(ReportError) {
        path = table.path
        let columns = try table.rankColumns()
        alphas = columns.map(\.alpha)
        let (energy, error) = (
            try table.column("energy_at_quarter"), try table.column("relative_error_at_quarter")
        )
        var others: [Int] = []
        for name in SpectraSection.otherColumns { others.append(try table.column(name)) }
        var places: [SpectraSection.Place] = []
        for row in table.rows {
            var (ranks, numbers): ([Int], [Double]) = ([], [])
            for column in columns { ranks.append(try table.count(row, column.index)) }
            for column in others { numbers.append(try table.optionalNumber(row, column) ?? .nan) }
            places.append(
                SpectraSection.Place(
                    layer: try table.count(row, 0), module: table.text(row, 1), side: table.text(row, 2),
                    tokens: try table.count(row, 3), features: try table.count(row, 4), full: try table.count(row, 5),
                    ranks: ranks, energyAtQuarter: try table.optionalNumber(row, energy),
                    errorAtQuarter: try table.optionalNumber(row, error), others: numbers))
        }
        self.places = places
    }

    /// The width of what leaves a layer.
    var hiddenSize: Int? {
        places.first { $0.side == "output" && ["residual", "mlp.down_proj", "self_attn.o_proj"].contains($0.module) }?
            .features
    }
}

extension CSVTable {
    /// The columns `rank_α`, with α as it is written.
    func rankColumns() throws(ReportError) -> [(index: Int, alpha: SpectraSection.Alpha)] {
        var found: [(index: Int, alpha: SpectraSection.Alpha)] = []
        for (index, name) in columns.enumerated() where name.hasPrefix("rank_") {
            let text = String(name.dropFirst(5))
            guard let value = Double(text), value > 0, value <= 1 else {
                throw .invalid(
                    path: path, place: "line 1", found: name, expected: "rank_ and a fraction between 0 and 1")
            }
            found.append((index, SpectraSection.Alpha(text: text, value: value)))
        }
        return found
    }
}
