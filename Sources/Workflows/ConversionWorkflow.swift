import Checkpoints
import JSON
import LowRank
import Transformer

/// From a dense model to a CoLA one, step by step: ``convert(_:timer:)``, ``write(_:to:)``, ``reread(_:from:)``,
/// ``measure(_:_:paths:)``.
public struct ConversionWorkflow {
    /// What is asked for.
    public struct Settings {
        public var recipe: ConversionRecipe
        public var ranks: Ranks
        /// Nil for a recipe that needs no statistics.
        public var calibration: Calibration.Source?
        /// Nil for none.
        public var refinement: Refinement?

        public init(
            recipe: ConversionRecipe, ranks: Ranks, calibration: Calibration.Source? = nil,
            refinement: Refinement? = nil
        ) {
            self.recipe = recipe
            self.ranks = ranks
            self.calibration = calibration
            self.refinement = refinement
        }
    }

    /// Where the ranks come from.
    public enum Ranks {
        /// A plan in JSON, which is read after the statistics are there; the path names it in errors.
        case plan(path: String, text: () throws -> String)
        case choice(RankChoice)
    }

    /// The calibration text, in sequences.
    public struct Text {
        public var sequences: [ArraySlice<UInt32>]
        /// Whether they are one text after the other, with nothing put between and nothing left out.
        public var isContinuous: Bool

        public init(_ sequences: [ArraySlice<UInt32>], isContinuous: Bool) {
            self.sequences = sequences
            self.isContinuous = isContinuous
        }
    }

    /// What came of it.
    public struct Outcome {
        public let plan: RankPlan
        /// config.json of the converted model.
        public let configuration: String
        public let model: LanguageModel
        public let layers: [Conversion.LayerRecord]
        /// What the statistics were collected on.
        public let calibration: CalibrationRecord?
        public fileprivate(set) var refinement: Refinement.Outcome?
    }

    let source: any TensorSource
    let dense: LanguageModel
    let text: Text
    let observer: any WorkflowObserver
    /// Of the dense model's weights.
    private let fingerprint: String

    /// - Parameters:
    ///   - source: of the dense model.
    ///   - text: may be empty for a recipe that needs no tokens.
    public init(_ source: any TensorSource, _ dense: LanguageModel, _ text: Text, observer: any WorkflowObserver) {
        self.source = source
        self.dense = dense
        self.text = text
        self.observer = observer
        fingerprint = dense.weights.fingerprint
    }

    // MARK: - Convert

    /// Calibrates, chooses ranks, finds the factors and refines them. The timer is given the phases `moments`, `ranks`,
    /// `factors` and, if there is one, `refine`.
    public func convert(_ settings: Settings, timer: inout PhaseTimer) throws -> Outcome {
        var outcome = try factors(settings, timer: &timer)
        if let refinement = settings.refinement {
            outcome.refinement = try refinement.run(
                outcome.model, teacher: dense, text.sequences, isContinuous: text.isContinuous, observer: observer)
            timer.end("refine")
        }
        return outcome
    }

    /// All but the refinement. The statistics are larger than the model and gone when this returns: what follows needs room.
    private func factors(_ settings: Settings, timer: inout PhaseTimer) throws -> Outcome {
        let statistics = try settings.calibration.map { calibration in
            try Calibration(dense, fingerprint: fingerprint, observer: observer)
                .statistics(calibration, for: settings.recipe.weighting)
        }
        timer.end("moments")
        let plan = try plan(settings.ranks, statistics)
        timer.end("ranks")
        guard let values = source.configurationValues else { throw WorkflowError.configuration(path: source.path) }
        let configuration = JSONValue.object(plan.configuration(of: values, settings.recipe.activation))
        let count = dense.description.blocks.count
        let converted = try observer.phase("convert", unit: "layers", total: count) { done in
            try Conversion(dense, plan: plan, recipe: settings.recipe, statistics: statistics).run(
                tokens: text.sequences.isEmpty ? nil : TokenBatch(text.sequences), progress: done)
        }
        timer.end("factors")
        return Outcome(
            plan: plan, configuration: configuration.text(indent: 2, writesNonFinite: true), model: converted.model,
            layers: converted.layers, calibration: statistics?.record)
    }

    private func plan(_ ranks: Ranks, _ statistics: (any CalibrationStatistics)?) throws -> RankPlan {
        switch ranks {
        case .plan(let path, let text):
            try RankPlan(text(), path: path, of: dense.description, fingerprint: fingerprint)
        case .choice(let choice):
            try RankPlan.choose(dense, choice, statistics, fingerprint: fingerprint, observer: observer)
        }
    }

    // MARK: - Write

    /// The checkpoint to write.
    public struct Destination {
        public var path: String
        /// How tensors are stored.
        public var type: ElementType
        public var provenance: JSONObject
        public var tokenizer: TokenizerBlob?

        public init(path: String, type: ElementType, provenance: JSONObject, tokenizer: TokenizerBlob?) {
            self.path = path
            self.type = type
            self.provenance = provenance
            self.tokenizer = tokenizer
        }
    }

    /// Writes the converted model as an HDF5 checkpoint.
    public func write(_ outcome: Outcome, to destination: Destination) throws {
        let writer = try CheckpointWriter(
            path: destination.path, configuration: outcome.configuration,
            provenance: JSONValue.object(destination.provenance).text(), tokenizer: destination.tokenizer,
            type: destination.type)
        for parameter in outcome.model.weights.parameters {
            try writer.write(parameter.name, parameter.weight.copy())
        }
        try writer.finish()
    }

    /// The converted model as the file has it: what is reported is to be measured on that.
    ///
    /// - Throws: `LowRankError.result` where a file in single precision reads back as another model.
    public func reread(_ outcome: Outcome, from destination: Destination) throws -> LanguageModel {
        let converted = outcome.model.weights
        let written = try LanguageModel(from: try openModel(destination.path), includingHead: converted.head != nil)
        guard destination.type != .f32 || written.weights.fingerprint == converted.fingerprint else {
            throw LowRankError.result("\(destination.path): reads back as another model than was written")
        }
        return written
    }
}
