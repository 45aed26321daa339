import JSON

/// What keeps a report from being made. Every case names the file or folder.
public enum ReportError: Error, Equatable, Sendable, CustomStringConvertible {
    /// There is no such folder.
    case missing(path: String)
    /// Neither a folder nor those directly in it hold a file that a report shows.
    case nothing(path: String)
    /// A document that is meant to be one of ours is no JSON.
    case json(path: String, JSONError)
    /// One place in a file holds something else than it must.
    case invalid(path: String, place: String, found: String, expected: String)

    public var description: String {
        switch self {
        case .missing(let path): "\(path): no such folder"
        case .nothing(let path):
            "\(path): found no file that a report shows, expected one of "
                + FileKind.allCases.filter(\.isShown).map(\.usualName).joined(separator: ", ")
                + " in it or in the folders in it"
        case .json(let path, let error): "\(path): \(error)"
        case .invalid(let path, let place, let found, let expected):
            "\(path): \(place): found \(found), expected \(expected)"
        }
    }
}
