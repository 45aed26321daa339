/// What keeps a model from being trained, or a run from being gone on with.
public enum TrainingError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The tokens cannot be learnt from: too few, or ids that the model has no row for.
    case data(name: String, found: String, expected: String)
    /// A setting has a value that is none, or another one than the run that is resumed.
    case setting(name: String, found: String, expected: String)
    /// Loss or gradients were not finite for too many steps in a row.
    case diverged(step: Int, reason: String)

    public var description: String {
        switch self {
        case .data(let name, let found, let expected): "\(name): found \(found), expected \(expected)"
        case .setting(let name, let found, let expected): "setting \(name): found \(found), expected \(expected)"
        case .diverged(let step, let reason): "step \(step): \(reason)"
        }
    }
}
