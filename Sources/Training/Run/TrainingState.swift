import Checkpoints
import Files
import JSON

/// What one step of the optimiser came to.
public struct StepRecord: Sendable, Equatable {
    /// Steps done with this one: 1 for the first; 0 for an evaluation before it.
    public private(set) var step: Int
    /// Tokens learnt from so far, those of this step included.
    public private(set) var tokens: Int
    /// Mean loss of the step's tokens, in nats.
    public private(set) var loss: Double
    /// Mean loss of the evaluation after this step; `nil` where none was made, or where it came to no number.
    public private(set) var evaluationLoss: Double?
    /// Norm of all gradients together, before it was clipped.
    public private(set) var gradientNorm: Double
    public private(set) var learningRate: Double
    public private(set) var tokensPerSecond: Double

    public init(
        step: Int, tokens: Int, loss: Double, gradientNorm: Double, learningRate: Double, tokensPerSecond: Double
    ) {
        self.step = step
        self.tokens = tokens
        self.loss = loss
        self.gradientNorm = gradientNorm
        self.learningRate = learningRate
        self.tokensPerSecond = tokensPerSecond
    }

    /// The same with the loss of an evaluation after the step, if one was made and came to a number.
    public func evaluated(_ loss: Double?) -> StepRecord {
        var result = self
        result.evaluationLoss = loss.flatMap { $0.isNaN ? nil : $0 }
        return result
    }

    /// Equal bit for bit: a loss that was no number equals itself.
    public static func == (left: Self, right: Self) -> Bool {
        left.row.map(\.bitPattern) == right.row.map(\.bitPattern)
    }
}

extension StepRecord {
    /// A column of a history, in a checkpoint as in the metrics files.
    struct Column: Sendable {
        let name: String
        let value: Value

        enum Value: Sendable {
            case count(WritableKeyPath<StepRecord, Int> & Sendable)
            case number(WritableKeyPath<StepRecord, Double> & Sendable)
            /// NaN, or nothing, where there is none.
            case optional(WritableKeyPath<StepRecord, Double?> & Sendable)
        }

        /// The number in a table of double precision.
        func number(of record: StepRecord) -> Double {
            switch value {
            case .count(let path): Double(record[keyPath: path])
            case .number(let path): record[keyPath: path]
            case .optional(let path): record[keyPath: path] ?? .nan
            }
        }

        /// Sets what a table holds; false for a number that is not a count where there has to be one.
        func set(_ number: Double, in record: inout StepRecord) -> Bool {
            switch value {
            case .count(let path):
                guard let count = Int(exactly: number), count >= 0 else { return false }
                record[keyPath: path] = count
            case .number(let path): record[keyPath: path] = number
            case .optional(let path): record[keyPath: path] = number.isNaN ? nil : number
            }
            return true
        }
    }

    /// All that a record holds, in the order of the columns.
    static let layout: [Column] = [
        Column(name: "step", value: .count(\.step)), Column(name: "tokens", value: .count(\.tokens)),
        Column(name: "loss", value: .number(\.loss)),
        Column(name: "evaluation_loss", value: .optional(\.evaluationLoss)),
        Column(name: "gradient_norm", value: .number(\.gradientNorm)),
        Column(name: "learning_rate", value: .number(\.learningRate)),
        Column(name: "tokens_per_second", value: .number(\.tokensPerSecond)),
    ]

    /// What the columns of a history are called, in a checkpoint as in the metrics files.
    public static let columns = layout.map(\.name)

    /// The numbers of the columns; NaN where there was no evaluation.
    var row: [Double] { Self.layout.map { $0.number(of: self) } }

    /// Takes a row apart again; `nil` if step or tokens are not counts.
    init?(row: ArraySlice<Double>) {
        guard row.count == Self.layout.count else { return nil }
        self.init(step: 0, tokens: 0, loss: 0, gradientNorm: 0, learningRate: 0, tokensPerSecond: 0)
        for (column, number) in zip(Self.layout, row) where !column.set(number, in: &self) { return nil }
    }
}

/// Where a training run stands, apart from weights and optimizer state: all else that it needs to go on as if it had never
/// stopped.
public struct TrainingState: Sendable, Equatable {
    /// Steps done.
    public var step = 0
    /// Tokens learnt from.
    public var tokens = 0
    /// Sequences taken from the data.
    public var cursor = 0
    /// What order of the data and first weights follow from.
    public var seed: UInt64
    /// Steps whose gradients were not finite and changed nothing.
    public var skippedSteps = 0
    /// Steps that AdamW's bias correction counts: all but the skipped ones.
    public var optimizerSteps = 0
    /// The run's settings, by name. Numbers among them are finite: JSON has no others.
    public var settings: JSONObject
    /// One record for each step that was logged, in their order, up to `step`.
    public var history: [StepRecord] = []

    /// Before the first step.
    public init(seed: UInt64, settings: JSONObject) {
        self.seed = seed
        self.settings = settings
    }
}

// MARK: - In a checkpoint

extension TrainingState {
    /// The counters by the names of their attributes.
    private static let counters: [(name: String, value: WritableKeyPath<Self, Int> & Sendable)] = [
        ("step", \.step), ("tokens", \.tokens), ("cursor", \.cursor), ("skipped_steps", \.skippedSteps),
        ("optimizer_steps", \.optimizerSteps),
    ]

    /// The group of a checkpoint that holds this state.
    var group: TrainingGroup {
        precondition(
            Self.firstOutOfOrder(history, upTo: step) == nil, "a history that does not lead up to step \(step)")
        return TrainingGroup(
            counters: Dictionary(uniqueKeysWithValues: Self.counters.map { ($0.name, self[keyPath: $0.value]) }),
            seed: seed, settings: JSONValue.object(settings).text(), columns: StepRecord.columns,
            history: history.flatMap(\.row))
    }

    /// Reads the state that a checkpoint carries. Throws `CheckpointError` if it carries none, or not a whole one.
    init(from source: HDF5Checkpoint) throws {
        let group = try source.training(counters: Self.counters.map(\.name))
        func invalid(_ place: String, _ found: String, _ expected: String) -> CheckpointError {
            .invalid(path: source.path, place: "/training\(place)", found: found, expected: expected)
        }
        let settings: JSONValue
        do throws(JSONError) {
            settings = try JSONValue(parsing: group.settings)
        } catch {
            throw invalid(", attribute settings", "\(error)", "JSON text")
        }
        guard let settings = settings.objectValue else {
            throw invalid(", attribute settings", settings.text(), "a JSON object")
        }
        self.init(seed: group.seed, settings: settings)
        for (name, value) in Self.counters {
            let count = group.counters[name] ?? 0
            guard count >= 0 else { throw invalid(", attribute \(name)", "\(count)", "a count") }
            self[keyPath: value] = count
        }
        let width = StepRecord.columns.count
        guard group.columns == StepRecord.columns else {
            throw invalid(
                "/history", "the columns \(group.columns.joined(separator: ", "))",
                StepRecord.columns.joined(separator: ", "))
        }
        history.reserveCapacity(group.history.count / width)
        for start in stride(from: 0, to: group.history.count, by: width) {
            guard let record = StepRecord(row: group.history[start..<start + width]) else {
                throw invalid(
                    "/history, row \(start / width)",
                    "step \(group.history[start]), tokens \(group.history[start + 1])",
                    "whole numbers")
            }
            history.append(record)
        }
        if let index = Self.firstOutOfOrder(history, upTo: step) {
            throw invalid(
                "/history, row \(index)", "step \(history[index].step)", "growing steps up to \(step)")
        }
    }

    private static func firstOutOfOrder(_ history: [StepRecord], upTo step: Int) -> Int? {
        history.indices.first { index in
            history[index].step > step || (index > 0 && history[index].step <= history[index - 1].step)
        }
    }
}
