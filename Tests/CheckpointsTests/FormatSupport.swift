import Files
import Foundation
import JSON
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

func fixture(_ name: String) throws -> String {
    try #require(Bundle.module.path(forResource: "Fixtures/\(name)", ofType: nil))
}

func littleEndian<T: BitwiseCopyable>(_ values: [T]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }

/// Bytes of a safetensors file with the given header text.
func safetensors(header: String, data: [UInt8]) -> [UInt8] {
    littleEndian([UInt64(header.utf8.count)]) + Array(header.utf8) + data
}

/// Bytes of a safetensors file of f32 tensors.
func safetensors(_ tensors: [(name: String, shape: [Int], values: [Float])]) -> [UInt8] {
    var entries: [String] = []
    var data: [UInt8] = []
    for (name, shape, values) in tensors {
        let start = data.count
        data += littleEndian(values)
        entries.append(#""\#(name)":{"dtype":"F32","shape":\#(shape),"data_offsets":[\#(start),\#(data.count)]}"#)
    }
    return safetensors(header: "{" + entries.joined(separator: ",") + "}", data: data)
}

/// A source whose tensors are in memory.
final class MemorySource: TensorSource {
    let path = "memory"
    let formatName = "memory"
    let configuration: String?
    let provenance: String? = nil
    let tensors: [TensorInfo]
    var blob: TokenizerBlob?
    private let values: [String: [Float]]

    init(_ contents: [(name: String, shape: [Int], values: [Float])], configuration: JSONValue?) {
        self.configuration = configuration?.text()
        tensors = contents.map {
            TensorInfo(name: $0.name, shape: $0.shape, storedType: "f32", storedBytes: 4 * $0.values.count)
        }
        values = Dictionary(uniqueKeysWithValues: contents.map { ($0.name, $0.values) })
    }

    func tokenizer() throws -> TokenizerBlob? { blob }

    func read(_ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>) throws {
        let info = try #require(tensors.first { $0.name == name })
        let width = info.count / info.shape[0]
        let rows = rows ?? 0..<info.shape[0]
        let stored = try #require(values[name])
        for index in 0..<rows.count * width {
            destination[index] = stored[rows.lowerBound * width + index]
        }
    }
}

/// Fails at the first element whose bits differ.
func expectSameBits(
    _ found: some Collection<Float>, _ expected: some Collection<Float>, _ what: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(found.count == expected.count, "\(what)", sourceLocation: sourceLocation)
    let wrong = zip(found, expected).enumerated().first { $1.0.bitPattern != $1.1.bitPattern }
    if let wrong {
        Issue.record(
            "\(what): element \(wrong.offset) is \(wrong.element.0), expected \(wrong.element.1)",
            sourceLocation: sourceLocation)
    }
}

func elements(_ source: any TensorSource, _ name: String, rows: Range<Int>? = nil) throws -> [Float] {
    let info = try #require(source.info(name))
    let count = (rows?.count ?? info.shape[0]) * info.shape.dropFirst().reduce(1, *)
    return try [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
        try source.read(name, rows: rows, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
        initialized = count
    }
}

/// Opens damaged copies of a file: cut short, or with one to three bytes changed. None may trap; whatever still opens is
/// read in full. Returns how many were refused.
func fuzz(
    _ bytes: [UInt8], name: String, rounds: Int, seed: UInt64, open: (String) throws -> any TensorSource
) throws -> (refused: Int, truncationsAccepted: Int) {
    let folder = try TemporaryFolder()
    var generator = SeededGenerator(seed: seed)
    var (refused, accepted) = (0, 0)
    for round in 0..<rounds {
        var damaged = bytes
        let isCut = round % 4 == 0
        if isCut {
            damaged.removeLast(Int.random(in: 1...bytes.count, using: &generator))
        } else {
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                // Most flips go where the header is.
                let end = round % 2 == 0 ? damaged.count : min(damaged.count, 512)
                damaged[Int.random(in: 0..<end, using: &generator)] = UInt8(truncatingIfNeeded: generator.next())
            }
        }
        let path = try folder.write(damaged, name)
        do {
            let source = try open(path)
            if isCut { accepted += 1 }
            for info in source.tensors { _ = try source.read(info.name) }
            _ = try source.tokenizer()
        } catch is CheckpointError {
            refused += 1
        }
    }
    return (refused, accepted)
}
