/// What keeps a checkpoint or a text from being run through the decoder.
public enum TransformerError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The configuration is missing, is not JSON, or one of its values cannot be used.
    case configuration(path: String, key: String, found: String, expected: String)
    /// The model is of a family that is not built.
    case architecture(path: String, found: String)
    /// A sequence that is longer than the table of learned positions.
    case positions(length: Int, rows: Int)
    /// A token id that the embedding has no row for; `position` counts from 0 in the text.
    case token(id: UInt32, position: Int, vocabulary: Int)

    public var description: String {
        switch self {
        case .configuration(let path, let key, let found, let expected):
            "\(path): configuration: \(key): found \(found), expected \(expected)"
        case .architecture(let path, let found):
            "\(path): the architecture \(found) is not supported; supported are "
                + Family.supportedModelTypes.joined(separator: ", ")
        case .positions(let length, let rows):
            "a sequence of \(length) tokens, expected at most \(rows): the model has learned that many positions"
        case .token(let id, let position, let vocabulary):
            "token \(position) is \(id), expected less than the vocabulary size \(vocabulary); "
                + "were the tokens made with this model's tokenizer?"
        }
    }
}
