import JSON
import LinearAlgebra
import Tensors
import Transformer

/// Where statistics of a model come from: what another run needs to collect the same ones.
public struct CalibrationRecord: Sendable, Equatable {
    /// `DecoderWeights.fingerprint` of the model.
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

    public var json: JSONObject {
        JSONObject([
            ("fingerprint", .string(fingerprint)), ("tokens", .integer(tokens)),
            ("sequence_length", .integer(sequenceLength)),
            ("label_seed", labelSeed.map { .string("\($0)") } ?? .null), ("inputs", .array(inputs)),
        ])
    }

    /// Reads what `json` writes; nil if it is something else.
    public init?(_ json: JSONValue?) {
        guard let fingerprint = json?["fingerprint"]?.stringValue, let tokens = json?["tokens"]?.intValue, tokens > 0,
            let length = json?["sequence_length"]?.intValue, length > 0
        else { return nil }
        let seed = json?["label_seed"]?.stringValue
        self.init(
            fingerprint: fingerprint, tokens: tokens, sequenceLength: length, labelSeed: seed.flatMap { UInt64($0) },
            inputs: json?["inputs"]?.arrayValue ?? [])
        if let seed, UInt64(seed) == nil { return nil }
    }
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
    /// C = E[x·xᵀ] and E[x] of the input that the module reads, maybe with others.
    func input(of module: LinearModule, layer: Int) throws -> InputMoments
    /// Γ = E[g·gᵀ] of the derivative g of a token's loss by the module's output, `[out, out]`; nil without gradients.
    func gradient(of module: LinearModule, layer: Int) throws -> DoubleMatrix?
}

extension CalibrationStatistics {
    public var hasGradients: Bool { record.labelSeed != nil }
}
