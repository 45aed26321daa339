import Checkpoints
import Files

/// What becomes of the head, which makes logits of hidden states and which not every work needs.
public enum HeadUse: Sendable {
    /// It must be there.
    case required
    /// It may be missing, and is as it must be if it is there.
    case ifStored
    /// Nobody looks at it.
    case none
}

/// The tensors of a checkpoint by what they are to a decoder.
public struct StoredTensors: Sendable {
    /// Parameters of the model, in the order of `ModelWeights.parameters`. The head of a model without one is not
    /// among them.
    public let parameters: [TensorInfo]
    /// What belongs to no decoder, but can be kept: the head of a reward model, for example.
    public let others: [TensorInfo]
    /// What belongs to no decoder and cannot be read.
    public let unreadable: [TensorInfo]

    /// Compares names, shapes and types with what the configuration asks for. Reads no weights.
    ///
    /// A tensor that the decoder does not have is no obstacle if it carries nothing – tables that follow from the
    /// configuration, tensors without elements – or belongs to something outside of it: a head for rewards or classes, another
    /// tower. Inside, it would change what is computed.
    ///
    /// Throws `CheckpointError.tensors` with everything that is missing, of another shape, of a type that is not read,
    /// unexpected, or about which the parts of the file contradict each other.
    public init(
        of source: any TensorSource, _ description: ModelDescription, head: HeadUse = .required
    ) throws(CheckpointError) {
        let contradictions = Dictionary(source.contradictions.map { ($0.name, $0.problem) }) { first, _ in first }
        var stored = Dictionary(source.tensors.map { ($0.name, $0) }) { first, _ in first }
        var problems: [String] = []
        var parameters: [TensorInfo] = []
        for parameter in ModelWeights(description, precision: nil).parameters {
            let (name, shape) = (parameter.name, parameter.weight.shape)
            let info = stored.removeValue(forKey: name)
            if name == Self.head, head == .none || (head == .ifStored && info == nil) {
                if let info { parameters.append(info) }
                continue
            }
            if let info, contradictions[name] == nil, info.obstacle == nil, info.shape == shape {
                parameters.append(info)
            } else {
                let problem = Self.problem(source.label(name), info, shape, contradictions[name])
                // All parts of a fused tensor have the same one.
                if !problems.contains(problem) { problems.append(problem) }
            }
        }
        // The copy of a tied model's embedding.
        if description.tiesEmbedding { stored[Self.head] = nil }
        let family = Family.all.first { $0.name == description.family }
        func isOfFamily(_ name: String) -> Bool { family?.names.isOfDecoder(name) ?? false }
        var others: [TensorInfo] = []
        for (name, info) in stored.sorted(by: { $0.key < $1.key }) where !Self.carriesNothing(info) {
            if Self.isOfDecoder(name, head: head) || isOfFamily(name) {
                problems.append("\(source.label(name)): \(info.obstacle ?? "unexpected")")
            } else {
                others.append(info)
            }
        }
        guard problems.isEmpty else { throw .tensors(path: source.path, problems: problems) }
        self.parameters = parameters
        self.others = others.filter { $0.obstacle == nil }
        unreadable = others.filter { $0.obstacle != nil }
    }

    static let head = "lm_head.weight"

    private static func problem(
        _ name: String, _ info: TensorInfo?, _ shape: [Int], _ contradiction: String?
    ) -> String {
        if let contradiction { return contradiction }
        guard let info else { return "\(name): missing, expected \(shape)" }
        return "\(name): \(info.obstacle ?? "found \(info.shape), expected \(shape)")"
    }

    private static func carriesNothing(_ info: TensorInfo) -> Bool {
        TensorNames.isRecomputed(info.name) || info.shape.contains(0)
    }

    /// Whether a tensor that is no parameter stands where it would change what the decoder computes.
    private static func isOfDecoder(_ name: String, head: HeadUse) -> Bool {
        // Beside the head's weight: a bias, a scale, an adapter.
        if ["lm_head.", "output."].contains(where: name.hasPrefix) { return head != .none }
        // The second line has the names of GGUF files.
        return [
            "model.", "lora_", "adapter.",
            "blk.", "token_", "position_embd.", "output_norm.", "rope_", "per_layer_", "enc.", "dec.",
        ].contains(where: name.hasPrefix) || name.contains(".lora_")
    }
}

extension TensorSource {
    /// A tensor's name for errors, with that of the file beside it.
    fileprivate func label(_ name: String) -> String {
        let original = originalName(of: name)
        return original == name ? name : "\(name) (\(original))"
    }
}
