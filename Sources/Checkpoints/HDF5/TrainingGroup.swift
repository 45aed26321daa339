import CHDF5
import Files
import Tensors

/// What a training run keeps in a checkpoint beside weights and optimizer state: the group `/training`. What the numbers mean
/// is the trainer's business.
public struct TrainingGroup: Sendable {
    /// Whole numbers by name, each an attribute.
    public var counters: [String: Int]
    /// The attribute `seed`.
    public var seed: UInt64
    /// The attribute `settings`, JSON text.
    public var settings: String
    /// Names of the columns of the dataset `history`, in its attribute `columns` with commas between them.
    public var columns: [String]
    /// The dataset `history` in double precision, row by row, one number for each column.
    public var history: [Double]

    public init(counters: [String: Int], seed: UInt64, settings: String, columns: [String], history: [Double]) {
        self.counters = counters
        self.seed = seed
        self.settings = settings
        self.columns = columns
        self.history = history
    }
}

/// The running means that AdamW keeps of a parameter's gradient, under the names they have in a file.
public enum OptimizerStatePart: String, Sendable, CaseIterable {
    /// Of the gradient, in `/optimizer/m`.
    case first = "m"
    /// Of its square, in `/optimizer/v`.
    case second = "v"
}

// MARK: - Reading

extension HDF5Checkpoint {
    /// Whether a file opens and has a group `/training`. Looks at no more of it than that. Throws `missing` or
    /// `unreadable`.
    public static func carriesTraining(path: String) throws(CheckpointError) -> Bool {
        let file = try HDF5Group.openFile(path)
        return try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: $0) }) {
            try file.openGroup(HDF5Names.training) != nil
        }
    }

    /// Reads the group `/training`, whose counters have the given names.
    ///
    /// Throws `unreadable` if there is none – the checkpoint is then one of weights alone – or if it is damaged, and
    /// `invalid` for an attribute or a history that is missing or something else.
    public func training(counters: [String]) throws -> TrainingGroup {
        try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: "/training: \($0)") }) {
            guard let group = try file.openGroup(HDF5Names.training) else { throw noTraining }
            func invalid(_ name: String, _ found: HDF5Attribute?, _ expected: String) -> CheckpointError {
                .invalid(
                    path: path, place: "/training, attribute \(name)", found: found?.description ?? "nothing",
                    expected: expected)
            }
            var values: [String: Int] = [:]
            for name in counters {
                let found = try group.handle.attribute(name)
                guard let value = found?.intValue else { throw invalid(name, found, "a whole number") }
                values[name] = value
            }
            let seed = try group.handle.attribute(HDF5Names.seed)
            guard case .unsigned(let seed) = seed else {
                throw invalid(HDF5Names.seed, seed, "an unsigned whole number")
            }
            let settings = try group.handle.attribute(HDF5Names.settings)
            guard case .text(let settings) = settings else {
                throw invalid(HDF5Names.settings, settings, "JSON text")
            }
            let (columns, history) = try readHistory(in: group)
            return TrainingGroup(
                counters: values, seed: seed, settings: settings, columns: columns, history: history)
        }
    }

    private func readHistory(in group: HDF5Group) throws -> (columns: [String], rows: [Double]) {
        func invalid(_ found: String) -> CheckpointError {
            .invalid(
                path: path, place: "/training/history", found: found,
                expected: "a table of f64 with the names of its columns in the attribute columns")
        }
        guard let dataset = try group.open([HDF5Names.history]), H5Iget_type(dataset.id) == H5I_DATASET else {
            throw invalid("no such dataset")
        }
        do {
            let (type, shape) = try dataset.describeDataset()
            guard type == .float(.f64), shape.count == 2 else { throw invalid("\(type.description) \(shape)") }
            guard case .text(let names) = try dataset.attribute(HDF5Names.columns) else {
                throw invalid("no names of columns")
            }
            let columns = names.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
            guard columns.count == shape[1] else { throw invalid("\(shape[1]) columns named \(names)") }
            guard shape[0] > 0 else { return (columns, []) }
            try dataset.requireComplete(shape: shape)
            var rows = [Double](repeating: 0, count: shape[0] * shape[1])
            try HDF5Library.check(H5Dread(dataset.id, chdf5_native_double(), 0, 0, 0, &rows))
            return (columns, rows)
        } catch let failure as HDF5Failure {
            throw HDF5Failure(reason: "history: \(failure.reason)")
        }
    }

    /// Compares the optimizer state in the file with the parameters they belong to.
    ///
    /// Throws `tensors` with every part that is missing, unexpected, damaged, of another shape than its parameter or
    /// not in single precision, and `unreadable` if the file carries no training state at all. Reads no elements.
    public func checkOptimizerState(of parameters: [(name: String, shape: [Int])]) throws {
        var problems: [String] = []
        try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: "/optimizer: \($0)") }) {
            guard let optimizer = try file.openGroup(HDF5Names.optimizer) else {
                guard try file.openGroup(HDF5Names.training) != nil else { throw noTraining }
                throw CheckpointError.tensors(path: path, problems: ["/optimizer: missing"])
            }
            for part in OptimizerStatePart.allCases {
                problems += try problemsOf(part, in: optimizer, parameters)
            }
            for name in try optimizer.links() where OptimizerStatePart(rawValue: name) == nil {
                problems.append("/optimizer/\(name): unexpected")
            }
        }
        guard problems.isEmpty else { throw CheckpointError.tensors(path: path, problems: problems) }
    }

    private func problemsOf(
        _ part: OptimizerStatePart, in optimizer: HDF5Group, _ parameters: [(name: String, shape: [Int])]
    ) throws -> [String] {
        let place = "/optimizer/\(part.rawValue)"
        guard let group = try optimizer.openGroup([part.rawValue]) else { return ["\(place): missing"] }
        var problems: [String] = []
        var unexpected = Set(try group.links())
        for (name, shape) in parameters {
            unexpected.remove(name)
            do {
                guard let dataset = try group.open([name]), H5Iget_type(dataset.id) == H5I_DATASET else {
                    problems.append("\(place)/\(name): missing, expected \(shape)")
                    continue
                }
                let stored = try dataset.describeDataset()
                if stored.shape != shape || stored.type != .float(.f32) {
                    problems.append(
                        "\(place)/\(name): found \(stored.type.description) \(stored.shape), expected f32 \(shape)")
                }
            } catch let failure as HDF5Failure {
                problems.append("\(place)/\(name): \(failure.reason)")
            }
        }
        return problems + unexpected.sorted().map { "\(place)/\($0): unexpected" }
    }

    /// Reads a part of a parameter's optimizer state; `destination` holds as many elements. Throws `unreadable`, naming it, if it is
    /// damaged, and `tensors` if it is not what `checkOptimizerState` lets pass.
    public func readOptimizerState(
        _ part: OptimizerStatePart, _ name: String, into destination: UnsafeMutableBufferPointer<Float>
    ) throws {
        let location = HDF5Names.path(of: part) + [name]
        let place = "/" + location.joined(separator: "/")
        try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: "\(place): \($0)") }) {
            guard let dataset = try file.open(location), H5Iget_type(dataset.id) == H5I_DATASET else {
                throw CheckpointError.tensors(path: path, problems: ["\(place): missing"])
            }
            let (type, shape) = try dataset.describeDataset()
            guard type == .float(.f32), shape.reduce(1, *) == destination.count else {
                throw CheckpointError.tensors(
                    path: path,
                    problems: ["\(place): found \(type.description) \(shape), expected \(destination.count) of f32"])
            }
            let reader = try HDF5TensorReader(name: place, dataset: dataset, shape: shape, type: .f32)
            try reader.read(rows: nil, into: destination)
        }
    }

    private var noTraining: CheckpointError {
        .unreadable(
            path: path, reason: "carries no training state; use `continue` to train it on from its weights")
    }
}
