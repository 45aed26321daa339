/// What can be wrong with the input of a workflow.
public enum WorkflowError: Error, Equatable, CustomStringConvertible {
    /// The loss of a model on a text is not finite.
    case loss(text: String, model: String, mean: Double)
    /// A model whose configuration cannot be carried over.
    case configuration(path: String)

    public var description: String {
        switch self {
        case .loss(let text, let model, let mean):
            "\(text): the loss of \(model) on it is \(mean), expected a number"
        case .configuration(let path): "\(path): its configuration is no JSON object"
        }
    }
}
