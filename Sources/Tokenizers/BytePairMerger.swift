/// Applies merges to the symbols of one word, lowest rank first and the leftmost of equal ranks first.
///
/// Short words are scanned for the best pair each time; long ones keep the pairs in a heap, so that text without any
/// white space takes n·log n. Holds only scratch memory.
struct BytePairMerger: ~Copyable {
    private static let shortWord = 40

    private var ids: [UInt32] = []
    private var ranks: [UInt32] = []
    private var results: [UInt32] = []
    private var next: [UInt32] = []
    private var previous: [UInt32] = []
    private var heap = MinimumHeap()

    init() {}

    /// Appends the ids that remain of `symbols` to `output`.
    mutating func merge(_ symbols: [UInt32], _ merges: MergeTable, into output: inout [UInt32]) {
        if symbols.count < 2 {
            output.append(contentsOf: symbols)
        } else if symbols.count <= Self.shortWord {
            mergeShort(symbols, merges, into: &output)
        } else {
            mergeLong(symbols, merges, into: &output)
        }
    }

    private mutating func mergeShort(_ symbols: [UInt32], _ merges: MergeTable, into output: inout [UInt32]) {
        ids.removeAll(keepingCapacity: true)
        ids.append(contentsOf: symbols)
        ranks.removeAll(keepingCapacity: true)
        results.removeAll(keepingCapacity: true)
        for index in 0..<symbols.count - 1 {
            let (rank, result) = merges.find(symbols[index], symbols[index + 1])
            ranks.append(rank)
            results.append(result)
        }
        ids.withUnsafeMutableBufferPointer { ids in
            ranks.withUnsafeMutableBufferPointer { ranks in
                results.withUnsafeMutableBufferPointer { results in
                    var count = symbols.count
                    while count > 1 {
                        var best = 0
                        for index in 1..<max(1, count - 1) where ranks[index] < ranks[best] { best = index }
                        if ranks[best] == .max { break }
                        ids[best] = results[best]
                        count -= 1
                        for index in best + 1..<max(best + 1, count) { ids[index] = ids[index + 1] }
                        for index in best..<max(best, count - 1) {
                            ranks[index] = ranks[index + 1]
                            results[index] = results[index + 1]
                        }
                        if best > 0 { (ranks[best - 1], results[best - 1]) = merges.find(ids[best - 1], ids[best]) }
                        if best < count - 1 { (ranks[best], results[best]) = merges.find(ids[best], ids[best + 1]) }
                    }
                    output.append(contentsOf: ids[0..<count])
                }
            }
        }
    }

    private mutating func mergeLong(_ symbols: [UInt32], _ merges: MergeTable, into output: inout [UInt32]) {
        let count = symbols.count
        let none = UInt32.max
        ids = symbols
        next = (0..<count).map { $0 + 1 < count ? UInt32($0 + 1) : none }
        previous = (0..<count).map { $0 > 0 ? UInt32($0 - 1) : none }
        heap.removeAll()
        // A heap entry is rank and position in one number. It is stale if the pair at its position has another rank.
        func push(_ position: UInt32, _ following: UInt32, _ ids: [UInt32], _ heap: inout MinimumHeap) {
            let (rank, _) = merges.find(ids[Int(position)], ids[Int(following)])
            if rank != .max { heap.push(UInt64(rank) << 32 | UInt64(position)) }
        }
        for index in 0..<count - 1 { push(UInt32(index), UInt32(index + 1), ids, &heap) }
        // A symbol that was merged into the one before it; no id has this value, so it pairs with nothing.
        let dead = UInt32.max
        while let entry = heap.pop() {
            let position = UInt32(truncatingIfNeeded: entry)
            let following = next[Int(position)]
            guard ids[Int(position)] != dead, following != none else { continue }
            let (rank, result) = merges.find(ids[Int(position)], ids[Int(following)])
            guard rank == UInt32(entry >> 32) else { continue }
            ids[Int(position)] = result
            ids[Int(following)] = dead
            let afterwards = next[Int(following)]
            next[Int(position)] = afterwards
            if afterwards != none {
                previous[Int(afterwards)] = position
                push(position, afterwards, ids, &heap)
            }
            let before = previous[Int(position)]
            if before != none { push(before, position, ids, &heap) }
        }
        var index: UInt32 = 0
        while index != none {
            output.append(ids[Int(index)])
            index = next[Int(index)]
        }
        // One giant word must not hold its memory for the rest of the text's life.
        if count > 1 << 16 { self = BytePairMerger() }
    }
}

/// A binary heap that yields the smallest number first.
struct MinimumHeap {
    private var items: [UInt64] = []

    mutating func removeAll() { items.removeAll(keepingCapacity: true) }

    mutating func push(_ item: UInt64) {
        items.append(item)
        var index = items.count - 1
        while index > 0 {
            let parent = (index - 1) / 2
            guard item < items[parent] else { break }
            items[index] = items[parent]
            index = parent
        }
        items[index] = item
    }

    mutating func pop() -> UInt64? {
        guard let first = items.first, let item = items.popLast() else { return nil }
        guard !items.isEmpty else { return first }
        var index = 0
        while true {
            var child = 2 * index + 1
            guard child < items.count else { break }
            if child + 1 < items.count, items[child + 1] < items[child] { child += 1 }
            guard items[child] < item else { break }
            items[index] = items[child]
            index = child
        }
        items[index] = item
        return first
    }
}
