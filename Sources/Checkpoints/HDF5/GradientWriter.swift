import CHDF5
import Files
import Tensors

/// Writes a loss and gradients, for whoever checks them against another implementation: `/loss`, a number in double
/// precision, and `/grad/<parameter name>` in single precision. As with checkpoints, the file gets its name only after
/// all of it was read back.
public final class GradientWriter {
    private let path: String
    private let output: HDF5Output

    /// `provenance` is JSON text that says where the gradients come from. Throws `cannotWrite`.
    public init(path: String, loss: Double, provenance: String) throws(CheckpointError) {
        self.path = path
        output = try HDF5Output(path: path)
        try output.setAttribute("provenance", .text(provenance))
        try output.writeWhole(["loss"], shape: [], type: chdf5_ieee_f64, [loss])
    }

    /// Writes the gradient of a parameter. Throws `cannotWrite`.
    public func write(_ name: String, _ gradient: Matrix) throws {
        let type = try HDF5Failure.translated({ .cannotWrite(path: path, reason: $0) }) {
            try ElementType.f32.makeHDF5Type()
        }
        var dataset = try output.create(["grad", name], shape: gradient.shape, type: type)
        for rows in dataset.blocks {
            try output.write(
                rows, gradient.pointer + rows.lowerBound * dataset.record.rowElements, to: &dataset)
        }
        try output.close(dataset)
    }

    public func finish() throws { try output.finish() }
}
