import LowRank
import Transformer

/// What a converted model is worth beside the dense one.
public struct ConversionMeasurement {
    /// Errors of the low-rank layers on a part of the calibration text; empty without one.
    public var calibrationErrors: [LayerError] = []
    /// The same on a part of the first text to measure on; empty without one.
    public var heldOutErrors: [LayerError] = []
    /// Losses on the texts to measure on.
    public var losses: [(name: String, before: TextLoss, after: TextLoss)] = []

    public init() {}
}

extension ConversionWorkflow {
    /// Texts that the model was not calibrated on.
    public struct HeldOut {
        /// Of the first text, for the errors of layers.
        public var sequences: [ArraySlice<UInt32>]
        /// Of all texts, for losses.
        public var windows: [LossWindows]

        public init(sequences: [ArraySlice<UInt32>] = [], windows: [LossWindows] = []) {
            self.sequences = sequences
            self.windows = windows
        }
    }

    /// Errors of layers on calibration and held-out text, and losses before and after.
    ///
    /// - Parameters:
    ///   - written: the converted model.
    ///   - paths: name the dense and the converted model in errors.
    public func measure(
        _ written: LanguageModel, _ heldOut: HeldOut, paths: (dense: String, converted: String)
    ) throws -> ConversionMeasurement {
        var result = ConversionMeasurement()
        result.calibrationErrors = try errors(
            written, text.sequences, "errors on the calibration", withFloor: true)
        result.heldOutErrors = try errors(written, heldOut.sequences, "errors on held-out text", withFloor: false)
        let windows = heldOut.windows
        guard !windows.isEmpty else { return result }
        let total = windows.reduce(0) { $0 + $1.tokenCount }
        let (before, after) = try observer.phase("loss before and after", unit: "tokens", total: 2 * total) { done in
            (
                try LossWindows.losses(of: windows, dense, path: paths.dense, progress: done),
                try LossWindows.losses(of: windows, written, path: paths.converted) { done(total + $0) }
            )
        }
        result.losses = zip(windows, zip(before, after)).map { ($0.name, $1.0, $1.1) }
        return result
    }

    private func errors(
        _ written: LanguageModel, _ sequences: [ArraySlice<UInt32>], _ title: String, withFloor: Bool
    ) throws -> [LayerError] {
        guard let tokens = sample(sequences) else { return [] }
        let phase = observer.begin(title, unit: "layers", total: dense.description.blocks.count)
        defer { phase.end() }
        return try LayerError.measure(dense: dense, converted: written, tokens, withFloor: withFloor) {
            phase.update($0)
        }
    }

    /// A few thousand tokens, which say enough about a layer's error.
    private func sample(_ sequences: [ArraySlice<UInt32>]) -> TokenBatch? {
        var left = 4096
        var part: [ArraySlice<UInt32>] = []
        for sequence in sequences where left > 0 && !sequence.isEmpty {
            part.append(sequence.prefix(left))
            left -= sequence.count
        }
        return part.isEmpty ? nil : TokenBatch(part)
    }
}
