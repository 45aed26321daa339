import Tensors

/// Token ids of one input, readable at any place, from several threads at once, without being in memory as a whole.
public final class TokenCorpus: Sendable {
    /// What errors call it: the path, or what the caller says.
    public let name: String
    /// The columns of a two-dimensional token file, of which each row is a sequence; `nil`: one running text.
    public let rowLength: Int?
    /// What is put in front of each text, row or document that does not begin with it, usually a BOS.
    public let prefix: [UInt32]
    /// The text in rows that are filled up; `nil`: nothing is padding.
    public let paddedRows: PaddedRows?
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
    /// - Parameters:
    ///   - padding: what fills the rows of a two-dimensional file up, if anything can. Other files have none.
    ///   - prefix: what is put in front of each text.
    /// - Throws: `CheckpointError` as `TokenFile.read`. Numbers in a mapped file that are no ids are found by
    ///   `TrainingData`.
    public convenience init(file specification: String, padding: Padding? = nil, prefix: [UInt32] = []) throws {
        if let tokens = try MappedTokens(specification) {
            self.init(name: specification, rowLength: tokens.rowLength, .mapped(tokens), padding, prefix)
        } else {
            let tokens = try TokenFile.read(specification)
            self.init(name: specification, rowLength: tokens.rowLength, .held(tokens.ids), padding, prefix)
        }
    }

    /// A text that is already cut into tokens.
    ///
    /// - Precondition: `rowLength`, if given, is positive and divides the number of ids.
    public convenience init(
        name: String, ids: [UInt32], rowLength: Int? = nil, padding: Padding? = nil, prefix: [UInt32] = []
    ) {
        let tokens = TokenIDs(ids: ids, rowLength: rowLength)
        self.init(name: name, rowLength: tokens.rowLength, .held(tokens.ids), padding, prefix)
    }

    private init(name: String, rowLength: Int?, _ storage: Storage, _ padding: Padding?, _ prefix: [UInt32]) {
        self.name = name
        self.rowLength = rowLength
        self.storage = storage
        self.prefix = prefix
        paddedRows = rowLength.flatMap { length in padding.flatMap { Self.paddedRows($0, length, storage) } }
    }

    /// Number of ids in the file, padding included.
    public var count: Int { Self.count(storage) }

    /// Number of ids that are no padding; the prefix is not counted.
    public var textCount: Int { count - (paddedRows?.paddingCount ?? 0) }

    private static func count(_ storage: Storage) -> Int {
        switch storage {
        case .mapped(let tokens): tokens.count
        case .held(let ids): ids.count
        }
    }

    /// Looks at the ends of all rows, and further in only where these are padding; `nil` if none is.
    private static func paddedRows(_ padding: Padding, _ rowLength: Int, _ storage: Storage) -> PaddedRows? {
        func ids(_ positions: Range<Int>) -> [UInt32] { Self.ids(positions, of: storage) }
        let perBlock = max(1, block / rowLength)
        let runs = inBlocks(of: perBlock, count: count(storage) / rowLength) { rows in
            defer {
                if case .mapped(let tokens) = storage {
                    tokens.release(rows.lowerBound * rowLength..<rows.upperBound * rowLength)
                }
            }
            return rows.map { row in
                let (first, last) = (row * rowLength, (row + 1) * rowLength - 1)
                let isPadded = ids(first..<first + 1)[0] == padding.id || ids(last..<last + 1)[0] == padding.id
                return isPadded ? padding.runs(of: ids(first..<last + 1)) : Padding.Runs()
            }
        }.flatMap { $0 }
        let rows = PaddedRows(runs, rowLength: rowLength)
        return rows.paddingCount > 0 ? rows : nil
    }

    /// Whether the ids are read from the file when asked for; otherwise they are in memory.
    public var isMapped: Bool { if case .mapped = storage { true } else { false } }

    /// Copies the ids at some positions.
    ///
    /// - Precondition: the positions are in `0..<count`, and `destination` has as many elements.
    public func copy(_ positions: Range<Int>, into destination: UnsafeMutableBufferPointer<UInt32>) {
        Self.copy(positions, of: storage, into: destination)
    }

    private static func copy(
        _ positions: Range<Int>, of storage: Storage, into destination: UnsafeMutableBufferPointer<UInt32>
    ) {
        switch storage {
        case .mapped(let tokens): tokens.copy(positions, into: destination)
        case .held(let ids):
            precondition(
                destination.count == positions.count, "\(positions.count) ids into a buffer of \(destination.count)")
            _ = destination.update(fromContentsOf: ids[positions])
        }
    }

    /// The ids at some positions.
    func ids(_ positions: Range<Int>) -> [UInt32] { Self.ids(positions, of: storage) }

    private static func ids(_ positions: Range<Int>, of storage: Storage) -> [UInt32] {
        [UInt32](unsafeUninitializedCapacity: positions.count) { buffer, filled in
            filled = positions.count
            copy(positions, of: storage, into: UnsafeMutableBufferPointer(rebasing: buffer[..<filled]))
        }
    }

    /// Position of the first id in a text that a vocabulary lacks, and the number as stored.
    package func firstUnknown(vocabulary: Int) -> (position: Int, number: String)? {
        precondition(vocabulary > 0, "a vocabulary of \(vocabulary)")
        let largest = UInt32(clamping: vocabulary - 1)
        let texts = paddedRows?.texts
        let perBlock = texts == nil ? Self.block : max(1, Self.block / (rowLength ?? 1))
        let places = Self.inBlocks(of: perBlock, count: texts?.count ?? count) { part -> Int? in
            guard let texts else { return firstIndex(in: part, above: largest) }
            return texts[part].lazy.compactMap { self.firstIndex(in: $0, above: largest) }.first
        }
        guard let place = places.lazy.compactMap({ $0 }).first else { return nil }
        switch storage {
        case .held(let ids): return (place, "\(ids[place])")
        case .mapped(let tokens): return (place, tokens.number(at: place))
        }
    }

    private func firstIndex(in positions: Range<Int>, above largest: UInt32) -> Int? {
        switch storage {
        case .held(let ids): return ids[positions].firstIndex { $0 > largest }
        case .mapped(let tokens):
            defer { tokens.release(positions) }
            return tokens.firstIndex(in: positions, above: largest)
        }
    }

    /// All positions of some ids, in ascending order.
    func positions(of ids: [UInt32]) -> [Int] {
        let found = ids.map { id -> [Int] in
            switch storage {
            case .held(let held): held.indices.filter { held[$0] == id }
            case .mapped(let tokens):
                Self.inBlocks(of: Self.block, count: count) { block in
                    defer { tokens.release(block) }
                    return tokens.indices(in: block, of: id)
                }.flatMap { $0 }
            }
        }
        return found.count == 1 ? found[0] : found.flatMap { $0 }.sorted()
    }

    private static let block = 1 << 20

    /// What `body` returns for stretches of `size` that together are all of `0..<count`, in their order; run on the thread
    /// pool.
    private static func inBlocks<Value>(of size: Int, count: Int, _ body: (Range<Int>) -> Value) -> [Value] {
        let blocks = (count + size - 1) / size
        let results = ParallelResults<Value>(count: blocks)
        results.fill(order: Array(0..<blocks), progress: { _ in }) { index in
            body(index * size..<min(count, (index + 1) * size))
        }
        return results.values
    }

    /// A position as people look for it.
    package func place(_ position: Int) -> String {
        rowLength.map { "row \(position / $0), column \(position % $0)" } ?? "token \(position)"
    }
}
