import JSON

/// The files that a report knows. What a file is says its header line or its keys, not its name.
enum FileKind: CaseIterable {
    case spectra, ranks, weightSpectra, run
    case plan
    case layers, conversion
    case metrics, curves, rankHistory, healing
    case costs, arms

    /// What the tools call such a file.
    var usualName: String {
        switch self {
        case .spectra: "spectra.csv"
        case .ranks: "ranks.csv"
        case .weightSpectra: "weight_spectra.csv"
        case .run: "run.json"
        case .plan: "plan.json"
        case .layers: "*.layers.csv"
        case .conversion: "*.report.json"
        case .metrics: "metrics.csv"
        case .curves: "curves.csv"
        case .rankHistory: "rank-history.csv"
        case .healing: "healing.csv"
        case .costs: "cost.csv"
        case .arms: "arms.csv"
        }
    }

    /// Whether a page can be made of such a file alone.
    var isShown: Bool { self != .weightSpectra && self != .run }

    /// The first columns of each table. Of two that fit, the earlier counts.
    private static let headers: [(kind: FileKind, columns: [String])] = [
        (.spectra, ["layer", "module", "side", "index", "singular_value"]),
        (.ranks, ["layer", "module", "side", "tokens", "features", "max_rank"]),
        (.weightSpectra, ["layer", "module", "rows", "columns", "index"]),
        (.layers, ["layer", "module", "rank", "parameters", "dense_parameters"]),
        (.metrics, ["step", "tokens", "loss", "evaluation_loss"]),
        (.curves, ["arm", "seed", "step", "tokens", "loss", "evaluation_loss"]),
        (.rankHistory, ["step", "tokens_seen", "layer", "module", "side"]),
        (.rankHistory, ["arm", "seed", "step", "tokens_seen", "layer", "module", "side"]),
        (.healing, ["arm", "text", "tokens", "loss"]),
        (.costs, ["method", "parameters"]),
        (.arms, ["arm"]),
    ]

    /// The table that a file with this header line is; nil for any other.
    init?(columns: [String]) {
        guard let match = Self.headers.first(where: { columns.starts(with: $0.columns) }) else { return nil }
        self = match.kind
    }

    /// The record that a JSON document is; nil for any other.
    init?(document: JSONValue) {
        if document["format"]?.stringValue == "cola-rank-plan" {
            self = .plan
        } else if document["losses"] != nil, document["before"] != nil, document["after"] != nil {
            self = .conversion
        } else if document["accumulation"] != nil, document["hidden_size"] != nil {
            self = .run
        } else {
            return nil
        }
    }
}
