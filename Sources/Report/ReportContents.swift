import JSON

/// What is in some folders of results, read and checked: spectra, rank plans, conversions, training runs, costs,
/// studies.
///
/// A file is known by its header line or its keys, not by its name; what is not known is left alone (``ignored``). A
/// folder without any such file stands for the folders directly in it.
public struct ReportContents {
    let folders: [InputFolder]
    private(set) var spectra: [SpectraSection] = []
    private(set) var plans: [PlanSection] = []
    private(set) var conversions: [ConversionSection] = []
    private(set) var training: [TrainingSection] = []
    private(set) var histories: [RankHistorySection] = []
    private(set) var costs: [PlainTable] = []
    private(set) var arms: [PlainTable] = []
    private(set) var healing: [PlainTable] = []

    /// Throws `ReportError`, and `CheckpointError` for a file that cannot be read.
    public init(folders paths: [String]) throws {
        var runs: [InputFolder] = []
        for path in paths {
            for run in try InputFolder.runs(in: path) where !runs.contains(where: { $0.path == run.path }) {
                runs.append(run)
            }
        }
        folders = runs
        for folder in runs {
            if let section = try SpectraSection(folder) { spectra.append(section) }
            for (path, document) in folder.documents(.plan) {
                plans.append(try PlanSection(document, path: path, in: folder))
            }
            conversions += try ConversionSection.all(in: folder)
            for table in folder.tables(.metrics) + folder.tables(.curves) {
                training += try TrainingSection.all(in: table, folder: folder)
            }
            for table in folder.tables(.rankHistory) {
                histories += try RankHistorySection.all(in: table, folder: folder)
            }
            for table in folder.tables(.costs) { costs.append(try PlainTable(table, in: folder)) }
            for table in folder.tables(.arms) { arms.append(try PlainTable(table, in: folder)) }
            for table in folder.tables(.healing) {
                healing.append(try PlainTable(table, in: folder, numeric: ["tokens", "loss"]))
            }
        }
    }

    /// Names of the folders that results were found in.
    public var runs: [String] { distinctLabels(folders.map { ($0.name, $0.path) }) }

    /// Paths of all tables and JSON documents in these folders.
    public var files: [String] { folders.flatMap { $0.files.map(\.path) + $0.ignored } }

    /// Tables and JSON documents in these folders that are none of ours.
    public var ignored: [String] { folders.flatMap(\.ignored) }

    /// What a page of this shows, in its order.
    public var sections: [String] {
        let all = [
            ("spectra", !spectra.isEmpty), ("plans", !plans.isEmpty), ("conversions", !conversions.isEmpty),
            ("healing", !healing.isEmpty), ("training", !training.isEmpty), ("histories", !histories.isEmpty),
            ("arms", !arms.isEmpty), ("costs", !costs.isEmpty),
        ]
        return all.filter(\.1).map(\.0)
    }

    /// Everything that the page shows.
    func json() throws -> JSONObject {
        func labels(_ names: [(short: String, folder: InputFolder)]) -> [String] {
            distinctLabels(names.map { ($0.short, "\($0.folder.path)/\($0.short)") })
        }
        func tables(_ tables: [PlainTable]) -> JSONValue {
            .array(
                zip(tables, distinctLabels(tables.map { ($0.folder.name, $0.folder.path) })).map { $0.json(label: $1) })
        }
        let conversionLabels = labels(conversions.map { ($0.name, $0.folder) })
        return JSONObject([
            (
                "spectra",
                .array(
                    zip(spectra, distinctLabels(spectra.map { ($0.folder.name, $0.folder.path) }))
                        .map { $0.json(label: $1) })
            ),
            ("plans", .array(zip(plans, labels(plans.map { ($0.name, $0.folder) })).map { $0.json(label: $1) })),
            ("conversions", .array(try zip(conversions, conversionLabels).map { try $0.json(label: $1) })),
            (
                "training",
                .array(
                    zip(training, distinctLabels(training.map { ($0.run.text, $0.run.text) })).map {
                        $0.json(label: $1)
                    })
            ),
            (
                "histories",
                .array(
                    zip(histories, distinctLabels(histories.map { ($0.run.text, $0.run.text) })).map {
                        $0.json(label: $1)
                    })
            ),
            ("healing", tables(healing)), ("costs", tables(costs)), ("arms", tables(arms)),
            ("sources", .array(zip(folders, runs).map { $0.provenance(label: $1) })),
        ])
    }
}

extension InputFolder {
    /// The files of the folder, and what its documents say of where they come from.
    fileprivate func provenance(label: String) -> JSONValue {
        let records = documents.map { kind, path, value -> JSONValue in
            var record = JSONObject([("file", .string(path))])
            let members = kind == .run ? value.objectValue : value["provenance"]?.objectValue
            for member in members?.members ?? [] { record[member.key] = member.value }
            for key in ["calibration", "seconds", "peak_memory_bytes"] where kind != .run {
                if let part = value[key], !part.isNull { record[key] = part }
            }
            return .object(record)
        }
        return [
            "label": .string(label), "path": .string(path), "files": .array(files.map(\.json)),
            "records": .array(records),
        ]
    }
}
