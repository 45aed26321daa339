import Foundation
import Tensors
import TestSupport
import TokenData
import Training

extension TemporaryFolder {
    func corpus(_ name: String, _ ids: [UInt32], rowLength: Int? = nil) throws -> TokenCorpus {
        try TokenFile.write(TokenIDs(ids: ids, rowLength: rowLength), to: file(name))
        return try TokenCorpus(file: file(name))
    }

    /// An array of 64-bit integers, as NumPy makes them by default.
    func wideCorpus(_ name: String, _ numbers: [Int64], shape: String, isFortranOrder: Bool = false) throws
        -> TokenCorpus
    {
        let text = "{'descr': '<i8', 'fortran_order': \(isFortranOrder ? "True" : "False"), 'shape': \(shape), }\n"
        var bytes = Data([0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1, 0, UInt8(text.utf8.count), 0]) + Data(text.utf8)
        for number in numbers { withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) } }
        return try TokenCorpus(file: try write(bytes, name))
    }

    /// A file of zeros that takes no space.
    func emptyFile(_ name: String, bytes: Int) throws -> String {
        let path = try write([], name)
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try file.truncate(atOffset: UInt64(bytes))
        try file.close()
        return path
    }
}

func randomIDs(_ count: Int, below vocabulary: Int, seed: UInt64) -> [UInt32] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in UInt32.random(in: 0..<UInt32(vocabulary), using: &generator) }
}

extension TrainingBatch {
    /// The batch as pairs of inputs and targets, one for each sequence.
    var sequences: [Pair] {
        var start = 0
        return tokens.lengths.map { length in
            defer { start += length }
            return Pair(
                inputs: Array(tokens.ids[start..<start + length]),
                targets: targets[start..<start + length].map { $0 ?? .max })
        }
    }
}

/// A sequence as a test writes it down.
struct Pair: Hashable, Comparable {
    let inputs: [UInt32]
    let targets: [UInt32]

    static func < (a: Pair, b: Pair) -> Bool {
        (a.inputs + a.targets).lexicographicallyPrecedes(b.inputs + b.targets)
    }
}

extension TrainingData {
    /// All sequences, held out or not, in no particular order.
    func everySequence() throws -> [Pair] {
        let heldOut = evaluationCount > 0 ? try evaluationBatch(0..<evaluationCount).sequences : []
        return try batch(from: 0, count: trainingCount).sequences + heldOut
    }
}
