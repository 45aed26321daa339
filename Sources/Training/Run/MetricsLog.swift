import Files
import JSON

/// The numbers of every step of a run, in `metrics.csv` for tables and `metrics.jsonl` for programs.
///
/// Every record is one line of each, written at once: who reads along, or kills the process, finds whole lines. Numbers
/// are printed so that they read back the same. Where there was no evaluation, and for numbers that are not finite, the
/// field is empty or null; `metrics.jsonl` then has the reason.
public final class MetricsLog {
    static let fileNames = ["metrics.csv", "metrics.jsonl"]

    private let claim: FolderClaim
    private let table: LineFile
    private let lines: LineFile

    /// Starts the log of a run – or goes on with it: its lines so far become those of `history`, the state's that is
    /// resumed from. Lines of later steps and a torn last line are gone then, and the log is the uninterrupted run's.
    ///
    /// The folder is this log's as long as it lives: what killed processes left half-written there goes.
    ///
    /// Throws `CheckpointError.cannotWrite`, also while another process trains in the folder; the files are then as they
    /// were.
    public init(in folder: RunFolder, history: [StepRecord] = []) throws(CheckpointError) {
        claim = try FolderClaim(folder)
        try folder.removeLeftovers()
        let paths = Self.fileNames.map { "\(folder.path)/\($0)" }
        let files = [try AtomicFile(paths[0], needsFile: true), try AtomicFile(paths[1], needsFile: true)]
        try files[0].write(StepRecord.columns.joined(separator: ",") + "\n")
        for record in history {
            try files[0].write(record.tableLine)
            try files[1].write(record.jsonLine)
        }
        try AtomicFile.commit(files)
        table = try LineFile(paths[0])
        lines = try LineFile(paths[1])
    }

    /// Appends one line to each file. Throws `CheckpointError.cannotWrite`, for example on a full disk; both files then
    /// end as they did before.
    public func append(_ record: StepRecord) throws(CheckpointError) {
        let length = table.length
        try table.append(record.tableLine)
        do {
            try lines.append(record.jsonLine)
        } catch {
            table.cut(to: length)
            throw error
        }
    }
}

extension StepRecord {
    var tableLine: String {
        let fields = Self.layout.map { column in
            switch column.value {
            case .count(let path): "\(self[keyPath: path])"
            case .number(let path): csvField(self[keyPath: path])
            case .optional(let path): csvField(self[keyPath: path])
            }
        }
        return fields.joined(separator: ",") + "\n"
    }

    var jsonLine: String {
        var members = Self.layout.map { column -> JSONObject.Member in
            switch column.value {
            case .count(let path): (column.name, .integer(self[keyPath: path]))
            case .number(let path): (column.name, .number(self[keyPath: path]))
            case .optional(let path): (column.name, self[keyPath: path].map { .number($0) } ?? .null)
            }
        }
        if !loss.isFinite || !gradientNorm.isFinite {
            // The sign of what is no number says nothing.
            func word(_ value: Double) -> String { value.isNaN ? "nan" : "\(value)" }
            let reason = "skipped: the loss is \(word(loss)), the gradient's norm \(word(gradientNorm))"
            members.append(("reason", .string(reason)))
        }
        return JSONValue.object(JSONObject(members)).text() + "\n"
    }
}
