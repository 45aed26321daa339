import Checkpoints
import Files
import Tensors

/// Weights in memory, or gradients, as a source: under canonical names, in single precision.
public final class WeightsSource: TensorSource {
    public let path: String
    public let configuration: String?
    public let tensors: [TensorInfo]
    public var formatName: String { "weights in memory" }
    public var provenance: String? { nil }

    private let weights: [String: Weight]

    /// - Parameters:
    ///   - path: names them in errors.
    ///   - configuration: the text of the model's config.json.
    public init(_ weights: ModelWeights, path: String, configuration: String?) {
        (self.path, self.configuration) = (path, configuration)
        let parameters = weights.parameters
        tensors = parameters.map {
            TensorInfo(
                name: $0.name, shape: $0.weight.shape, storedType: $0.weight.precision?.rawValue ?? "none",
                storedBytes: $0.weight.bytes)
        }
        self.weights = Dictionary(uniqueKeysWithValues: parameters.map { ($0.name, $0.weight) })
    }

    public func tokenizer() throws -> TokenizerBlob? { nil }

    public func read(
        _ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>
    ) throws {
        guard let weight = weights[name] else {
            throw CheckpointError.tensors(path: path, problems: ["\(name): missing"])
        }
        // A vector is one row of a weight, and as many rows of a source as it has elements.
        let isVector = weight.shape.count == 1
        let copy = weight.copy(rows: isVector ? nil : rows)
        let start = isVector ? rows?.lowerBound ?? 0 : 0
        let count = isVector ? rows?.count ?? weight.count : copy.count
        precondition(destination.count == count, "\(destination.count) elements for \(count) of \(name)")
        withExtendedLifetime(copy) { destination.baseAddress?.update(from: copy.pointer + start, count: count) }
    }
}
