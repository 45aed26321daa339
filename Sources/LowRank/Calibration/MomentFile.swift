import Checkpoints
import Files
import JSON
import LinearAlgebra
import Tensors
import Transformer

/// Statistics in an HDF5 file, so that ranks are planned again within seconds.
///
/// Attributes `format` (`cola-moments`), `calibration` (the record as JSON) and `provenance`. For each input of a block:
/// `/input/<block>.<module>/moments` and `mean`; for each linear layer with gradients `/gradient/<block>.<module>`. Linear
/// layers that share an input stand under the first one's name. A symmetric n × n matrix is its upper triangle row by row,
/// n (n + 1) / 2 numbers, as `numpy.triu_indices(n)` lists them. All are means over the tokens, in double precision.
public final class MomentFile: CalibrationStatistics {
    static let format = "cola-moments"

    public let record: CalibrationRecord
    public var path: String { file.path }
    private let file: ArrayFile
    private let model: ModelDescription

    /// Opens the moments of the model of this description and fingerprint.
    ///
    /// Throws `LowRankError.input` if they are another model's, and `CheckpointError`.
    public init(path: String, of model: ModelDescription, fingerprint: String) throws {
        file = try ArrayFile(path: path, format: Self.format, texts: ["calibration", "provenance"])
        self.model = model
        record = try Self.record(file.text("calibration"), path: path)
        guard record.fingerprint == fingerprint else {
            throw LowRankError.input(
                path: path, place: "the model that the moments are of", found: "the fingerprint \(record.fingerprint)",
                expected: "\(fingerprint), that of the checkpoint; collect its moments with --save-moments")
        }
    }

    private static func record(_ text: String, path: String) throws(CheckpointError) -> CalibrationRecord {
        let place = "attribute calibration"
        guard let json = try? JSONValue(parsing: text) else {
            throw .invalid(path: path, place: place, found: text, expected: "JSON text")
        }
        do throws(JSONReadError) {
            return try CalibrationRecord(JSONReader(json, path: path, place: place))
        } catch {
            throw .invalid(path: error.path, place: error.place, found: error.found, expected: error.expected)
        }
    }

    /// Writes statistics of all blocks. `progress` is told the blocks done. Throws `CheckpointError`.
    public static func write(
        _ statistics: some CalibrationStatistics, of model: ModelDescription, to path: String,
        provenance: String, progress: (Int) -> Void = { _ in }
    ) throws {
        let writer = try ArrayWriter(
            path: path, format: format,
            texts: [
                ("calibration", JSONValue.object(statistics.record.json).text()), ("provenance", provenance),
            ])
        for (index, block) in model.blocks.enumerated() {
            for linear in block.linears {
                if block.inputOwner(of: linear) == linear.id {
                    let input = try statistics.input(of: linear.role.stream, block: index)
                    try writer.write(place("input", linear.id) + ["moments"], triangle(of: input.secondMoment))
                    try writer.write(place("input", linear.id) + ["mean"], input.mean)
                }
                if let gradient = try statistics.gradient(of: linear) {
                    try writer.write(place("gradient", linear.id), triangle(of: gradient))
                }
            }
            progress(index + 1)
        }
        try writer.finish()
    }

    public func input(of stream: Stream, block: Int) throws -> InputMoments {
        guard let owner = model.blocks[block].linears(reading: stream).first else {
            preconditionFailure("nothing in block \(block) reads \(stream)")
        }
        let (path, n) = (Self.place("input", owner.id), owner.inputs)
        return InputMoments(
            secondMoment: try matrix(path + ["moments"], n), mean: try numbers(path + ["mean"], n))
    }

    public func gradient(of linear: LinearLayer) throws -> DoubleMatrix? {
        guard hasGradients else { return nil }
        return try matrix(Self.place("gradient", linear.id), linear.outputs)
    }

    // MARK: - Arrays

    private static func place(_ kind: String, _ linear: LinearLayer.ID) -> [String] {
        [kind, "\(linear.block).\(linear.module)"]
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
