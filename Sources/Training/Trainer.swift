import Checkpoints
import Files
import JSON
import Tensors
import Transformer

/// A training run: one step after the other of forward, backward, clipping and AdamW over shuffled sequences.
///
/// Everything follows from weights, optimizer state, run state, settings and data: a trainer made from a run file goes on exactly as
/// the one that wrote it would have.
public final class Trainer {
    public let settings: TrainingSettings
    public let data: TrainingData
    /// The weights in single precision, which the optimiser moves.
    public let masters: ModelWeights
    public private(set) var state: TrainingState

    private let optimizer: AdamW
    private let gradients: ModelWeights
    /// Computes with the masters, or with their copy in bfloat16.
    let model: LanguageModel
    private let workspace: TrainingWorkspace
    private let teacher: Teacher?
    private var skippedInARow: Int

    /// A new run of a model with these first weights. `record` is kept with the settings, for those who resume.
    ///
    /// Throws `TrainingError.setting` for settings that do not go together with each other or the model.
    public convenience init(
        masters: ModelWeights, data: TrainingData, settings: TrainingSettings, teacher: LanguageModel? = nil,
        record: JSONObject = [:]
    ) throws(TrainingError) {
        var stored = settings.json
        for member in record.members { stored[member.key] = member.value }
        try self.init(
            masters: masters, optimizer: AdamW(settings.optimizer, for: masters), data: data, settings: settings,
            teacher: teacher, state: TrainingState(seed: settings.seed, settings: stored))
    }

    /// Goes on with a run from what its checkpoint held; `description` is that of the checkpoint.
    ///
    /// Throws `CheckpointError` for optimizer state that is missing or damaged and for counters that do not fit each other,
    /// and as the other initialiser does.
    public convenience init(
        resuming source: HDF5Checkpoint, _ description: ModelDescription, data: TrainingData,
        settings: TrainingSettings, teacher: LanguageModel? = nil, state: TrainingState
    ) throws {
        try Self.checkCounters(of: state, settings, path: source.path)
        let masters = try ModelWeights(from: source, description)
        let optimizer = try RunFile.optimizerState(from: source, like: masters, step: state.optimizerSteps)
        try self.init(
            masters: masters, optimizer: AdamW(settings.optimizer, from: optimizer), data: data, settings: settings,
            teacher: teacher, state: state)
    }

    /// Each step takes its sequences from the data, and all but the skipped ones are the optimiser's.
    private static func checkCounters(
        of state: TrainingState, _ settings: TrainingSettings, path: String
    ) throws(CheckpointError) {
        let (cursor, isTooLarge) = state.step.multipliedReportingOverflow(by: settings.sequencesPerStep)
        for (name, found, expected) in [
            ("cursor", state.cursor, isTooLarge ? -1 : cursor),
            ("optimizer_steps", state.optimizerSteps, state.step - state.skippedSteps),
        ] where found != expected {
            throw .invalid(
                path: path, place: "/training, attribute \(name)", found: "\(found)",
                expected: "\(expected) after \(state.step) steps, \(state.skippedSteps) of them skipped, with "
                    + "\(settings.sequencesPerStep) sequences each")
        }
    }

    private init(
        masters: ModelWeights, optimizer: AdamW, data: TrainingData, settings: TrainingSettings,
        teacher: LanguageModel?, state: TrainingState
    ) throws(TrainingError) {
        try settings.validate()
        try settings.memory.validate(for: masters)
        for model in [masters.description] + (teacher.map { [$0.description] } ?? []) {
            try Self.check(settings.sequenceLength, model)
        }
        try Self.check(teacher, settings, masters.description)
        if let problem = settings.rankTracking?.problem(of: masters.description) {
            throw .setting(name: "rank tracking, \(problem.name)", found: problem.found, expected: problem.expected)
        }
        self.masters = masters
        self.data = data
        self.settings = settings
        self.optimizer = optimizer
        self.state = state
        skippedInARow = state.history.reversed().prefix { !$0.isFinite }.count
        gradients = ModelWeights(like: masters, precision: .f32)
        model = LanguageModel(masters.workingCopy(settings.precision), precision: settings.precision)
        workspace = TrainingWorkspace(
            model, mode: settings.memory, maximumTokens: settings.batch * settings.sequenceLength,
            longestSequence: settings.sequenceLength)
        self.teacher = teacher.map {
            Teacher(
                LanguageModel($0.weights.workingCopy(settings.precision), precision: settings.precision),
                share: settings.teacherShare, maximumTokens: settings.batch * settings.sequenceLength,
                longestSequence: settings.sequenceLength)
        }
    }

    /// What is trained.
    public var description: ModelDescription { masters.description }

    private static func check(_ length: Int, _ model: ModelDescription) throws(TrainingError) {
        do throws(TransformerError) {
            try model.validate(length: length)
        } catch {
            throw .setting(
                name: "sequence length", found: "\(length)",
                expected: "at most \(model.positionRows ?? 0), the positions that the model has learnt")
        }
    }

    private static func check(
        _ teacher: LanguageModel?, _ settings: TrainingSettings, _ student: ModelDescription
    ) throws(TrainingError) {
        guard (teacher != nil) == (settings.teacherShare > 0) else {
            throw .setting(
                name: "teacher share", found: "\(settings.teacherShare)",
                expected: teacher == nil ? "0 without a teacher" : "above 0 with a teacher")
        }
        guard let vocabulary = teacher?.description.vocabularySize, vocabulary != student.vocabularySize else { return }
        throw .setting(
            name: "teacher", found: "a vocabulary of \(vocabulary)",
            expected: "\(student.vocabularySize), that of the model")
    }

    /// Whether all steps are done.
    public var isFinished: Bool { state.step >= settings.schedule.totalSteps }

    // MARK: - Steps

    /// One step of the optimiser. `seconds` tells the time, for the rate in the record.
    ///
    /// If loss or gradients are not finite, weights and optimizer state stay as they are, the data is passed over and the step
    /// counts as skipped; see `divergence`. Throws as reading data does.
    public func step(seconds: () -> Double) throws(TrainingError) -> StepRecord {
        precondition(!isFinished, "a run of \(settings.schedule.totalSteps) steps is at its end")
        let start = seconds()
        let (loss, targets) = try accumulateGradients()
        let norm = optimizer.gradientNorm(gradients)
        let rate = settings.schedule.rate(step: state.step + 1)
        let isFinite = loss.isFinite && norm.isFinite
        if isFinite {
            optimizer.apply(
                to: masters, workingCopy: settings.precision == .bf16 ? model.weights : nil, gradients: gradients,
                learningRate: rate,
                gradientScale: settings.clip > 0 ? AdamW.clippingScale(norm: norm, limit: settings.clip) : 1)
        }
        let duration = seconds() - start
        state.step += 1
        state.tokens += targets
        state.cursor += settings.sequencesPerStep
        state.optimizerSteps = optimizer.step
        if !isFinite { state.skippedSteps += 1 }
        skippedInARow = isFinite ? 0 : skippedInARow + 1
        let record = StepRecord(
            step: state.step, tokens: state.tokens, loss: loss, gradientNorm: norm, learningRate: rate,
            tokensPerSecond: Double(targets) / duration
        ).evaluated(isEvaluationDue ? try evaluate() : nil)
        state.history.append(record)
        return record
    }

    /// `TrainingError.diverged` once the settings' limit of steps in a row was skipped; weights and optimizer state are still those
    /// of the last good step.
    public var divergence: TrainingError? {
        guard skippedInARow >= settings.skipLimit else { return nil }
        let place = AdamW.firstNotFinite(gradients).map { "the gradient of \($0)" } ?? "the loss"
        return .diverged(
            step: state.step,
            reason: "\(place) is not finite, for \(skippedInARow) steps in a row; the weights are still those of the "
                + "last good step. Try a smaller learning rate or a longer warm-up")
    }

    /// The mean loss of a step's sequences and its gradients; and how many targets it is the mean of.
    private func accumulateGradients() throws(TrainingError) -> (loss: Double, targets: Int) {
        var batches: [TrainingBatch] = []
        for index in 0..<settings.accumulation {
            batches.append(try data.batch(from: state.cursor + index * settings.batch, count: settings.batch))
        }
        let targets = batches.reduce(0) { $0 + $1.targets.count { $0 != nil } }
        var sum = 0.0
        for (index, batch) in batches.enumerated() {
            let scale = 1 / Double(targets)
            let gradients = ModelGradients(into: gradients, accumulating: index > 0)
            if let teacher {
                sum += model.lossAndGradients(
                    of: batch.tokens, teacher.objective(of: batch.tokens, targets: batch.targets), scale: scale,
                    in: workspace, gradients)
            } else {
                sum += model.lossAndGradients(
                    of: batch.tokens, targets: batch.targets, scale: scale, in: workspace, gradients)
            }
        }
        return (sum / Double(targets), targets)
    }

    private var isEvaluationDue: Bool {
        data.evaluationCount > 0
            && (isFinished || (settings.evaluationInterval > 0 && state.step % settings.evaluationInterval == 0))
    }

    /// Mean loss in nats over the sequences held out, or as many of them as the settings allow; always the same ones.
    public func evaluate() throws(TrainingError) -> Double {
        let count = min(data.evaluationCount, settings.evaluationSequences)
        precondition(count > 0, "no sequences are held out")
        var (sum, targets) = (0.0, 0)
        for start in stride(from: 0, to: count, by: settings.batch) {
            let batch = try data.evaluationBatch(start..<min(start + settings.batch, count))
            for loss in model.losses(of: batch.tokens, targets: batch.targets, in: workspace) {
                guard let loss else { continue }
                sum += loss
                targets += 1
            }
        }
        return sum / Double(targets)
    }

    /// Runs sequences of the latest step – of the first one, before it – through the model as it is now: as many of its
    /// batches as give `tokens`, or all. Throws as reading data does.
    func observeLatestStep(
        tokens: Int, blocks: Int, _ observer: any ActivationObserver
    ) throws(TrainingError) {
        let start = max(0, state.cursor - settings.sequencesPerStep)
        let workspace = Workspace(
            model, maximumTokens: settings.batch * settings.sequenceLength, longestSequence: settings.sequenceLength)
        var seen = 0
        for index in 0..<settings.accumulation where seen < tokens {
            let batch = try data.batch(from: start + index * settings.batch, count: settings.batch).tokens
            model.forward(batch, in: workspace, blocks: blocks, observer: observer)
            seen += batch.count
        }
    }

    // MARK: - Saving

    /// Writes a checkpoint that the run can be resumed from. Throws as `RunFile.write` does.
    public func save(to path: String, configuration: String, provenance: String, tokenizer: TokenizerBlob?) throws {
        try RunFile.write(
            path: path,
            RunFile.Texts(configuration: configuration, provenance: provenance, tokenizer: tokenizer), weights: masters,
            optimizer: optimizer.state, state: state)
    }

    /// Bytes by what they are for: weights (with a copy in bfloat16), gradients, AdamW's m and v, activations that are kept
    /// for the backward pass, and all other buffers.
    public var bytes: [(purpose: String, bytes: Int)] {
        [
            ("weights", masters.bytes + (settings.precision == .bf16 ? model.weights.bytes : 0)),
            ("gradients", gradients.bytes),
            ("optimizer state", optimizer.state.bytes),
            ("kept activations", workspace.keptBytes), ("scratch", workspace.scratchBytes),
        ] + (teacher.map { [("teacher", $0.bytes)] } ?? [])
    }
}

extension MemoryMode {
    /// Throws `TrainingError.setting` for a model that has no bottlenecks to keep.
    public func validate(for weights: ModelWeights) throws(TrainingError) {
        guard self == .colaM, !weights.description.isLowRank else { return }
        throw .setting(
            name: "memory", found: "cola-m for a dense model",
            expected: "plain or checkpoint; cola-m keeps the bottlenecks of a CoLA model")
    }
}

extension ModelWeights {
    /// What to compute with: these weights themselves in f32, a rounded copy in bf16.
    public func workingCopy(_ precision: Precision) -> ModelWeights {
        guard precision == .bf16 else { return self }
        let copy = ModelWeights(like: self, precision: .bf16)
        copy.assign(self)
        return copy
    }
}

extension StepRecord {
    /// Whether the step moved the weights.
    fileprivate var isFinite: Bool { loss.isFinite && gradientNorm.isFinite }
}
