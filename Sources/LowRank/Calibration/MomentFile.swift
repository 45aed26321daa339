import Checkpoints
import Files
import JSON
import LinearAlgebra
import Tensors
import Transformer

/// Statistics in an HDF5 file, so that ranks are planned again within seconds.
///
/// Attributes `format` (`cola-moments`), `calibration` (the record as JSON) and `provenance`. For each layer and input:
/// `/input/<layer>.<module>/moments` and `mean`; for each module with gradients `/gradient/<layer>.<module>`. Modules
/// that share an input stand under the first one's name. A symmetric n × n matrix is its upper triangle row by row,
/// n (n + 1) / 2 numbers, as `numpy.triu_indices(n)` lists them. All are means over the tokens, in double precision.
public final class MomentFile: CalibrationStatistics {
    static let format = "cola-moments"

    public let record: CalibrationRecord
    public var path: String { file.path }
    private let file: ArrayFile
    private let configuration: DecoderConfiguration

    /// Opens the moments of the model with this configuration and fingerprint.
    ///
    /// Throws `LowRankError.input` if they are another model's, and `CheckpointError`.
    public init(path: String, of configuration: DecoderConfiguration, fingerprint: String) throws {
        file = try ArrayFile(path: path, format: Self.format, texts: ["calibration", "provenance"])
        self.configuration = configuration
        guard let record = CalibrationRecord(try? JSONValue(parsing: file.text("calibration"))) else {
            throw CheckpointError.invalid(
                path: path, place: "attribute calibration", found: file.text("calibration"),
                expected: "JSON with fingerprint, tokens and sequence_length")
        }
        guard record.fingerprint == fingerprint else {
            throw LowRankError.input(
                path: path, place: "the model that the moments are of", found: "the fingerprint \(record.fingerprint)",
                expected: "\(fingerprint), that of the checkpoint; collect its moments with --save-moments")
        }
        self.record = record
    }

    /// Writes statistics of all layers. `progress` is told the layers done. Throws `CheckpointError`.
    public static func write(
        _ statistics: some CalibrationStatistics, of configuration: DecoderConfiguration, to path: String,
        provenance: String, progress: (Int) -> Void = { _ in }
    ) throws {
        let writer = try ArrayWriter(
            path: path, format: format,
            texts: [
                ("calibration", JSONValue.object(statistics.record.json).text()), ("provenance", provenance),
            ])
        for layer in 0..<configuration.layers {
            for module in LinearModule.allCases {
                if module.inputOwner == module {
                    let input = try statistics.input(of: module, layer: layer)
                    try writer.write(inputPath(module, layer) + ["moments"], triangle(of: input.secondMoment))
                    try writer.write(inputPath(module, layer) + ["mean"], input.mean)
                }
                if let gradient = try statistics.gradient(of: module, layer: layer) {
                    try writer.write(gradientPath(module, layer), triangle(of: gradient))
                }
            }
            progress(layer + 1)
        }
        try writer.finish()
    }

    public func input(of module: LinearModule, layer: Int) throws -> InputMoments {
        let (owner, n) = (module.inputOwner, configuration.shape(of: module).inputs)
        let path = Self.inputPath(owner, layer)
        return InputMoments(
            secondMoment: try matrix(path + ["moments"], n), mean: try numbers(path + ["mean"], n))
    }

    public func gradient(of module: LinearModule, layer: Int) throws -> DoubleMatrix? {
        guard hasGradients else { return nil }
        return try matrix(Self.gradientPath(module, layer), configuration.shape(of: module).outputs)
    }

    // MARK: - Arrays

    private static func inputPath(_ module: LinearModule, _ layer: Int) -> [String] {
        ["input", "\(layer).\(module.rawValue)"]
    }

    private static func gradientPath(_ module: LinearModule, _ layer: Int) -> [String] {
        ["gradient", "\(layer).\(module.rawValue)"]
    }

    private func numbers(_ location: [String], _ count: Int) throws -> [Double] {
        let place = "/" + location.joined(separator: "/")
        guard let values = try file.read(location, count: count) else {
            throw CheckpointError.invalid(
                path: path, place: place, found: "nothing", expected: "\(count) numbers of f64")
        }
        if let index = values.firstIndex(where: { !$0.isFinite }) {
            throw CheckpointError.invalid(
                path: path, place: "\(place), element \(index)", found: "\(values[index])", expected: "a number")
        }
        return values
    }

    private func matrix(_ location: [String], _ n: Int) throws -> DoubleMatrix {
        let values = try numbers(location, n * (n + 1) / 2)
        let matrix = DoubleMatrix(uninitialized: [n, n])
        var index = 0
        for row in 0..<n {
            for column in row..<n {
                matrix.pointer[row * n + column] = values[index]
                matrix.pointer[column * n + row] = values[index]
                index += 1
            }
        }
        return matrix
    }

    private static func triangle(of matrix: DoubleMatrix) -> [Double] {
        let n = matrix.rows
        return [Double](unsafeUninitializedCapacity: n * (n + 1) / 2) { buffer, count in
            for row in 0..<n {
                for column in row..<n {
                    buffer[count] = matrix.pointer[row * n + column]
                    count += 1
                }
            }
        }
    }
}
