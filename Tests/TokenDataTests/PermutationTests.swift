import TestSupport
import Testing

@testable import TokenData

@Suite("Permutations that are computed, not stored")
struct PermutationTests {
    private func values(_ count: Int, seed: UInt64 = 1, stream: UInt64 = 0) -> [Int] {
        let permutation = Permutation(count: count, seed: seed, stream: stream)
        return (0..<count).map { permutation[$0] }
    }

    @Test("Every number occurs once, whatever the count")
    func isPermutation() {
        for count in Array(1...130) + [255, 256, 257, 1009, 4095, 4096, 4097, 10_007, 65_537] {
            for seed: UInt64 in [0, 1, .max] {
                expectEqual(
                    values(count, seed: seed, stream: seed &* 3).sorted(), Array(0..<count), "\(count), \(seed)")
            }
        }
    }

    @Test("Counts up to the largest stay in range, and differ where places do")
    func large() {
        for count in [1 << 32 - 1, 1 << 32 + 1, 1 << 40 + 7, Int.max] {
            let permutation = Permutation(count: count, seed: 5, stream: 6)
            let places = Array(0..<500) + (count - 500..<count)
            let values = places.map { permutation[$0] }
            #expect(values.allSatisfy { (0..<count).contains($0) })
            #expect(Set(values).count == places.count)
            // The mean of 1000 uniform numbers is within 6 deviations, 6 / √(12 · 1000) = 0.055, of the middle.
            let mean = values.reduce(0) { $0 + Double($1) / Double(count) } / Double(values.count)
            #expect(abs(mean - 0.5) < 0.055, "\(count): \(mean)")
        }
    }

    @Test("Seed and stream choose it, and nothing else")
    func keys() {
        let count = 1009
        let reference = values(count, seed: 7, stream: 3)
        expectEqual(values(count, seed: 7, stream: 3), reference)
        // Of two unrelated permutations about one place agrees; P(≥ 10) is about 1e-7.
        for (seed, stream) in [(7, 4), (7, 2), (8, 3), (3, 7), (6, 3), (7, 0)] as [(UInt64, UInt64)] {
            let other = values(count, seed: seed, stream: stream)
            #expect(zip(reference, other).count { $0 == $1 } < 10, "\(seed), \(stream)")
            // Nor is it the other one moved on by one place.
            #expect(zip(reference.dropFirst(), other).count { $0 == $1 } < 10, "\(seed), \(stream)")
        }
    }

    @Test("It spreads: values do not follow places, nor each other", arguments: [1009, 4096, 10_007, 66_000])
    func spreads(count: Int) {
        let values = values(count, seed: 11, stream: 12)
        // χ² of place against value in 16 × 16 cells: 225 degrees of freedom, deviation √450 = 21; 6 of them.
        var cells = [Double](repeating: 0, count: 256)
        for (place, value) in values.enumerated() { cells[place * 16 / count * 16 + value * 16 / count] += 1 }
        let expected = Double(count) / 256
        let chiSquared = cells.reduce(0) { $0 + ($1 - expected) * ($1 - expected) / expected }
        #expect(chiSquared < 225 + 6 * 21.3, "\(chiSquared)")
        // About 2 neighbours stay neighbours, and about 1 number stays in its place.
        #expect(zip(values, values.dropFirst()).count { abs($0 - $1) == 1 } < 14)
        #expect(values.enumerated().count { $0 == $1 } < 10)
        // Half of all pairs of neighbours ascend, with deviation √(n / 12).
        let ascending = zip(values, values.dropFirst()).count { $0 < $1 }
        #expect(abs(Double(ascending) - Double(count - 1) / 2) < 6 * (Double(count) / 12).squareRoot(), "\(ascending)")
    }

    @Test("Short ones too: every number comes to every place equally often", arguments: [2, 3, 5, 7, 13])
    func short(count: Int) {
        let rounds = 4000
        var cells = [Int](repeating: 0, count: count * count)
        for stream in 0..<rounds {
            for (place, value) in values(count, seed: 99, stream: UInt64(stream)).enumerated() {
                cells[place * count + value] += 1
            }
        }
        let probability = 1 / Double(count)
        let deviation = (Double(rounds) * probability * (1 - probability)).squareRoot()
        for (cell, found) in cells.enumerated() {
            #expect(
                abs(Double(found) - Double(rounds) * probability) < 6 * deviation,
                "\(found) of \(rounds) times \(cell % count) at \(cell / count) of \(count)")
        }
    }
}
