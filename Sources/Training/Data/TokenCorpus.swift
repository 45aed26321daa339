import Tensors
import Tokenizers

/// Token ids of one input, readable at any place, from several threads at once, without being in memory as a whole.
public final class TokenCorpus: Sendable {
    /// What errors call it: the path, or what the caller says.
    public let name: String
    /// The columns of a two-dimensional token file, of which each row is a sequence; `nil`: one running text.
    public let rowLength: Int?
    private let storage: Storage

    private enum Storage {
        case mapped(MappedTokens)
        case held([UInt32])
    }

    /// Opens a token file.
    ///
    /// `.u16`, `.u32` and `.npy` files are mapped: pages are read when a batch needs them, nothing is copied. A dataset
    /// `FILE.h5:/path` and an `.npy` array in column order are read whole, four bytes per id.
    ///
    /// - Throws: `CheckpointError` as `TokenFile.read`. Numbers in a mapped file that are no ids are found by
    ///   `TrainingData`.
    public convenience init(file specification: String) throws {
        if let tokens = try MappedTokens(specification) {
            self.init(name: specification, rowLength: tokens.rowLength, .mapped(tokens))
        } else {
            let tokens = try TokenFile.read(specification)
            self.init(name: specification, rowLength: tokens.rowLength, .held(tokens.ids))
        }
    }

    /// A text that is already cut into tokens.
    ///
    /// - Precondition: `rowLength`, if given, is positive and divides the number of ids.
    public convenience init(name: String, ids: [UInt32], rowLength: Int? = nil) {
        let tokens = TokenIDs(ids: ids, rowLength: rowLength)
        self.init(name: name, rowLength: tokens.rowLength, .held(tokens.ids))
    }

    private init(name: String, rowLength: Int?, _ storage: Storage) {
        self.name = name
        self.rowLength = rowLength
        self.storage = storage
    }

    /// Number of ids.
    public var count: Int {
        switch storage {
        case .mapped(let tokens): tokens.count
        case .held(let ids): ids.count
        }
    }

    /// Whether the ids are read from the file when asked for; otherwise they are in memory.
    public var isMapped: Bool { if case .mapped = storage { true } else { false } }

    /// Copies the ids at some positions.
    ///
    /// - Precondition: the positions are in `0..<count`, and `destination` has as many elements.
    public func copy(_ positions: Range<Int>, into destination: UnsafeMutableBufferPointer<UInt32>) {
        switch storage {
        case .mapped(let tokens): tokens.copy(positions, into: destination)
        case .held(let ids):
            precondition(
                destination.count == positions.count, "\(positions.count) ids into a buffer of \(destination.count)")
            _ = destination.update(fromContentsOf: ids[positions])
        }
    }

    /// Position of the first id that a vocabulary lacks, and the number as stored.
    func firstUnknown(vocabulary: Int) -> (position: Int, number: String)? {
        precondition(vocabulary > 0, "a vocabulary of \(vocabulary)")
        let largest = UInt32(clamping: vocabulary - 1)
        switch storage {
        case .held(let ids): return ids.firstIndex { $0 > largest }.map { ($0, "\(ids[$0])") }
        case .mapped(let tokens):
            let places = inBlocks { block in
                defer { tokens.release(block) }
                return tokens.firstIndex(in: block, above: largest)
            }
            return places.lazy.compactMap { $0 }.first.map { ($0, tokens.number(at: $0)) }
        }
    }

    /// All positions of an id, in ascending order.
    func positions(of id: UInt32) -> [Int] {
        switch storage {
        case .held(let ids): ids.indices.filter { ids[$0] == id }
        case .mapped(let tokens):
            inBlocks { block in
                defer { tokens.release(block) }
                return tokens.indices(in: block, of: id)
            }.flatMap { $0 }
        }
    }

    /// What `body` returns for stretches that together are all positions, in their order; run on the thread pool.
    private func inBlocks<Value>(_ body: (Range<Int>) -> Value) -> [Value] {
        let block = 1 << 20
        let blocks = (count + block - 1) / block
        let results = ParallelResults<Value>(count: blocks)
        results.fill(order: Array(0..<blocks), progress: { _ in }) { index in
            body(index * block..<min(count, (index + 1) * block))
        }
        return results.values
    }

    /// A position as people look for it.
    func place(_ position: Int) -> String {
        rowLength.map { "row \(position / $0), column \(position % $0)" } ?? "token \(position)"
    }
}
