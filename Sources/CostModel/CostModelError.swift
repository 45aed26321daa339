/// What keeps costs from being worked out.
public enum CostModelError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A rank, length or share that the model or a step cannot have.
    case setting(name: String, found: String, expected: String)

    public var description: String {
        switch self {
        case .setting(let name, let found, let expected): "\(name): found \(found), expected \(expected)"
        }
    }
}
