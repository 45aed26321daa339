import Testing

/// The element at which numbers are furthest from what is expected, measured in what its bound allows.
struct Deviation: CustomStringConvertible {
    let index: Int
    let found: Double
    let expected: Double
    let bound: Double

    /// At most 1 where the bound holds; infinite for what cannot be compared.
    var ratio: Double {
        if found == expected { return 0 }
        let ratio = abs(found - expected) / bound
        return ratio.isNaN ? .infinity : ratio
    }

    var description: String {
        "[\(index)]: found \(found), expected \(expected) ± \(bound): \(ratio) of what is allowed"
    }
}

/// The worst element; nil if there are none. Each element has its own bound, derived by the caller.
func worstDeviation(_ found: [Double], _ expected: [Double], within bounds: [Double]) -> Deviation? {
    precondition(expected.count == bounds.count, "\(expected.count) numbers with \(bounds.count) bounds")
    guard found.count == expected.count else {
        return Deviation(index: min(found.count, expected.count), found: .nan, expected: .nan, bound: 0)
    }
    return found.indices.map {
        Deviation(index: $0, found: found[$0], expected: expected[$0], bound: bounds[$0])
    }.max { $0.ratio < $1.ratio }
}

func isClose(_ found: [Double], _ expected: [Double], within bounds: [Double]) -> Bool {
    worstDeviation(found, expected, within: bounds).map { $0.ratio <= 1 } ?? true
}

/// Records an issue that names the worst element unless all are within their bounds.
func expectClose(
    _ found: [Double], _ expected: [Double], within bounds: [Double], _ what: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard let worst = worstDeviation(found, expected, within: bounds), worst.ratio > 1 else { return }
    Issue.record("\(what) \(found.count) of \(expected.count) numbers, worst \(worst)", sourceLocation: sourceLocation)
}

func expectClose(
    _ found: [Double], _ expected: [Double], within bound: Double, _ what: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let bounds = [Double](repeating: bound, count: expected.count)
    expectClose(found, expected, within: bounds, what, sourceLocation: sourceLocation)
}

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
