import JSON
import LowRank
import Transformer

/// Gets the statistics of a model: from a file, or from texts that go through it.
public struct Calibration {
    /// Where the statistics come from.
    public enum Source {
        /// A file of moments.
        case file(String)
        case text(Text)
    }

    /// What goes through the model, and what is kept of it.
    public struct Text {
        public var sequences: [ArraySlice<UInt32>]
        /// Of the labels that gradients are sampled with; nil collects no gradients.
        public var labelSeed: UInt64?
        /// The files that the tokens come from, for the record.
        public var sources: [JSONValue] = []
        /// The file of moments to write, if any, and what it says of its origin.
        public var file: String?
        public var provenance = JSONObject()

        public init(_ sequences: [ArraySlice<UInt32>], labelSeed: UInt64?) {
            self.sequences = sequences
            self.labelSeed = labelSeed
        }
    }

    private let model: LanguageModel
    private let fingerprint: String
    private let observer: any WorkflowObserver

    /// - Parameter fingerprint: of the model's weights.
    public init(_ model: LanguageModel, fingerprint: String, observer: any WorkflowObserver) {
        self.model = model
        self.fingerprint = fingerprint
        self.observer = observer
    }

    /// The statistics that a weighting needs; notes where they are of few tokens for the model's width.
    ///
    /// - Throws: `LowRankError.input` for a file without what the weighting needs, and what reading it or collecting throws.
    public func statistics(_ source: Source, for weighting: Weighting) throws -> any CalibrationStatistics {
        switch source {
        case .file(let path): try read(path, for: weighting)
        case .text(let text): try collect(text)
        }
    }

    private func read(_ path: String, for weighting: Weighting) throws -> MomentFile {
        let file = try MomentFile(path: path, of: model.description, fingerprint: fingerprint)
        guard weighting != .fisher || file.hasGradients else {
            throw LowRankError.input(
                path: path, place: "gradient", found: "moments of inputs only",
                expected:
                    "gradients, which the Fisher weighting needs; `cola-analyze spectrum --save-moments` collects "
                    + "them")
        }
        noteIfFew(file.record.tokens)
        return file
    }

    /// Runs the sequences through the model, forward and, with a seed for labels, backward; keeps the statistics in a file
    /// if one is named. Notes where there are few tokens for the model's width.
    public func collect(_ text: Text) throws -> CalibrationMoments {
        let total = text.sequences.reduce(0) { $0 + $1.count }
        noteIfFew(total)
        let moments = CalibrationMoments(
            model, fingerprint: fingerprint, labelSeed: text.labelSeed,
            sequenceLength: text.sequences.map(\.count).max() ?? 0, sources: text.sources)
        try observer.phase(
            text.labelSeed != nil ? "moments and gradients" : "moments", unit: "tokens", total: total
        ) { done in try moments.add(text.sequences, progress: done) }
        guard let file = text.file else { return moments }
        try observer.phase("save moments", unit: "layers", total: model.description.blocks.count) { done in
            try MomentFile.write(
                moments, of: model.description, to: file, provenance: JSONValue.object(text.provenance).text(),
                progress: done)
        }
        return moments
    }

    /// Fewer than four tokens for each feature of the widest input are few.
    private func noteIfFew(_ tokens: Int) {
        let features = model.description.linears.map(\.inputs).max() ?? 1
        if tokens < 4 * features { observer.note(.fewTokens(tokens, features: features)) }
    }
}
