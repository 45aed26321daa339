import Checkpoints

/// What can be wrong with a tokenizer, or with what it is asked to do. Every text says what was found and what helps.
public enum TokenizerError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The tokenizer is damaged: not the format it claims to be, cut short, or at odds with itself.
    case unreadable(path: String, reason: String)
    /// The tokenizer is sound but of a kind that this package does not understand.
    case unsupported(path: String, feature: String, found: String, understood: String)
    /// A byte-level vocabulary of which nothing says by which rule text is cut into words: a GGUF file's without
    /// `tokenizer.ggml.pre` (`found` is nil), or with a rule that is not known or `default`.
    case noRule(path: String, found: String?)
    /// A text could not be turned into ids.
    case encodingFailed(reason: String)

    public var description: String {
        switch self {
        case .unreadable(let path, let reason): "\(path): not a usable tokenizer: \(reason)"
        case .unsupported(let path, let feature, let found, let understood):
            "\(path): \(feature) is not supported: found \(found); understood: \(understood)"
        case .noRule(let path, let found):
            "\(path): tokenizer.ggml.pre: found \(UncutVocabulary.describe(found)), so that "
                + "it is not known how this vocabulary cuts text into words; give the model's own tokenizer with "
                + "--tokenizer FILE, or name the rule with --pre-tokenizer "
                + PreTokenizerRule.examples.joined(separator: ", ")
        case .encodingFailed(let reason): "cannot tokenize the text: \(reason)"
        }
    }
}
