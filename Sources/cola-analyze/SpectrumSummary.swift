import CommandSupport
import JSON
import Spectra

/// What `spectrum` prints: effective ranks by layer and module, and what to make of them.
struct SpectrumSummary {
    let measured: [MeasuredSpectrum]
    let alphas: [String]
    let quarter: Int
    let hiddenSize: Int

    /// The fraction that the table shows: 0.95 as in the paper, if it was asked for.
    private var shown: Int { alphas.firstIndex { Double($0) == 0.95 } ?? 0 }

    var json: JSONValue {
        .array(
            measured.map { item in
                let key = item.spectrum.key
                var row = JSONObject([
                    ("layer", .integer(key.block)), ("module", .string(key.module.name)),
                    ("side", .string(key.side.rawValue)), ("features", .integer(item.spectrum.features)),
                    ("max_rank", .integer(item.spectrum.singularValues.count)),
                ])
                for (text, rank) in zip(alphas, item.ranks.energyRanks) { row["rank_\(text)"] = .integer(rank) }
                row["energy_at_quarter"] = .number(item.ranks.energyAtQuarter)
                return .object(row)
            })
    }

    func text(folder: String) -> String {
        var sides: [Side] = []
        for item in measured where !sides.contains(item.spectrum.key.side) { sides.append(item.spectrum.key.side) }
        let tables = sides.map { side in
            "Effective rank at α = \(alphas[shown]), side \(side.rawValue); the bar is its share of the largest possible\n\n"
                + table(of: measured.filter { $0.spectrum.key.side == side })
        }
        return (tables + [advice, "\(folder)/spectra.csv  \(folder)/ranks.csv  \(folder)/run.json"])
            .joined(separator: "\n\n")
    }

    private func table(of items: [MeasuredSpectrum]) -> String {
        let modules = Self.modules(of: items)
        var cells: [Int: [MeasuredModule: MeasuredSpectrum]] = [:]
        for item in items { cells[item.spectrum.key.block, default: [:]][item.spectrum.key.module] = item }
        var table = TextTable([("layer", .right)] + modules.map { ($0.shortName, .left) })
        for layer in cells.keys.sorted() {
            let row = modules.map { module -> String in
                guard let item = cells[layer]?[module] else { return "" }
                let rank = item.ranks.energyRanks[shown]
                let share = Double(rank) / Double(max(1, item.spectrum.singularValues.count))
                let digits = String(rank)
                return String(repeating: " ", count: max(0, 4 - digits.count)) + digits + " " + bar(share, width: 6)
            }
            table.append(["\(layer)"] + row)
        }
        return table.text
    }

    /// The modules in the order in which they were measured, each once.
    private static func modules(of items: [MeasuredSpectrum]) -> [MeasuredModule] {
        var modules: [MeasuredModule] = []
        for item in items where !modules.contains(item.spectrum.key.module) { modules.append(item.spectrum.key.module) }
        return modules
    }

    /// Two lines that a person can act on: which modules are how low-rank, and what the rule of thumb d/4 would lose.
    private var advice: String {
        let linear = measured.filter { $0.spectrum.key.module != .residual }
        let modules = Self.modules(of: linear)
        guard !linear.isEmpty else { return "Only the residual stream was measured." }
        let shares = modules.compactMap { module -> (String, Double)? in
            let ratios = linear.filter { $0.spectrum.key.module == module }.map {
                Double($0.ranks.energyRanks[shown]) / Double(max(1, $0.spectrum.singularValues.count))
            }
            return ratios.isEmpty ? nil : (module.shortName, ratios.reduce(0, +) / Double(ratios.count))
        }
        let ordered = shares.sorted { $0.1 < $1.1 }.map { "\($0.0) \(fixed(100 * $0.1, 0)) %" }.joined(separator: ", ")
        let above = linear.filter { $0.ranks.energyRanks[shown] > quarter }
        let worst = linear.min { $0.ranks.energyAtQuarter < $1.ranks.energyAtQuarter }!
        let place = "layer \(worst.spectrum.key.block) \(worst.spectrum.key.module.shortName)"
        return """
            Share of the full rank that keeps \(alphas[shown]) of the energy, mean over layers: \(ordered).
            The rule of thumb r = d/4 = \(quarter) is too small for \(above.count) of \(linear.count) spectra; it loses most \
            in \(place): relative error \(fixed(worst.ranks.relativeErrorAtQuarter, 2)).
            """
    }
}
