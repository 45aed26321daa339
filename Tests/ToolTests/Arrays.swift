import Foundation
import Testing

/// Numbers of a NumPy file, read by the published layout and independently of the package.
struct NumpyArray {
    var type: String
    var shape: [Int]
    var data: [UInt8]

    init(_ bytes: [UInt8]) throws {
        try #require(bytes.count > 10 && bytes.starts(with: [0x93] + Array("NUMPY".utf8)))
        let length = Int(bytes[8]) | Int(bytes[9]) << 8
        let header = String(decoding: bytes[10..<10 + length], as: UTF8.self)
        type = String(try #require(header.firstMatch(of: /'descr': '([^']*)'/)).1)
        try #require(header.contains("'fortran_order': False"))
        shape = try #require(header.firstMatch(of: /'shape': \(([^)]*)\)/)).1.split(separator: ",")
            .compactMap { Int($0.filter { $0 != " " }) }
        data = Array(bytes[(10 + length)...])
    }

    /// The bytes of a file of such elements.
    static func file<T: BitwiseCopyable>(_ type: String, shape: [Int], _ values: [T]) -> [UInt8] {
        let extents = shape.map { "\($0)," }.joined(separator: " ")
        var header = "{'descr': '\(type)', 'fortran_order': False, 'shape': (\(extents)), }"
        while (header.utf8.count + 11) % 64 != 0 { header += " " }
        header += "\n"
        let length = UInt16(header.utf8.count)
        return [0x93] + Array("NUMPY".utf8) + [1, 0] + littleEndian(length) + Array(header.utf8)
            + values.flatMap { littleEndian($0) }
    }

    var floats: [Float] {
        data.withUnsafeBytes { bytes in
            (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
        }
    }

    var shorts: [UInt16] {
        data.withUnsafeBytes { bytes in
            (0..<bytes.count / 2).map { bytes.loadUnaligned(fromByteOffset: $0 * 2, as: UInt16.self) }
        }
    }
}

/// A CSV file with a header line and no quotes.
struct Table {
    let header: String
    let rows: [[Substring]]

    init(_ text: String) throws {
        // A carriage return and a line feed are one character.
        let lines = text.split(separator: "\r\n", omittingEmptySubsequences: false)
        header = String(try #require(lines.first))
        try #require(lines.last == "", "the last line has no end")
        let width = header.split(separator: ",").count
        rows = lines.dropFirst().dropLast().map { $0.split(separator: ",", omittingEmptySubsequences: false) }
        try #require(rows.allSatisfy { $0.count == width })
    }

    func column(_ name: String) throws -> [Substring] {
        let index = try #require(header.split(separator: ",").firstIndex { $0 == name }, "no column \(name)")
        return rows.map { $0[index] }
    }

    func numbers(_ name: String) throws -> [Double] { try column(name).map { try #require(Double($0)) } }
}

extension Workplace {
    func table(_ name: String) throws -> Table { try Table(try text(name)) }

    /// Logits of a token or text option's input, by running the tool.
    func logits(of checkpoint: String, _ option: String, _ input: String) throws -> NumpyArray {
        try succeed(.analyze, "logits", checkpoint, option, input, "--out", "logits.npy", "--quiet")
        defer { try? FileManager.default.removeItem(atPath: file("logits.npy")) }
        return try NumpyArray(try bytes("logits.npy"))
    }
}
