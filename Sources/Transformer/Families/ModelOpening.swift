import Checkpoints
import JSON

/// Opens a checkpoint of any format as a model: tensors under canonical names, whatever names and layouts its family's files
/// have, and of a head and an embedding that are tied what is stored (see `TiedSource`).
///
/// - Parameters: those of `Checkpoint.open`.
/// - Throws: what that throws, and `CheckpointError.tensors` for a file with names of both kinds.
public func openModel(_ path: String, configurationPath: String? = nil) throws -> any TensorSource {
    let source = try openStoredModel(path, configurationPath: configurationPath)
    guard let description = ModelDescription.described(by: source) else { return source }
    let textKey = Family.named(source.modelType)?.textKey
    return TiedSource.resolving(source, isTied: description.tiesEmbedding) { values in
        values[TiedSource.key] = false
        guard let textKey, var text = values[textKey]?.objectValue else { return }
        text[TiedSource.key] = false
        values[textKey] = .object(text)
    }
}

/// The same without a look at weights.
public func openStoredModel(_ path: String, configurationPath: String? = nil) throws -> any TensorSource {
    try FamilySource.resolving(
        Checkpoint.openStored(
            path, configurationPath: configurationPath, architectures: Family.architectures))
}

extension ModelDescription {
    /// What the configuration of a checkpoint describes, also if a key of it stands in the way of computing with it; nil if it
    /// describes nothing, which `ModelDescription(of:)` says in detail.
    static func described(by source: any TensorSource) -> ModelDescription? {
        guard let text = try? text(of: source) else { return nil }
        return try? reading(text).description
    }
}

extension TensorSource {
    /// `model_type` of the configuration.
    var modelType: String { configurationValues?["model_type"]?.stringValue ?? Family.llama.name }

    /// What gave the tensors their canonical names, where the file has others.
    var familySource: FamilySource? { self as? FamilySource ?? (self as? TiedSource)?.source.familySource }
}

extension Family {
    /// The path of the module that computes a linear layer in the transformers library, for a model of this family with that
    /// configuration; a part of a fused one has `#q` or the like behind it.
    public func source(of linear: LinearLayer, configuration: JSONObject?) -> String {
        let modelType = configuration?["model_type"]?.stringValue ?? name
        let path = linear.id.path
        var (own, part) = (path, "")
        if let module = names.module(canonical: path[...]) {
            own = module.own
            if module.canonical.count > 1 { part = "#" + linear.id.shortName }
        }
        return FamilyNames.stored(own, names.beginnings.filter { $0.pathsOf.contains(modelType) }) + part
    }
}
