import Files
import LinearAlgebra
import Spectra
import Transformer

/// How effective ranks move while a model is trained: `rank-history.csv` in the run's folder.
///
/// A measurement takes the tokens that the latest step learnt from – before the first step, those that it will learn
/// from – and runs them through the model once more, as it is after the step: no more of its batches than give four tokens
/// for each feature of the widest place. That costs less than a forward pass of the step and moves no bit of the training.
public final class RankHistory {
    static let fileName = "rank-history.csv"

    private let tracking: RankTracking
    private let file: LineFile
    private var lastStep = -1

    /// Starts the table of a run, or goes on with it: lines of steps after the trainer's and a torn last line are gone
    /// then. nil for a run that follows no ranks. The folder is to be claimed, by a `MetricsLog`.
    ///
    /// Throws `CheckpointError`: `cannotWrite`, and `invalid` for a file that is no such table.
    public init?(in folder: RunFolder, of trainer: Trainer) throws(CheckpointError) {
        guard let tracking = trainer.settings.rankTracking else { return nil }
        self.tracking = tracking
        let path = "\(folder.path)/\(Self.fileName)"
        let header = (["step", "tokens_seen"] + SpectrumTables.rankColumns(alphas: tracking.alphas))
            .joined(separator: ",")
        let lines = try Self.lines(of: path, header: header, upTo: trainer.state.step)
        let whole = try AtomicFile(path, needsFile: true)
        try whole.write(([header] + lines.map(\.text)).joined(separator: "\n") + "\n")
        try whole.commit()
        file = try LineFile(path)
        lastStep = lines.last?.step ?? -1
    }

    /// The lines of a table that is there, up to a step; none where no table is.
    private static func lines(
        of path: String, header: String, upTo step: Int
    ) throws(CheckpointError) -> [(step: Int, text: String)] {
        let file: MappedFile
        do throws(CheckpointError) {
            file = try MappedFile(path)
        } catch {
            if case .missing = error { return [] }
            throw error
        }
        let text = withExtendedLifetime(file) { String(decoding: file.bytes, as: UTF8.self) }
        // What stands behind the last line's end was torn off.
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
        guard let first = lines.first else { return [] }
        guard first == header else {
            throw .invalid(path: path, place: "line 1", found: "\(first)", expected: header)
        }
        var kept: [(step: Int, text: String)] = []
        for (index, line) in lines.enumerated().dropFirst() {
            guard let found = line.split(separator: ",").first.flatMap({ Int($0) }) else {
                throw .invalid(path: path, place: "line \(index + 1)", found: "\(line)", expected: "a row of ranks")
            }
            if found <= step { kept.append((found, String(line))) }
        }
        return kept
    }

    /// Measures if the trainer's step is one to measure at, and appends the rows. Returns them, or nothing where none is
    /// due.
    ///
    /// Throws `LinearAlgebraError` for activations whose spectrum cannot be computed – the training may go on –,
    /// `TrainingError` as reading data does, and `CheckpointError.cannotWrite`; the file then ends as it did before.
    @discardableResult
    public func measureIfDue(_ trainer: Trainer) throws -> [MeasuredSpectrum] {
        let state = trainer.state
        guard state.step > lastStep, state.step % tracking.interval == 0 || trainer.isFinished else { return [] }
        lastStep = state.step
        let analysis = try SpectrumAnalysis(tracking.request, of: trainer.model)
        try trainer.observeLatestStep(tokens: 4 * analysis.widestSite, blocks: analysis.blocksNeeded, analysis)
        let (quarter, alphas) = (trainer.description.hiddenSize / 4, tracking.alphas.compactMap { Double($0) })
        let measured = try analysis.spectra().map { MeasuredSpectrum($0, alphas: alphas, quarter: quarter) }
        try file.append(
            measured.map { "\(state.step),\(state.tokens),\($0.rankFields.joined(separator: ","))\n" }.joined())
        return measured
    }
}
