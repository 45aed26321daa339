import Checkpoints

/// A family of models: how its configurations become descriptions, and how its own files name and lay out what the
/// toolkit knows by canonical names. Each family is one file, which `all` lists.
public struct Family: Sendable {
    /// As `model_type` of its plainest configuration says.
    public let name: String
    /// What a table says about it in a few words.
    public let summary: String
    /// All values of `model_type` that mean it.
    public let modelTypes: [String]
    /// Makes a description of a configuration. Throws for a value that is missing or that no model has.
    let describe: @Sendable (ConfigurationText) throws(TransformerError) -> ModelDescription
    /// Own names and layouts; none where they are the canonical ones.
    var names = FamilyNames()
    /// How GGUF files have such models, if they do under a name of its own.
    var gguf: GGUFArchitecture?
    /// The object inside a configuration that describes the text model, in files of models that also see or hear.
    public internal(set) var textKey: String?
    /// The transformers library's class of a language model, by `model_type`.
    var classes: [String: String] = [:]

    /// All families, in the order in which tables list them.
    public static let all: [Family] = [.llama, .qwen2, .mistral, .qwen3, .gemma3, .gpt2]

    /// The family of a `model_type`.
    public static func named(_ modelType: String) -> Family? { all.first { $0.modelTypes.contains(modelType) } }

    /// The transformers library's classes of all language models, by `model_type`.
    public static var classes: [String: String] {
        all.reduce(into: [:]) { $0.merge($1.classes) { first, _ in first } }
    }

    /// The GGUF files that hold a model of a family.
    public static var architectures: [GGUFArchitecture] { all.compactMap(\.gguf) }

    /// Every `model_type` that is supported.
    public static var supportedModelTypes: [String] { all.flatMap(\.modelTypes) }
}

extension ModelDescription {
    /// Describes the model of a config.json. `path` names the file in errors.
    ///
    /// Linear layers are dense, with the biases that the configuration promises. Throws `TransformerError` for a value that
    /// is missing or that no model has, another family, and any key that would change the arithmetic and is not understood
    /// (see `ConfigurationKeys`).
    public init(json: String, path: String) throws(TransformerError) {
        try self.init(ConfigurationText(json, path: path))
    }

    init(_ raw: ConfigurationText) throws(TransformerError) {
        let (description, obstacles) = try Self.reading(raw)
        if let first = obstacles.first { throw first }
        self = description
    }

    /// What a configuration describes, and every key of it that would change the arithmetic and is not understood. Throws for
    /// what keeps it from describing anything.
    static func reading(
        _ raw: ConfigurationText
    ) throws(TransformerError) -> (description: ModelDescription, obstacles: [TransformerError]) {
        let modelType = try raw.string("model_type") ?? Family.llama.name
        guard let family = Family.named(modelType) else { throw .architecture(path: raw.path, found: modelType) }
        var text = raw
        if let key = family.textKey, let inner = try raw.object(key) { text = inner }
        let description = try family.describe(text)
        return (description, ConfigurationKeys.obstacles(text, description))
    }
}
