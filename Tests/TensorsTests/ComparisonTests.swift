import TestSupport
import Testing

@Suite("The comparison itself")
struct ComparisonTests {
    /// A 3 × 3 matrix without symmetry.
    let expected = [1.0, 2, 3, -4, 5, 6, 7, -8, 9]
    let bounds = [Double](repeating: 1e-6, count: 9)

    @Test("Takes what is within the bound, at its worst element")
    func accepts() {
        var found = expected
        found[4] += 0.9e-6
        #expect(isClose(found, expected, within: bounds))
        #expect(worstDeviation(found, expected, within: bounds)?.index == 4)
    }

    @Test("Refuses zeros, a transpose, one flipped sign, one NaN and a missing element")
    func refuses() {
        let zeros = [Double](repeating: 0, count: 9)
        let transpose = (0..<9).map { expected[$0 % 3 * 3 + $0 / 3] }
        var flipped = expected
        flipped[7] = 8
        var undefined = expected
        undefined[2] = .nan
        for wrong in [zeros, transpose, flipped, undefined, Array(expected.dropLast())] {
            #expect(!isClose(wrong, expected, within: bounds))
        }
        #expect(worstDeviation(flipped, expected, within: bounds)?.index == 7)
        #expect(worstDeviation(undefined, expected, within: bounds)?.index == 2)
    }

    @Test("A bound of one element does not serve another")
    func boundsAreOwn() {
        #expect(!isClose([1, 2.5], [1, 2], within: [1, 1e-6]))
        #expect(!isClose([.infinity], [1], within: [1e300]))
    }

    @Test("Says where it failed")
    func records() {
        withKnownIssue { expectClose([1, 2], [1, 3], within: 0.5) }
    }

    @Test("Equality refuses zeros, a transpose, one flipped sign, one NaN, a missing element and a missing name")
    func equality() {
        let zeros = [Double](repeating: 0, count: 9)
        let transpose = (0..<9).map { expected[$0 % 3 * 3 + $0 / 3] }
        var (flipped, undefined) = (expected, expected)
        flipped[7] = 8
        undefined[2] = .nan
        expectEqual(expected, expected)
        expectEqual(["w": expected], ["w": expected])
        expectIdentical(expected, expected)
        for wrong in [zeros, transpose, flipped, undefined, Array(expected.dropLast()), expected + [1], []] {
            #expect(firstDifference(wrong, expected) != nil)
        }
        withKnownIssue { expectEqual(flipped, expected) }
        withKnownIssue { expectEqual(["w": flipped], ["w": expected]) }
        withKnownIssue { expectIdentical(flipped, expected) }
        withKnownIssue { expectEqual([:], ["w": expected]) }
        withKnownIssue { expectEqual(["w": expected], [:]) }
    }

    @Test("Differences name their place and stay short, however long what is compared")
    func shortDifferences() {
        let long = (0..<100_000).map { Double($0) }
        var other = long
        (other[70_001], other[70_005]) = (-1, .infinity)
        #expect(firstDifference(long, long) == nil)
        #expect(
            firstDifference(other, long)
                == "100000 of 100000 elements, 2 differ, first [70001]: found -1.0, expected 70001.0")
        #expect(
            firstDifference(long.dropLast(), long)
                == "99999 elements, expected 100000; those that both have are the same")
        let nested = firstDifference([other], [long]) ?? ""
        #expect(nested.hasPrefix("1 of 1 elements, 1 differ, first [0]: found [0.0, 1.0") && nested.count < 500)
        let deviation = worstDeviation(other, long, within: long.map { _ in 1 }).map { "\($0)" } ?? ""
        #expect(deviation.hasPrefix("[70005]: found inf, expected 70005.0 ± 1.0") && deviation.count < 200)
    }
}
