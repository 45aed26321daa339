import CKernels
import Checkpoints
import Files
import Tensors

extension ModelDescription {
    /// Describes the model of a checkpoint as it is stored: bottlenecks and biases are read off the tensors that are there.
    /// Reads no weights.
    ///
    /// Throws `TransformerError` as `init(json:path:)` does, and for a file without a configuration.
    public init(of source: any TensorSource) throws(TransformerError) {
        self = try ModelDescription(Self.text(of: source)).completed(by: source)
    }

    /// The configuration of a checkpoint, which cannot have more blocks than tensors.
    static func text(of source: any TensorSource) throws(TransformerError) -> ConfigurationText {
        guard let text = source.configuration else {
            throw .configuration(
                path: source.path, key: "config", found: "none in the file and no config.json beside it",
                expected: "the text of a Hugging Face config.json; give one with --config")
        }
        let count = source.tensors.count
        return try ConfigurationText(
            text, path: source.path,
            blockLimit: .init(count: count, reason: "no more than the file's \(count) tensors"))
    }

    /// The same model with the bottlenecks and biases that are stored.
    func completed(by source: any TensorSource) -> ModelDescription {
        let stored = Dictionary(source.tensors.map { ($0.name, $0) }) { first, _ in first }
        return with { linear in
            let path = linear.id.path
            // Of factors one suffices: where the other is missing, the error should say that.
            let rank = stored[path + ".cola_a"]?.shape.last ?? stored[path + ".cola_b"]?.shape.first
            return LinearLayout(
                rank: rank.map { max(1, $0) }, hasBias: linear.hasBias || stored[path + ".bias"] != nil)
        }
    }
}

extension ModelWeights {
    /// Reads all weights of a checkpoint, without `includingHead` all but the head, which may then be missing.
    ///
    /// `description` is that of the checkpoint. Throws `CheckpointError.tensors`, which lists every tensor that is missing,
    /// unexpected, of another shape than the description says, or not finite.
    public init(
        from source: any TensorSource, _ description: ModelDescription, precision: Precision = .f32,
        includingHead: Bool = true
    ) throws {
        _ = try StoredTensors(of: source, description, head: includingHead ? .required : .none)
        self.init(description, precision: precision, includingHead: includingHead)
        var problems: [String] = []
        for parameter in parameters {
            if let problem = try Self.fill(parameter.weight, name: parameter.name, from: source) {
                problems.append(problem)
            }
        }
        guard problems.isEmpty else { throw CheckpointError.tensors(path: source.path, problems: problems) }
    }

    /// Throws what `StoredTensors` throws about a checkpoint that cannot be used.
    public static func checkNames(
        of source: any TensorSource, _ description: ModelDescription, head: HeadUse = .required
    ) throws(CheckpointError) {
        _ = try StoredTensors(of: source, description, head: head)
    }

    /// Whether a checkpoint has what logits are made with: a head, or an embedding that is one as well.
    public static func hasHead(_ source: any TensorSource, _ description: ModelDescription) -> Bool {
        description.tiesEmbedding || source.info(StoredTensors.head) != nil
    }

    /// Reads one tensor; returns what is wrong with its elements, if anything is.
    private static func fill(_ weight: Weight, name: String, from source: any TensorSource) throws -> String? {
        guard weight.precision != .f32 || !weight.isContiguous else {
            let elements = UnsafeMutableBufferPointer(start: weight.view.pointer, count: weight.count)
            try source.read(name, rows: nil, into: elements)
            return problem(elements, of: weight, name: name, firstRow: 0)
        }
        let block = max(1, (1 << 20) / weight.columns)
        let buffer = Matrix(uninitialized: [min(block, weight.rows), weight.columns])
        for start in stride(from: 0, to: weight.rows, by: block) {
            let rows = start..<min(start + block, weight.rows)
            let elements = UnsafeMutableBufferPointer(start: buffer.pointer, count: rows.count * weight.columns)
            try source.read(name, rows: rows, into: elements)
            if let found = problem(elements, of: weight, name: name, firstRow: start) { return found }
            for row in rows { weight.set(row: row, to: buffer.pointer + (row - start) * weight.columns) }
        }
        return nil
    }

    private static func problem(
        _ elements: UnsafeMutableBufferPointer<Float>, of weight: Weight, name: String, firstRow: Int
    ) -> String? {
        let index = ck_first_not_finite(elements.baseAddress!, elements.count)
        guard index < elements.count else { return nil }
        let columns = weight.columns
        let place = weight.shape.count > 1 ? "[\(firstRow + index / columns), \(index % columns)]" : "[\(index)]"
        return "\(name): element \(place) is \(elements[index])"
    }
}
