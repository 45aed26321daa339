import Checkpoints
import Files
import JSON

/// What one step of the optimiser came to.
public struct StepRecord: Sendable, Equatable {
    /// Steps done with this one: 1 for the first; 0 for an evaluation before it.
    public let step: Int
    /// Tokens learnt from so far, those of this step included.
    public let tokens: Int
    /// Mean loss of the step's tokens, in nats.
    public let loss: Double
    /// Mean loss of the evaluation after this step; `nil` where none was made, or where it came to no number.
    public let evaluationLoss: Double?
    /// Norm of all gradients together, before it was clipped.
    public let gradientNorm: Double
    public let learningRate: Double
    public let tokensPerSecond: Double

    public init(
        step: Int, tokens: Int, loss: Double, evaluationLoss: Double? = nil, gradientNorm: Double,
        learningRate: Double, tokensPerSecond: Double
    ) {
        self.step = step
        self.tokens = tokens
        self.loss = loss
        self.evaluationLoss = evaluationLoss.flatMap { $0.isNaN ? nil : $0 }
        self.gradientNorm = gradientNorm
        self.learningRate = learningRate
        self.tokensPerSecond = tokensPerSecond
    }

    /// Equal bit for bit: a loss that was no number equals itself.
    public static func == (left: Self, right: Self) -> Bool {
        left.row.map(\.bitPattern) == right.row.map(\.bitPattern)
    }
}

extension StepRecord {
    /// What the columns of a history are called, in a checkpoint as in the metrics files.
    public static let columns = [
        "step", "tokens", "loss", "evaluation_loss", "gradient_norm", "learning_rate", "tokens_per_second",
    ]

    /// The numbers of the columns; NaN where there was no evaluation.
    var row: [Double] {
        [Double(step), Double(tokens), loss, evaluationLoss ?? .nan, gradientNorm, learningRate, tokensPerSecond]
    }

    /// Takes a row apart again; `nil` if step or tokens are no counts.
    init?(row: ArraySlice<Double>) {
        let row = Array(row)
        guard row.count == Self.columns.count, let step = Int(exactly: row[0]), let tokens = Int(exactly: row[1]),
            step >= 0, tokens >= 0
        else { return nil }
        self.init(
            step: step, tokens: tokens, loss: row[2], evaluationLoss: row[3], gradientNorm: row[4],
            learningRate: row[5], tokensPerSecond: row[6])
    }
}

/// Where a training run stands, apart from weights and moments: all else that it needs to go on as if it had never
/// stopped.
public struct TrainingState: Sendable, Equatable {
    /// Steps done.
    public var step: Int
    /// Tokens learnt from.
    public var tokens: Int
    /// Sequences taken from the data.
    public var cursor: Int
    /// What order of the data and first weights follow from.
    public var seed: UInt64
    /// Steps whose gradients were not finite and changed nothing.
    public var skippedSteps: Int
    /// Steps that AdamW's bias correction counts: all but the skipped ones.
    public var optimizerSteps: Int
    /// The run's settings, by name. Numbers among them are finite: JSON has no others.
    public var settings: JSONObject
    /// One record for each step that was logged, in their order, up to `step`.
    public var history: [StepRecord]

    public init(
        step: Int = 0, tokens: Int = 0, cursor: Int = 0, seed: UInt64, skippedSteps: Int = 0, optimizerSteps: Int = 0,
        settings: JSONObject, history: [StepRecord] = []
    ) {
        self.step = step
        self.tokens = tokens
        self.cursor = cursor
        self.seed = seed
        self.skippedSteps = skippedSteps
        self.optimizerSteps = optimizerSteps
        self.settings = settings
        self.history = history
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
