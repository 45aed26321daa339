/// What can be wrong with a file of weights or tokens. Every case names the file; the text says what was found, what was
/// expected and, where there is one, the way out.
public enum CheckpointError: Error, Equatable, Sendable, CustomStringConvertible {
    /// There is no such file.
    case missing(path: String)
    /// There is a link of this name, but nothing where it leads: a hub's cache whose file was not or only partly fetched.
    case brokenLink(path: String, target: String)
    /// The file is there but cannot be read as what it claims to be: truncated, corrupt, another format.
    case unreadable(path: String, reason: String)
    /// One place in the file holds something else than it must.
    case invalid(path: String, place: String, found: String, expected: String)
    /// Tensors that are missing, unexpected, mis-shaped or not finite, all of them at once.
    case tensors(path: String, problems: [String])
    /// The output cannot be written: no permission, no space, no such folder.
    case cannotWrite(path: String, reason: String)

    public var description: String {
        switch self {
        case .missing(let path): "\(path): no such file"
        case .brokenLink(let path, let target):
            "\(path): is a link to \(target), which is not there; fetch the file again"
        case .unreadable(let path, let reason): "\(path): \(reason)"
        case .invalid(let path, let place, let found, let expected):
            "\(path): \(place): found \(found), expected \(expected)"
        case .tensors(let path, let problems):
            "\(path): \(problems.count) tensor\(problems.count == 1 ? "" : "s") wrong:\n  "
                + problems.joined(separator: "\n  ")
        case .cannotWrite(let path, let reason): "\(path): cannot write: \(reason)"
        }
    }
}
