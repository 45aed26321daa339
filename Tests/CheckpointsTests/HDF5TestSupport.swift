import Checkpoints
import Files
import Foundation
import Tensors

func hdf5Fixture(_ name: String) -> String {
    Bundle.module.bundleURL.appendingPathComponent("Fixtures/hdf5/\(name).h5").path
}

func bytes(of path: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(fileURLWithPath: path))) }

func write(_ bytes: some Sequence<UInt8>, to path: String) throws {
    try Data(Array(bytes)).write(to: URL(fileURLWithPath: path))
}

/// What the fixtures hold in element `i` of a tensor.
func fixtureValue(_ name: String, _ i: Int) -> Float {
    Float((name.utf8.reduce(0) { $0 + Int($1) } + 7 * i) % 251 - 125) / 64
}

func fixtureValues(_ name: String, count: Int) -> [Float] { (0..<count).map { fixtureValue(name, $0) } }

extension HDF5Checkpoint {
    /// Bit patterns, which unlike numbers can all be compared.
    func bits(_ name: String, rows: Range<Int>? = nil) throws -> [UInt32] {
        try values(name, rows: rows).map(\.bitPattern)
    }

    func values(_ name: String, rows: Range<Int>? = nil) throws -> [Float] {
        let info = info(name)
        let shape = info?.shape ?? []
        let width = shape.dropFirst().reduce(1, *)
        let count = rows.map { $0.count * width } ?? shape.reduce(1, *)
        var values = [Float](repeating: .nan, count: count)
        try values.withUnsafeMutableBufferPointer { try read(name, rows: rows, into: $0) }
        return values
    }
}

/// The error that `body` throws, if it is one of this module's.
func checkpointError(_ body: () throws -> Void) -> CheckpointError? {
    do { try body() } catch { return error as? CheckpointError }
    return nil
}
