import CKernels
import Files
import Tensors

/// How elements stand in a file: one by one, or quantised in blocks with common scales. The raw value is the name that
/// `TensorInfo.storedType` gives.
enum StoredType: String, CaseIterable, Sendable {
    case f64, f32, f16, bf16
    case q4_0 = "Q4_0"
    case q4_1 = "Q4_1"
    case q5_0 = "Q5_0"
    case q5_1 = "Q5_1"
    case q8_0 = "Q8_0"
    case q2_K = "Q2_K"
    case q3_K = "Q3_K"
    case q4_K = "Q4_K"
    case q5_K = "Q5_K"
    case q6_K = "Q6_K"

    /// Why elements of a type that is not among these cannot be read.
    static func obstacle(_ name: String) -> String { "elements of type \(name), expected f64, f32, f16 or bf16" }

    var blockElements: Int {
        switch self {
        case .f64, .f32, .f16, .bf16: 1
        case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0: 32
        case .q2_K, .q3_K, .q4_K, .q5_K, .q6_K: 256
        }
    }

    var blockBytes: Int {
        switch self {
        case .f64: 8
        case .f32: 4
        case .f16, .bf16: 2
        case .q4_0: 18
        case .q4_1: 20
        case .q5_0: 22
        case .q5_1: 24
        case .q8_0: 34
        case .q2_K: 84
        case .q3_K: 110
        case .q4_K: 144
        case .q5_K: 176
        case .q6_K: 210
        }
    }

    /// Bytes of so many elements, a multiple of the block's; `nil` if the number does not fit.
    func bytes(elements: Int) -> Int? {
        let (bytes, overflow) = (elements / blockElements).multipliedReportingOverflow(by: blockBytes)
        return overflow ? nil : bytes
    }

    /// Converts whole blocks from any address to single precision.
    func decode(_ raw: UnsafeRawPointer, blocks: Int, into out: UnsafeMutablePointer<Float>) {
        let input = raw.assumingMemoryBound(to: UInt8.self)
        switch self {
        case .f32: UnsafeMutableRawPointer(out).copyMemory(from: raw, byteCount: blocks * 4)
        case .f64: Self.aligned(raw, blocks, Double.self) { ck_f64_to_f32($0, out + $1, $2) }
        case .f16: Self.aligned(raw, blocks, UInt16.self) { ck_f16_to_f32($0, out + $1, $2) }
        case .bf16: Self.aligned(raw, blocks, UInt16.self) { ck_bf16_to_f32($0, out + $1, $2) }
        case .q4_0: ck_dequantize_q4_0(input, out, blocks)
        case .q4_1: ck_dequantize_q4_1(input, out, blocks)
        case .q5_0: ck_dequantize_q5_0(input, out, blocks)
        case .q5_1: ck_dequantize_q5_1(input, out, blocks)
        case .q8_0: ck_dequantize_q8_0(input, out, blocks)
        case .q2_K: ck_dequantize_q2_k(input, out, blocks)
        case .q3_K: ck_dequantize_q3_k(input, out, blocks)
        case .q4_K: ck_dequantize_q4_k(input, out, blocks)
        case .q5_K: ck_dequantize_q5_k(input, out, blocks)
        case .q6_K: ck_dequantize_q6_k(input, out, blocks)
        }
    }

    /// Hands over elements in pieces at addresses that suit their type; files need not keep to alignment.
    private static func aligned<T: BitwiseCopyable>(
        _ raw: UnsafeRawPointer, _ count: Int, _: T.Type, _ body: (UnsafePointer<T>, Int, Int) -> Void
    ) {
        if UInt(bitPattern: raw) % UInt(MemoryLayout<T>.alignment) == 0 {
            return body(raw.assumingMemoryBound(to: T.self), 0, count)
        }
        withUnsafeTemporaryAllocation(of: T.self, capacity: 1024) { piece in
            for start in stride(from: 0, to: count, by: 1024) {
                let length = min(1024, count - start)
                UnsafeMutableRawPointer(piece.baseAddress!).copyMemory(
                    from: raw + start * MemoryLayout<T>.stride, byteCount: length * MemoryLayout<T>.stride)
                body(UnsafePointer(piece.baseAddress!), start, length)
            }
        }
    }
}

/// A tensor in a mapped file: where it stands and how its rows are ordered.
struct StoredTensor: Sendable {
    let info: TensorInfo
    let type: StoredType
    /// Of the first byte in the file. That all bytes are there was checked when the file was opened.
    let offset: Int
    /// Attention heads whose rows stand in the order of the interleaved rotation, pairs (2i, 2i + 1) of a head turning
    /// together; they are read in the order of the half-split rotation, pairs (i, i + size/2). `nil`: rows as they are.
    var interleavedHeads: Int?
    /// What was added to every element before it was stored.
    var offsetOfElements: Float = 0

    /// Where a row of the result stands in the file.
    private func storedRow(_ row: Int) -> Int {
        guard let heads = interleavedHeads else { return row }
        let size = info.shape[0] / heads
        let (head, place) = row.quotientAndRemainder(dividingBy: size)
        let half = size / 2
        return head * size + (place < half ? 2 * place : 2 * (place - half) + 1)
    }

    /// Reads rows into `destination`; see `TensorSource.read`.
    func read(from file: MappedFile, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>) {
        let all = 0..<(info.shape.first ?? 1)
        let rows = rows ?? all
        let width = info.shape.dropFirst().reduce(1, *)
        precondition(
            rows.lowerBound >= 0 && rows.upperBound <= all.upperBound, "rows \(rows) of \(info.name) \(info.shape)")
        precondition(
            destination.count == rows.count * width,
            "\(destination.count) elements for rows \(rows) of \(info.name) \(info.shape)")
        guard !destination.isEmpty, let base = file.bytes.baseAddress, let out = destination.baseAddress else { return }
        let start = base + offset
        defer {
            if offsetOfElements != 0 { for index in 0..<destination.count { out[index] -= offsetOfElements } }
        }
        if width % type.blockElements != 0 {
            // A vector in blocks: its elements are the rows, and blocks lie across them.
            let whole = [Float](unsafeUninitializedCapacity: all.count) { buffer, count in
                type.decode(start, blocks: all.count / type.blockElements, into: buffer.baseAddress!)
                count = all.count
            }
            for (index, row) in rows.enumerated() { out[index] = whole[storedRow(row)] }
            return
        }
        let rowBlocks = width / type.blockElements
        let rowBytes = rowBlocks * type.blockBytes
        ThreadPool.forEachRange(rows.count, granularity: max(1, (1 << 16) / width)) { part in
            if interleavedHeads == nil {
                type.decode(
                    start + (rows.lowerBound + part.lowerBound) * rowBytes, blocks: part.count * rowBlocks,
                    into: out + part.lowerBound * width)
            } else {
                for index in part {
                    type.decode(
                        start + storedRow(rows.lowerBound + index) * rowBytes, blocks: rowBlocks,
                        into: out + index * width)
                }
            }
        }
    }
}
