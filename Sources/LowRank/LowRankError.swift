import JSON

/// What keeps ranks from being chosen or a checkpoint from being converted.
public enum LowRankError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A plan, or moments, of another model than the one at hand, or not whole.
    case input(path: String, place: String, found: String, expected: String)
    /// A model that there is nothing to convert in.
    case model(path: String, reason: String)
    /// A rank or budget that the model cannot have.
    case setting(name: String, found: String, expected: String)
    /// What was converted is not what it should be.
    case result(String)

    /// What a plan, or another record, holds in place of what it must.
    init(_ error: JSONReadError) {
        self = .input(
            path: error.path, place: error.place.isEmpty ? "plan" : error.place, found: error.found,
            expected: error.expected)
    }

    public var description: String {
        switch self {
        case .input(let path, let place, let found, let expected):
            "\(path): \(place): found \(found), expected \(expected)"
        case .model(let path, let reason): "\(path): \(reason)"
        case .setting(let name, let found, let expected): "\(name): found \(found), expected \(expected)"
        case .result(let text): text
        }
    }
}
