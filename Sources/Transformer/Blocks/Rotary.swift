import CKernels
import Glibc
import Tensors

/// Cosines and sines of all positions, `[positions, R / 2]` each, for R rotated features of a head.
final class RotaryTable: Sendable {
    let cosine: Matrix
    let sine: Matrix
    private let headSize: Int
    private let rotated: Int

    /// For heads of `size` features in a sequence of `length` tokens.
    init(_ configuration: RotaryConfiguration, size: Int, positions: Int, length: Int = 1) {
        headSize = size
        rotated = configuration.rotatedSize(of: size)
        let frequencies = configuration.frequencies(size: rotated, length: length)
        cosine = Matrix(uninitialized: [positions, rotated / 2])
        sine = Matrix(uninitialized: [positions, rotated / 2])
        for position in 0..<positions {
            for (pair, frequency) in frequencies.enumerated() {
                let angle = Double(position) * frequency
                cosine[position, pair] = Float(configuration.magnitude * cos(angle))
                sine[position, pair] = Float(configuration.magnitude * sin(angle))
            }
        }
    }

    /// Rotates the heads of one token in place: `direction` 1 forward, −1 back.
    func rotate(_ row: UnsafeMutablePointer<Float>, heads: Int, position: Int, direction: Float) {
        let (cosine, sine) = (cosine.view.row(position), sine.view.row(position))
        if rotated == headSize {
            ck_rotate_halves(row, heads, headSize, cosine, sine, direction)
        } else {
            for head in 0..<heads { ck_rotate_halves(row + head * headSize, 1, rotated, cosine, sine, direction) }
        }
    }

    var bytes: Int { cosine.bytes + sine.bytes }
}

/// The rotation of each block of a model, which share tables where they rotate alike.
final class Rotations {
    /// nil for a block without rotation.
    private let tables: [RotaryTable?]
    private let blocks: [AttentionDescription]
    private let all: [RotaryTable]

    init(_ description: ModelDescription, positions: Int) {
        struct Key: Hashable {
            let rotary: RotaryConfiguration
            let size: Int
        }
        var made: [Key: RotaryTable] = [:]
        blocks = description.blocks.map(\.attention)
        tables = blocks.map { attention in
            guard let rotary = attention.rotary else { return nil }
            let key = Key(rotary: rotary, size: attention.headSize)
            let table = made[key] ?? RotaryTable(rotary, size: attention.headSize, positions: positions)
            made[key] = table
            return table
        }
        all = Array(made.values)
    }

    var bytes: Int { all.reduce(0) { $0 + $1.bytes } }

    /// For each sequence of a batch the table that rotates it in a block; nil for a block without rotation.
    func tables(block: Int, lengths: [Int]) -> [RotaryTable]? {
        guard let table = tables[block], let rotary = blocks[block].rotary else { return nil }
        guard let limit = rotary.longestUnscaledLength else { return lengths.map { _ in table } }
        var byLength: [Int: RotaryTable] = [:]
        return lengths.map { length in
            guard length > limit else { return table }
            let longer =
                byLength[length]
                ?? RotaryTable(rotary, size: blocks[block].headSize, positions: length, length: length)
            byLength[length] = longer
            return longer
        }
    }
}
