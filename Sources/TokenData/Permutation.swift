import Tensors

/// A permutation of `0..<count` that a seed chooses and that is computed at any place, not stored.
///
/// It is a Feistel network: index = (left, right), each half of w bits, and in every round (left, right) ←
/// (right, left ⊕ F(right, key of the round)), which can be undone whatever F is. The network permutes the 4ʷ ≥ count
/// numbers of 2w bits; one that falls outside `0..<count` goes through it again until it falls inside ("cycle walking";
/// Black & Rogaway, Ciphers with arbitrary finite domains, 2002, section 3), which takes at most four passes on average.
package struct Permutation: Sendable {
    package let count: Int
    private let halfWidth: UInt64
    private let keys: [UInt64]

    /// Rounds of the network. Four make it pseudorandom for a pseudorandom F (Luby & Rackoff, 1988) as long as the halves
    /// are wide; the halves of a short permutation are a few bits.
    private static let rounds = 10

    /// - Parameter stream: tells the permutations of one seed apart.
    package init(count: Int, seed: UInt64, stream: UInt64) {
        precondition(count > 0, "a permutation of \(count)")
        self.count = count
        let width = Int.bitWidth - (count - 1).leadingZeroBitCount
        halfWidth = UInt64(max(1, (width + 1) / 2))
        // Only one of the two is mixed: they must not be interchangeable, and streams that follow each other must not have
        // keys that do.
        var streams = SeededGenerator(seed: stream)
        var generator = SeededGenerator(seed: seed ^ streams.next())
        keys = (0..<Self.rounds).map { _ in generator.next() }
    }

    /// What stands at a place.
    package subscript(place: Int) -> Int {
        precondition(place >= 0 && place < count, "place \(place) of \(count)")
        var value = UInt64(place)
        repeat { value = encrypted(value) } while value >= UInt64(count)
        return Int(value)
    }

    private func encrypted(_ value: UInt64) -> UInt64 {
        let mask: UInt64 = 1 << halfWidth - 1
        var left = value >> halfWidth
        var right = value & mask
        for key in keys {
            var mixer = SeededGenerator(seed: right ^ key)
            (left, right) = (right, left ^ mixer.next() >> (64 - halfWidth))
        }
        return left << halfWidth | right
    }
}
