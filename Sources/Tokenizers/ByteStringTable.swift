#if canImport(Glibc)
    import Glibc
#endif

/// A map from byte strings to 32-bit numbers. Bytes, not `String`: Swift's strings compare canonically equivalent
/// spellings as equal, and a vocabulary holds both of them.
///
/// Open addressing over one array, the strings end to end in another.
struct ByteStringTable {
    private struct Slot {
        var hash: UInt32
        var offset: UInt32
        /// `.max`: the slot is free.
        var length: UInt32
        var value: UInt32
    }

    private var slots: [Slot]
    private var bytes: [UInt8] = []
    private(set) var count = 0

    private static let free = Slot(hash: 0, offset: 0, length: .max, value: 0)

    /// A table that holds `capacity` strings before it grows.
    init(capacity: Int) {
        var size = 16
        while size < capacity * 2 { size *= 2 }
        slots = Array(repeating: Self.free, count: size)
    }

    /// Strings held before the table grows.
    var capacity: Int { slots.count / 2 }

    @inline(__always)
    static func hash(_ start: UnsafePointer<UInt8>, _ count: Int) -> UInt32 {
        let raw = UnsafeRawPointer(start)
        let multiplier: UInt64 = 0x9E37_79B9_7F4A_7C15
        var state = UInt64(truncatingIfNeeded: count) &* multiplier
        if count >= 8 {
            var offset = 0
            while offset + 8 <= count {
                state = (state ^ raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) &* multiplier
                state ^= state >> 29
                offset += 8
            }
            state ^= raw.loadUnaligned(fromByteOffset: count - 8, as: UInt64.self)
        } else if count >= 4 {
            let low = UInt64(raw.loadUnaligned(as: UInt32.self))
            let high = UInt64(raw.loadUnaligned(fromByteOffset: count - 4, as: UInt32.self))
            state ^= low | high << 32
        } else if count > 0 {
            state ^= UInt64(start[0]) | UInt64(start[count / 2]) << 8 | UInt64(start[count - 1]) << 16
        }
        state = (state ^ state >> 32) &* multiplier
        return UInt32(truncatingIfNeeded: state >> 32)
    }

    @inline(__always)
    func find(_ start: UnsafePointer<UInt8>, _ count: Int, hash: UInt32) -> UInt32? {
        let mask = slots.count - 1
        return slots.withUnsafeBufferPointer { slots in
            bytes.withUnsafeBufferPointer { bytes in
                var index = Int(hash) & mask
                while true {
                    let slot = slots[index]
                    if slot.length == .max { return nil }
                    if slot.hash == hash, Int(slot.length) == count,
                        count == 0 || memcmp(bytes.baseAddress! + Int(slot.offset), start, count) == 0
                    {
                        return slot.value
                    }
                    index = (index + 1) & mask
                }
            }
        }
    }

    func find(_ start: UnsafePointer<UInt8>, _ count: Int) -> UInt32? {
        find(start, count, hash: Self.hash(start, count))
    }

    func find(_ string: [UInt8]) -> UInt32? {
        string.withUnsafeBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return nil }
            return find(start, buffer.count)
        }
    }

    /// Adds a string that is not there yet.
    mutating func insert(_ start: UnsafePointer<UInt8>, _ count: Int, hash: UInt32, value: UInt32) {
        if self.count >= capacity { grow() }
        place(Slot(hash: hash, offset: UInt32(bytes.count), length: UInt32(count), value: value))
        bytes.append(contentsOf: UnsafeBufferPointer(start: start, count: count))
        self.count += 1
    }

    /// Adds a string; `false` if it is there already.
    mutating func insert(_ string: [UInt8], value: UInt32) -> Bool {
        string.withUnsafeBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return false }
            let hash = Self.hash(start, buffer.count)
            guard find(start, buffer.count, hash: hash) == nil else { return false }
            insert(start, buffer.count, hash: hash, value: value)
            return true
        }
    }

    private mutating func place(_ slot: Slot) {
        let mask = slots.count - 1
        var index = Int(slot.hash) & mask
        while slots[index].length != .max { index = (index + 1) & mask }
        slots[index] = slot
    }

    private mutating func grow() {
        let old = slots
        slots = Array(repeating: Self.free, count: old.count * 2)
        for slot in old where slot.length != .max { place(slot) }
    }
}

/// What the merges of a byte pair encoding say: which two neighbours become which id, and which pair goes first.
/// Never written after `init`.
final class MergeTable: @unchecked Sendable {
    struct Merge {
        var left: UInt32
        var right: UInt32
        var result: UInt32
    }

    private struct Slot {
        var pair: UInt64
        var rank: UInt32
        var result: UInt32
    }

    private let slots: UnsafeMutablePointer<Slot>
    private let mask: Int
    private static let free = Slot(pair: .max, rank: .max, result: 0)

    /// Merges in the order of their ranks; of two for the same pair the later one counts.
    init(_ merges: [Merge]) {
        var size = 16
        while size < merges.count * 2 { size *= 2 }
        mask = size - 1
        slots = .allocate(capacity: size)
        slots.initialize(repeating: Self.free, count: size)
        for (rank, merge) in merges.enumerated() {
            let pair = Self.pair(merge.left, merge.right)
            let index = slot(of: pair)
            slots[index] = Slot(pair: pair, rank: UInt32(rank), result: merge.result)
        }
    }

    deinit { slots.deallocate() }

    @inline(__always) private static func pair(_ left: UInt32, _ right: UInt32) -> UInt64 {
        UInt64(left) << 32 | UInt64(right)
    }

    /// The slot of a pair, or the free one where it would be.
    @inline(__always) private func slot(of pair: UInt64) -> Int {
        let mixed = (pair ^ pair >> 29) &* 0x9E37_79B9_7F4A_7C15
        var index = Int(truncatingIfNeeded: mixed >> 32) & mask
        while slots[index].pair != pair && slots[index].pair != .max { index = (index + 1) & mask }
        return index
    }

    /// The rank (`.max`: these two do not merge) and the result of a pair.
    @inline(__always) func find(_ left: UInt32, _ right: UInt32) -> (rank: UInt32, result: UInt32) {
        let found = slots[slot(of: Self.pair(left, right))]
        return (found.rank, found.result)
    }
}
