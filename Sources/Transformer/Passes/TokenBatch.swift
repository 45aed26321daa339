/// Sequences that go through the decoder together, one after the other without padding.
public struct TokenBatch: Sendable, Equatable {
    /// Ids of all sequences in a row.
    public let ids: [UInt32]
    /// Tokens of each sequence; they add up to `ids.count`.
    public let lengths: [Int]

    public init(ids: [UInt32], lengths: [Int]) {
        precondition(
            lengths.reduce(0, +) == ids.count && lengths.allSatisfy { $0 > 0 }, "lengths \(lengths) of \(ids.count)")
        self.ids = ids
        self.lengths = lengths
    }

    public init(_ sequences: [ArraySlice<UInt32>]) {
        self.init(ids: sequences.flatMap { $0 }, lengths: sequences.map(\.count))
    }

    public var count: Int { ids.count }
    public var longest: Int { lengths.max() ?? 0 }

    /// First token of each sequence.
    public var starts: [Int] {
        var starts: [Int] = []
        var sum = 0
        for length in lengths {
            starts.append(sum)
            sum += length
        }
        return starts
    }

    /// Position of each token in its own sequence.
    var positions: [Int] { lengths.flatMap { 0..<$0 } }
}
