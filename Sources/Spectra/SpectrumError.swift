/// What keeps spectra from being measured.
public enum SpectrumError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A module that the model does not have; `known` are the short names of those that it has.
    case module(String, known: [String])
    /// A block that the model does not have.
    case block(Int, count: Int)

    public var description: String {
        switch self {
        case .module(let name, let known): "'\(name)' is none of \(known.joined(separator: ", "))"
        case .block(let block, let count): "layer \(block): the model has \(count) layers, 0 to \(count - 1)"
        }
    }
}
