import CKernels
import Checkpoints
import Files
import Tensors
import Transformer

/// The checkpoints that a training run writes and is resumed from: weights, optimizer state and the run's state in one
/// file, which opens everywhere as an ordinary checkpoint. All of it comes back bit for bit.
public enum RunFile {
    /// What a checkpoint says beside numbers.
    public struct Texts: Sendable {
        /// The text of config.json.
        public var configuration: String
        /// JSON text that says where the weights come from.
        public var provenance: String
        public var tokenizer: TokenizerBlob?

        public init(configuration: String, provenance: String, tokenizer: TokenizerBlob?) {
            self.configuration = configuration
            self.provenance = provenance
            self.tokenizer = tokenizer
        }
    }

    /// Writes a checkpoint. It appears under its name only after it was read back and compared.
    ///
    /// - Parameters:
    ///   - weights: in single precision, of the same names and shapes as the optimizer's.
    /// - Throws: `CheckpointError.tensors` if a weight or a part of the optimizer state is not finite, before anything is
    ///   written – such a file could not be read –, and `cannotWrite`. Nothing remains then.
    public static func write(
        path: String, _ texts: Texts, weights: ModelWeights, optimizer: OptimizerState, state: TrainingState
    ) throws {
        let parts = [(OptimizerStatePart.first, optimizer.firstMoment), (.second, optimizer.secondMoment)]
        let parameters = shapes(of: weights)
        for (part, tensors) in parts {
            precondition(
                shapes(of: tensors).elementsEqual(parameters, by: ==),
                "the optimizer state \(part) has other names or shapes than the weights")
        }
        var problems = notFinite(in: weights, "")
        for (part, tensors) in parts { problems += notFinite(in: tensors, "/optimizer/\(part.rawValue)/") }
        guard problems.isEmpty else { throw CheckpointError.tensors(path: path, problems: problems) }

        let writer = try CheckpointWriter(
            path: path, configuration: texts.configuration, provenance: texts.provenance, tokenizer: texts.tokenizer)
        for parameter in weights.parameters {
            let weight = parameter.weight
            try writer.write(parameter.name, shape: weight.shape) { weight.copyRows($0, to: $1) }
        }
        for (part, tensors) in parts {
            for parameter in tensors.parameters {
                let weight = parameter.weight
                try writer.writeOptimizerState(part, parameter.name, shape: weight.shape) {
                    weight.copyRows($0, to: $1)
                }
            }
        }
        try writer.writeTraining(state.group)
        try writer.finish()
    }

    /// Opens a checkpoint that a run can be resumed from: its weights as a source, which `ModelWeights` reads, and its
    /// state. Throws `CheckpointError`; a checkpoint without training state is `unreadable`, and the reason says so.
    public static func read(path: String) throws -> (source: HDF5Checkpoint, state: TrainingState) {
        let source = try HDF5Checkpoint(path: path)
        return (source, try TrainingState(from: source))
    }

    /// Reads the optimizer state of all parameters of `masters`, as it was after `step` steps.
    ///
    /// Throws `CheckpointError.tensors`, which lists everything that is missing, unexpected, of another shape or not
    /// finite, and `unreadable`, which names the part that is damaged.
    public static func optimizerState(
        from source: HDF5Checkpoint, like masters: ModelWeights, step: Int
    ) throws -> OptimizerState {
        var state = OptimizerState(like: masters)
        state.step = step
        try source.checkOptimizerState(of: shapes(of: masters))
        var problems: [String] = []
        for (part, tensors) in [(OptimizerStatePart.first, state.firstMoment), (.second, state.secondMoment)] {
            for parameter in tensors.parameters {
                try read(part, parameter.name, of: source, into: parameter.weight)
            }
            problems += notFinite(in: tensors, "/optimizer/\(part.rawValue)/")
        }
        guard problems.isEmpty else { throw CheckpointError.tensors(path: source.path, problems: problems) }
        return state
    }

    private static func read(
        _ part: OptimizerStatePart, _ name: String, of source: HDF5Checkpoint, into weight: Weight
    ) throws {
        guard !weight.isContiguous else {
            let place = UnsafeMutableBufferPointer(start: weight.view.pointer, count: weight.count)
            return try source.readOptimizerState(part, name, into: place)
        }
        let elements = Matrix(uninitialized: [weight.count])
        try source.readOptimizerState(part, name, into: elements.buffer)
        weight.setElements(elements.pointer)
    }

    private static func shapes(of tensors: ModelWeights) -> [(name: String, shape: [Int])] {
        tensors.parameters.map { ($0.name, $0.weight.shape) }
    }

    private static func notFinite(in tensors: ModelWeights, _ prefix: String) -> [String] {
        tensors.parameters.compactMap { parameter in
            let weight = parameter.weight
            let problem = weight.withElements(0..<weight.count) { elements -> (index: Int, value: Float)? in
                let index = ck_first_not_finite(elements, weight.count)
                return index < weight.count ? (index, elements[index]) : nil
            }
            guard let problem else { return nil }
            let (row, column) = problem.index.quotientAndRemainder(dividingBy: weight.columns)
            let place = weight.shape.count > 1 ? "[\(row), \(column)]" : "[\(problem.index)]"
            return "\(prefix)\(parameter.name): element \(place) is \(problem.value)"
        }
    }
}

extension Weight {
    /// Copies rows of the first extent – elements of a vector – of a weight in single precision.
    fileprivate func copyRows(_ rows: Range<Int>, to buffer: UnsafeMutableBufferPointer<Float>) {
        let width = shape.dropFirst().reduce(1, *)
        guard let destination = buffer.baseAddress else { return }
        copyElements(rows.lowerBound * width..<rows.upperBound * width, to: destination)
    }
}
