import JSON
import LinearAlgebra
import Spectra
import Tensors
import Transformer

/// Collects the statistics of a model over calibration tokens: one forward pass, and for gradients one backward pass
/// besides. Memory does not depend on the number of tokens.
///
/// Inputs are summed in double precision; gradients by products in single precision, whose error the damping of Γ covers
/// (see `TiledMoments`). Gradients are those of the log-likelihood of labels drawn from the model itself, so that Γ is a
/// factor of the Fisher information (Martens & Grosse 2015, Kronecker-factored).
public final class CalibrationMoments: CalibrationStatistics, @unchecked Sendable {
    private struct Input: Hashable {
        let block: Int
        let stream: Stream
    }

    private let emptyRecord: CalibrationRecord
    private let model: LanguageModel
    private var inputs: [Input: Moments] = [:]
    private var gradients: [LinearLayer.ID: TiledMoments] = [:]
    private let inputScratch = Moments.Scratch()
    private let gradientScratch = TiledMoments.Scratch()

    /// - Parameters:
    ///   - fingerprint: of the model's weights.
    ///   - labelSeed: collects gradients, with labels that follow from this number; without it inputs only.
    ///   - sources: the files that the tokens come from, for the record.
    public init(
        _ model: LanguageModel, fingerprint: String, labelSeed: UInt64?, sequenceLength: Int, sources: [JSONValue] = []
    ) {
        self.model = model
        emptyRecord = CalibrationRecord(
            fingerprint: fingerprint, tokens: 0, sequenceLength: sequenceLength, labelSeed: labelSeed, inputs: sources)
        let arena = Arena()
        for linear in model.description.linears {
            let input = Input(block: linear.block, stream: linear.role.stream)
            if inputs[input] == nil { inputs[input] = Moments(features: linear.inputs, in: arena) }
            if labelSeed != nil { gradients[linear.id] = TiledMoments(features: linear.outputs, in: arena) }
        }
    }

    public var record: CalibrationRecord {
        var record = emptyRecord
        record.tokens = inputs.values.first?.tokens ?? 0
        return record
    }

    /// Bytes that the sums hold.
    public var bytes: Int {
        inputs.values.reduce(0) { $0 + $1.bytes } + gradients.values.reduce(0) { $0 + $1.bytes }
    }

    /// Runs sequences through the model, a few at a time, and adds what is seen. `progress` is told the tokens done.
    ///
    /// Throws `TransformerError` for an id beyond the vocabulary, and for more tokens than the model has positions.
    public func add(_ sequences: [ArraySlice<UInt32>], progress: (Int) -> Void = { _ in }) throws(TransformerError) {
        for sequence in sequences { try model.validate(Array(sequence)) }
        let longest = sequences.map(\.count).max() ?? 0
        guard longest > 0 else { return }
        guard let seed = emptyRecord.labelSeed else {
            let batch = min(4, sequences.count)
            let workspace = Workspace(model, maximumTokens: batch * longest, longestSequence: longest)
            forEachBatch(of: sequences, batch, progress) { tokens in
                model.forward(tokens, in: workspace, observer: self)
            }
            return
        }
        let perSequence = TrainingWorkspace.keptBytes(model.description, mode: .plain, tokens: longest)
        let batch = max(1, min(4, sequences.count, Self.activationBytes / max(1, perSequence)))
        let workspace = TrainingWorkspace(
            model, mode: perSequence > Self.activationBytes ? .checkpoint : .plain, maximumTokens: batch * longest,
            longestSequence: longest)
        forEachBatch(of: sequences, batch, progress) { tokens in
            model.lossAndGradients(
                of: tokens, SampledCrossEntropy(seed: seed, firstToken: record.tokens), scale: 1, in: workspace, nil,
                observers: PassObservers(activations: self, gradients: self))
        }
    }

    /// What the activations of a batch may take: two sequences of 512 tokens of a model with 135 million parameters.
    private static let activationBytes = 1200 << 20

    private func forEachBatch(
        of sequences: [ArraySlice<UInt32>], _ size: Int, _ progress: (Int) -> Void, _ body: (TokenBatch) -> Void
    ) {
        for start in stride(from: 0, to: sequences.count, by: size) {
            let tokens = TokenBatch(Array(sequences[start..<min(start + size, sequences.count)]))
            body(tokens)
            progress(record.tokens)
        }
    }

    // MARK: - Statistics

    public func input(of stream: Stream, block: Int) -> InputMoments {
        let moments = inputs[Input(block: block, stream: stream)]!
        let count = Double(max(1, moments.tokens))
        let gram = moments.gram()
        for i in 0..<gram.count { gram.pointer[i] /= count }
        return InputMoments(secondMoment: gram, mean: moments.sum.map { $0 / count })
    }

    public func gradient(of linear: LinearLayer) -> DoubleMatrix? {
        guard let moments = gradients[linear.id] else { return nil }
        let count = Double(max(1, moments.rows))
        let gram = moments.gram()
        for i in 0..<gram.count { gram.pointer[i] /= count }
        return gram
    }
}

extension CalibrationMoments: ActivationObserver, GradientObserver {
    public func observe(_ site: ActivationSite, block: Int, _ activations: MatrixView<Float>) {
        guard case .input(let stream) = site else { return }
        inputs[Input(block: block, stream: stream)]?.add(activations, scratch: inputScratch)
    }

    public func observeGradient(of linear: LinearLayer, _ gradient: MatrixView<Float>) {
        gradients[linear.id]?.add(gradient, scratch: gradientScratch)
    }
}
