import CKernels
import Checkpoints
import Files
import Tensors
import Transformer

/// The checkpoints that a training run writes and is resumed from: weights, AdamW's moments and the run's state in one
/// file, which opens everywhere as an ordinary checkpoint. All of it comes back bit for bit.
public enum RunFile {
    /// Writes a checkpoint. It appears under its name only after it was read back and compared.
    ///
    /// - Parameters:
    ///   - configuration: the text of config.json.
    ///   - provenance: JSON text that says where the weights come from.
    ///   - weights: in single precision, as are the moments, which have the same names and shapes.
    /// - Throws: `CheckpointError.tensors` if a weight or moment is not finite, before anything is written – such a file
    ///   could not be read –, and `cannotWrite`. Nothing remains then.
    public static func write(
        path: String, configuration: String, provenance: String, tokenizer: TokenizerBlob?, weights: DecoderWeights,
        firstMoments: DecoderWeights, secondMoments: DecoderWeights, state: TrainingState
    ) throws {
        let moments = [(Moment.first, firstMoments), (.second, secondMoments)]
        let parameters = shapes(of: weights)
        for (moment, tensors) in moments {
            precondition(
                shapes(of: tensors).elementsEqual(parameters, by: ==),
                "the moments \(moment) have other names or shapes than the weights")
        }
        var problems = notFinite(in: weights, "")
        for (moment, tensors) in moments { problems += notFinite(in: tensors, "/optimizer/\(moment.rawValue)/") }
        guard problems.isEmpty else { throw CheckpointError.tensors(path: path, problems: problems) }

        let writer = try CheckpointWriter(
            path: path, configuration: configuration, provenance: provenance, tokenizer: tokenizer)
        try weights.visitParameters { try writer.write($0, elements(of: $1)) }
        for (moment, tensors) in moments {
            try tensors.visitParameters { try writer.writeMoment(moment, $0, elements(of: $1)) }
        }
        try writer.writeTraining(state.group)
        try writer.finish()
    }

    /// Opens a checkpoint that a run can be resumed from: its weights as a source, which `DecoderWeights` reads, and its
    /// state. Throws `CheckpointError`; a checkpoint without training state is `unreadable`, and the reason says so.
    public static func read(path: String) throws -> (source: HDF5Checkpoint, state: TrainingState) {
        let source = try HDF5Checkpoint(path: path)
        return (source, try TrainingState(from: source))
    }

    /// Reads the moments of all parameters of `first`, whose names and shapes `second` shares, both in single precision.
    ///
    /// Throws `CheckpointError.tensors`, which lists every moment that is missing, unexpected, of another shape or not
    /// finite, and `unreadable`, which names the moment that is damaged.
    public static func readMoments(
        from source: HDF5Checkpoint, into first: DecoderWeights, second: DecoderWeights
    ) throws {
        let parameters = shapes(of: first)
        precondition(shapes(of: second).elementsEqual(parameters, by: ==), "moments of different names or shapes")
        try source.checkMoments(of: parameters)
        var problems: [String] = []
        for (moment, tensors) in [(Moment.first, first), (.second, second)] {
            try tensors.visitParameters { try source.readMoment(moment, $0, into: elements(of: $1).buffer) }
            problems += notFinite(in: tensors, "/optimizer/\(moment.rawValue)/")
        }
        guard problems.isEmpty else { throw CheckpointError.tensors(path: source.path, problems: problems) }
    }

    private static func shapes(of tensors: DecoderWeights) -> [(name: String, shape: [Int])] {
        var shapes: [(name: String, shape: [Int])] = []
        tensors.visitParameters { shapes.append(($0, $1.shape)) }
        return shapes
    }

    private static func elements(of weight: Weight) -> Matrix {
        guard case .single(let matrix) = weight.storage else {
            preconditionFailure("what is trained is kept in single precision")
        }
        return matrix
    }

    private static func notFinite(in tensors: DecoderWeights, _ prefix: String) -> [String] {
        var problems: [String] = []
        tensors.visitParameters { name, weight in
            let matrix = elements(of: weight)
            let index = ck_first_not_finite(matrix.pointer, matrix.count)
            guard index < matrix.count else { return }
            let (row, column) = index.quotientAndRemainder(dividingBy: weight.columns)
            let place = weight.shape.count > 1 ? "[\(row), \(column)]" : "[\(index)]"
            problems.append("\(prefix)\(name): element \(place) is \(matrix.pointer[index])")
        }
        return problems
    }
}
