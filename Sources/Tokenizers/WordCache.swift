/// Remembers the ids of words seen before. Text repeats its words, so this saves most of the merging. Bounded: it
/// starts afresh when full.
struct WordCache: Sendable {
    /// Longer words hardly repeat.
    static let longestWord = 64
    private static let maximumCount = 1 << 16
    /// Marks a value that is a single id itself rather than a place in `ids`. Ids are smaller.
    private static let singleID: UInt32 = 1 << 31

    private var words = ByteStringTable(capacity: 1 << 10)
    /// For each word its number of ids, then the ids.
    private var ids: [UInt32] = []

    /// Appends the ids of a word; `false` if it is not known.
    @inline(__always)
    func append(_ start: UnsafePointer<UInt8>, _ count: Int, hash: UInt32, to output: inout [UInt32]) -> Bool {
        guard let value = words.find(start, count, hash: hash) else { return false }
        if value & Self.singleID != 0 {
            output.append(value ^ Self.singleID)
        } else {
            let place = Int(value)
            for index in place + 1...place + Int(ids[place]) { output.append(ids[index]) }
        }
        return true
    }

    mutating func insert(_ start: UnsafePointer<UInt8>, _ count: Int, hash: UInt32, _ wordIDs: ArraySlice<UInt32>) {
        if words.count >= Self.maximumCount { self = WordCache() }
        if wordIDs.count == 1 {
            words.insert(start, count, hash: hash, value: wordIDs.first! | Self.singleID)
        } else if !wordIDs.isEmpty {
            words.insert(start, count, hash: hash, value: UInt32(ids.count))
            ids.append(UInt32(wordIDs.count))
            ids.append(contentsOf: wordIDs)
        }
    }
}
