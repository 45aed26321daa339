import JSON
import LinearAlgebra
import Tensors
import Transformer

/// Where statistics of a model come from: what another run needs to collect the same ones.
public struct CalibrationRecord: Sendable, Equatable {
    /// `ModelWeights.fingerprint` of the model.
    public var fingerprint: String
    public var tokens: Int
    public var sequenceLength: Int
    /// Of the labels that gradients were sampled with; nil where there are no gradients.
    public var labelSeed: UInt64?
    /// The files that the tokens come from, as provenance describes them.
    public var inputs: [JSONValue]

    public init(fingerprint: String, tokens: Int, sequenceLength: Int, labelSeed: UInt64?, inputs: [JSONValue]) {
        self.fingerprint = fingerprint
        self.tokens = tokens
        self.sequenceLength = sequenceLength
        self.labelSeed = labelSeed
        self.inputs = inputs
    }

    static let record = JSONRecord(
        blank: CalibrationRecord(fingerprint: "", tokens: 0, sequenceLength: 0, labelSeed: nil, inputs: []),
        [
            .required("fingerprint", \.fingerprint, .text), .required("tokens", \.tokens, .int(in: 1 ... .max)),
            .required("sequence_length", \.sequenceLength, .int(in: 1 ... .max)),
            .optional(
                "label_seed", \.labelSeed,
                .text("a whole number as text", parse: { UInt64($0) }, spell: { "\($0)" }), writesNull: true),
            .defaulted("inputs", \.inputs, .list(of: JSONForm("a value", read: { $0.value }, write: { $0 }))),
        ])

    public var json: JSONObject { Self.record.json(self) }

    /// Reads what `json` writes.
    init(_ reader: JSONReader) throws(JSONReadError) { self = try Self.record.read(reader) }
}

/// Moments of what enters a linear layer.
public struct InputMoments: Sendable {
    /// E[x·xᵀ], `[in, in]`.
    public let secondMoment: DoubleMatrix
    /// E[x], `[in]`.
    public let mean: [Double]

    public init(secondMoment: DoubleMatrix, mean: [Double]) {
        self.secondMoment = secondMoment
        self.mean = mean
    }

    /// E[x·xᵀ] − E[x]·E[x]ᵀ.
    public var covariance: DoubleMatrix {
        let n = mean.count
        let result = DoubleMatrix(uninitialized: [n, n])
        for row in 0..<n {
            for column in 0..<n {
                result.pointer[row * n + column] =
                    secondMoment.pointer[row * n + column] - mean[row] * mean[column]
            }
        }
        return result
    }
}

/// Second moments of what enters and, by the loss' gradient, of what leaves every linear layer of a model. Readable from
/// several threads at once.
public protocol CalibrationStatistics: Sendable {
    var record: CalibrationRecord { get }
    /// C = E[x·xᵀ] and E[x] of a stream of a block.
    func input(of stream: Stream, block: Int) throws -> InputMoments
    /// Γ = E[g·gᵀ] of the derivative g of a token's loss by what leaves a linear layer, `[out, out]`; nil without gradients.
    func gradient(of linear: LinearLayer) throws -> DoubleMatrix?
}

extension CalibrationStatistics {
    /// The same of what enters a linear layer.
    public func input(of linear: LinearLayer) throws -> InputMoments {
        try input(of: linear.role.stream, block: linear.block)
    }

    public var hasGradients: Bool { record.labelSeed != nil }
}
