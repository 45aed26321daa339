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
}
