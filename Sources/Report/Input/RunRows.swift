/// Which run a row of a table is about.
struct RunName: Hashable {
    /// What is varied; a run by itself is an arm of its own.
    let arm: String
    let seed: String?

    var text: String { seed.map { "\(arm), seed \($0)" } ?? arm }
}

extension CSVTable {
    /// Whether the first columns, `arm` and `seed`, say which run a row is about.
    var isCombined: Bool { columns.first == "arm" }

    /// The rows of each run, in the order of their first ones; of a table of one run, which has its folder's name, all.
    func rowsByRun(in folder: InputFolder) -> [(run: RunName, rows: [Int])] {
        guard isCombined else { return rows.isEmpty ? [] : [(RunName(arm: folder.name, seed: nil), Array(rows))] }
        var runs: [(run: RunName, rows: [Int])] = []
        var places: [RunName: Int] = [:]
        for row in rows {
            let run = RunName(arm: text(row, 0), seed: text(row, 1))
            if let place = places[run] {
                runs[place].rows.append(row)
            } else {
                places[run] = runs.count
                runs.append((run, [row]))
            }
        }
        return runs
    }
}
