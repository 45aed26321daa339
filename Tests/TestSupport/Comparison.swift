import Testing

/// The element at which numbers are furthest from what is expected, measured in what its bound allows.
package struct Deviation: CustomStringConvertible {
    package let index: Int
    package let found: Double
    package let expected: Double
    package let bound: Double

    /// At most 1 where the bound holds; infinite for what cannot be compared.
    package var ratio: Double {
        if found == expected { return 0 }
        let ratio = abs(found - expected) / bound
        return ratio.isNaN ? .infinity : ratio
    }

    package var description: String {
        "[\(index)]: found \(found), expected \(expected) ± \(bound): \(ratio) of what is allowed"
    }
}

/// The worst element; nil if there are none. Each element has its own bound, derived by the caller.
package func worstDeviation(_ found: [Double], _ expected: [Double], within bounds: [Double]) -> Deviation? {
    precondition(expected.count == bounds.count, "\(expected.count) numbers with \(bounds.count) bounds")
    guard found.count == expected.count else {
        return Deviation(index: min(found.count, expected.count), found: .nan, expected: .nan, bound: 0)
    }
    return found.indices.map {
        Deviation(index: $0, found: found[$0], expected: expected[$0], bound: bounds[$0])
    }.max { $0.ratio < $1.ratio }
}

package func isClose(_ found: [Double], _ expected: [Double], within bounds: [Double]) -> Bool {
    worstDeviation(found, expected, within: bounds).map { $0.ratio <= 1 } ?? true
}

/// Records an issue that names the worst element unless all are within their bounds.
package func expectClose(
    _ found: [Double], _ expected: [Double], within bounds: [Double], _ what: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard let worst = worstDeviation(found, expected, within: bounds), worst.ratio > 1 else { return }
    Issue.record("\(what) \(found.count) of \(expected.count) numbers, worst \(worst)", sourceLocation: sourceLocation)
}

package func expectClose(
    _ found: [Double], _ expected: [Double], within bound: Double, _ what: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let bounds = [Double](repeating: bound, count: expected.count)
    expectClose(found, expected, within: bounds, what, sourceLocation: sourceLocation)
}
