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

    /// Throws `TrainingError.setting` for the first value that is none.
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
        try optimizer.validate()
    }
}

// MARK: - As JSON

extension TrainingSettings {
    /// The settings by name, as a checkpoint carries them.
    public var json: JSONObject {
        let groups = optimizer.groups.map { group -> JSONValue in
            [
                "pattern": .string(group.pattern), "learning_rate_factor": .number(group.learningRateFactor),
                "weight_decay": group.weightDecay.map { .number($0) } ?? .null,
                "unit": group.unit.map { .number($0) } ?? .null,
            ]
        }
        var json = JSONObject([
            ("sequence_length", .integer(sequenceLength)), ("batch", .integer(batch)),
            ("accumulation", .integer(accumulation)), ("packing", .string(packing.rawValue)),
            ("evaluation_fraction", .number(evaluationFraction)),
            ("evaluation_interval", .integer(evaluationInterval)),
            ("evaluation_sequences", .integer(evaluationSequences)), ("seed", .string("\(seed)")),
            ("steps", .integer(schedule.totalSteps)), ("learning_rate", .number(schedule.peak)),
            ("warmup_steps", .integer(schedule.warmupSteps)), ("schedule", .string(schedule.shape.rawValue)),
            ("learning_rate_floor", .number(schedule.floor)), ("beta1", .number(optimizer.beta1)),
            ("beta2", .number(optimizer.beta2)), ("epsilon", .number(optimizer.epsilon)),
            ("weight_decay", .number(optimizer.weightDecay)), ("groups", .array(groups)), ("clip", .number(clip)),
            ("memory", .string(memory.rawValue)), ("precision", .string(precision.rawValue)),
            ("skip_limit", .integer(skipLimit)), ("teacher_share", .number(teacherShare)),
        ])
        if let rankTracking { json["rank_tracking"] = rankTracking.json }
        return json
    }

    /// Reads the settings that a checkpoint carries; `path` names it in errors. Throws `CheckpointError.invalid` for a
    /// setting that is missing or of another kind, and `TrainingError.setting` for a value that is none.
    public init(_ json: JSONObject, path: String) throws {
        func get<Value>(_ name: String, _ kind: String, _ convert: (JSONValue) -> Value?) throws -> Value {
            guard let value = json[name].flatMap(convert) else {
                throw CheckpointError.invalid(
                    path: path, place: "/training, settings, \(name)", found: json[name]?.text() ?? "nothing",
                    expected: kind)
            }
            return value
        }
        func integer(_ name: String) throws -> Int { try get(name, "a whole number") { $0.intValue } }
        func number(_ name: String) throws -> Double { try get(name, "a number") { $0.doubleValue } }
        func choice<Value: RawRepresentable<String> & CaseIterable>(_ name: String, _: Value.Type) throws -> Value {
            try get(name, "one of \(Value.allCases.map(\.rawValue).joined(separator: ", "))") {
                $0.stringValue.flatMap(Value.init)
            }
        }
        let schedule = try LearningRateSchedule(
            peak: number("learning_rate"), warmupSteps: integer("warmup_steps"), totalSteps: integer("steps"),
            shape: choice("schedule", LearningRateSchedule.Shape.self), floor: number("learning_rate_floor"))
        let groups = try get("groups", "a list") { $0.arrayValue }.map { entry in
            func isNumberOrNone(_ name: String) -> Bool {
                entry[name].map { $0.isNull || $0.doubleValue != nil } ?? true
            }
            guard let pattern = entry["pattern"]?.stringValue, let factor = entry["learning_rate_factor"]?.doubleValue,
                isNumberOrNone("weight_decay"), isNumberOrNone("unit")
            else {
                throw CheckpointError.invalid(
                    path: path, place: "/training, settings, groups", found: entry.text(),
                    expected: "pattern, learning_rate_factor, and numbers or null for weight_decay and unit")
            }
            return ParameterGroup(
                pattern: pattern, learningRateFactor: factor, weightDecay: entry["weight_decay"]?.doubleValue,
                unit: entry["unit"]?.doubleValue)
        }
        self.init(
            schedule: schedule,
            optimizer: AdamW.Settings(
                learningRate: schedule.peak, beta1: try number("beta1"), beta2: try number("beta2"),
                epsilon: try number("epsilon"), weightDecay: try number("weight_decay"), groups: groups))
        sequenceLength = try integer("sequence_length")
        batch = try integer("batch")
        accumulation = try integer("accumulation")
        packing = try choice("packing", Packing.self)
        evaluationFraction = try number("evaluation_fraction")
        evaluationInterval = try integer("evaluation_interval")
        evaluationSequences = try integer("evaluation_sequences")
        seed = try get("seed", "a whole number as text") { $0.stringValue.flatMap { UInt64($0) } }
        clip = try number("clip")
        memory = try choice("memory", MemoryMode.self)
        precision = try choice("precision", Precision.self)
        skipLimit = try integer("skip_limit")
        teacherShare = try number("teacher_share")
        if json["rank_tracking"] != nil {
            rankTracking = try get("rank_tracking", "interval, modules, layers, sides and alphas", RankTracking.init)
        }
        try validate()
    }
}
