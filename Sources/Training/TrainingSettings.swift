import Files
import JSON
import TokenData
import Transformer

/// Everything that decides what a run computes, apart from the weights and texts it starts with. A resumed run has the
/// same settings: they travel in its checkpoints.
public struct TrainingSettings: Sendable, Equatable {
    /// Inputs of a sequence, T.
    public var sequenceLength = 256
    /// Sequences that go through the model at a time.
    public var batch = 8
    /// Batches that make one step.
    public var accumulation = 64
    public var packing = Packing.packed
    /// Part of the sequences that is held out.
    public var evaluationFraction = 0.01
    /// Steps from one evaluation to the next; 0 evaluates only at the end.
    public var evaluationInterval = 0
    /// Sequences of an evaluation at most.
    public var evaluationSequences = 256
    /// Order of the data, and first weights of a new model.
    public var seed: UInt64 = 0
    public var schedule: LearningRateSchedule
    public var optimizer: AdamW.Settings
    /// Largest norm of all gradients together; 0 clips nothing.
    public var clip = 0.5
    public var memory = MemoryMode.plain
    public var precision = Precision.f32
    /// Steps in a row whose loss or gradients are not finite, after which a run gives up.
    public var skipLimit = 10
    /// Weight of the divergence from a teacher's predictions in the loss, the rest is the data's cross-entropy; 0 without a
    /// teacher.
    public var teacherShare = 0.0
    /// Effective ranks to follow; they cost time and change nothing else.
    public var rankTracking: RankTracking?

    public init(schedule: LearningRateSchedule, optimizer: AdamW.Settings) {
        self.schedule = schedule
        self.optimizer = optimizer
    }

    /// Sequences of one step.
    public var sequencesPerStep: Int { batch * accumulation }

    /// Throws `TrainingError.setting` for the first value that is invalid.
    public func validate() throws(TrainingError) {
        func require(_ isValid: Bool, _ name: String, _ found: Any, _ expected: String) throws(TrainingError) {
            guard isValid else { throw .setting(name: name, found: "\(found)", expected: expected) }
        }
        for (name, value, least) in [
            ("sequence length", sequenceLength, 1), ("batch", batch, 1), ("accumulation", accumulation, 1),
            ("evaluation interval", evaluationInterval, 0), ("evaluation sequences", evaluationSequences, 1),
            ("skip limit", skipLimit, 1),
        ] {
            try require((least...1 << 30).contains(value), name, value, "\(least) to \(1 << 30)")
        }
        try require(
            batch <= (1 << 30) / sequenceLength, "batch", "\(batch) sequences of \(sequenceLength) tokens",
            "at most \(1 << 30) tokens")
        try require((0..<1).contains(evaluationFraction), "evaluation fraction", evaluationFraction, "0 up to below 1")
        try require((0...1).contains(teacherShare), "teacher share", teacherShare, "0 to 1")
        try require(clip >= 0 && clip < .infinity, "clip", clip, "a number from 0")
        if let problem = rankTracking?.problem {
            throw .setting(name: "rank tracking, \(problem.name)", found: problem.found, expected: problem.expected)
        }
        try schedule.validate()
        try optimizer.validate()
    }
}

// MARK: - As JSON

extension TrainingSettings {
    /// The settings by name, as a checkpoint carries them.
    public var json: JSONObject { Self.record.json(self) }

    /// Reads the settings that a checkpoint carries; `path` names it in errors. Throws `CheckpointError.invalid` for a
    /// setting that is missing or of another kind, and `TrainingError.setting` for an invalid value.
    public init(_ json: JSONObject, path: String) throws {
        do throws(JSONReadError) {
            self = try Self.record.read(JSONReader(.object(json), path: path))
        } catch {
            throw CheckpointError.invalid(
                path: path, place: "/training, settings, \(error.place)", found: error.found, expected: error.expected)
        }
        try validate()
    }

    /// A run file may hold more: what its tool needs to find the data again.
    private static let record = JSONRecord<TrainingSettings>(
        blank: .blank,
        [
            .version(1, leavesOutFirst: true),
            .required("sequence_length", \.sequenceLength, .int), .required("batch", \.batch, .int),
            .required("accumulation", \.accumulation, .int), .required("packing", \.packing, .choice),
            .required("evaluation_fraction", \.evaluationFraction, .number),
            .required("evaluation_interval", \.evaluationInterval, .int),
            .required("evaluation_sequences", \.evaluationSequences, .int),
            .required("seed", \.seed, .text("a whole number as text", parse: { UInt64($0) }, spell: { "\($0)" })),
            .required("steps", \.schedule.totalSteps, .int), .required("learning_rate", \.peak, .number),
            .required("warmup_steps", \.schedule.warmupSteps, .int),
            .required("schedule", \.schedule.shape, .choice),
            .required("learning_rate_floor", \.schedule.floor, .number),
            .required("beta1", \.optimizer.beta1, .number), .required("beta2", \.optimizer.beta2, .number),
            .required("epsilon", \.optimizer.epsilon, .number),
            .required("weight_decay", \.optimizer.weightDecay, .number),
            .required("groups", \.optimizer.groups, .list(of: ParameterGroup.record.form)),
            .required("clip", \.clip, .number), .required("memory", \.memory, .choice),
            .required("precision", \.precision, .choice), .required("skip_limit", \.skipLimit, .int),
            .required("teacher_share", \.teacherShare, .number),
            .optional("rank_tracking", \.rankTracking, RankTracking.record.form),
        ])

    /// What reading begins with.
    private static var blank: TrainingSettings {
        TrainingSettings(schedule: .blank, optimizer: AdamW.Settings(learningRate: LearningRateSchedule.blank.peak))
    }

    /// The schedule's peak is the optimiser's learning rate.
    private var peak: Double {
        get { schedule.peak }
        set {
            schedule.peak = newValue
            optimizer.learningRate = newValue
        }
    }
}

extension ParameterGroup {
    /// Files older than units have none.
    fileprivate static let record = JSONRecord(
        blank: ParameterGroup(pattern: ""),
        [
            .required("pattern", \.pattern, .text), .required("learning_rate_factor", \.learningRateFactor, .number),
            .optional("weight_decay", \.weightDecay, .number, writesNull: true),
            .optional("unit", \.unit, .number, writesNull: true),
        ])
}
