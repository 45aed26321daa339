import Glibc
import Testing

@testable import Report

@Suite("Numbers and labels of a report")
struct NumberTests {
    @Test("A thinned-out curve keeps both ends and goes up", arguments: [1, 2, 3, 10, 99, 100, 101, 576, 5461])
    func indices(count: Int) {
        for points in [2, 3, 64, 100] {
            let indices = logarithmicIndices(upTo: count, points: points)
            #expect(indices.first == 1 && indices.last == count)
            #expect(zip(indices, indices.dropFirst()).allSatisfy { $0 < $1 })
            #expect(indices.count <= points)
            // No gap is wider than the spacing asks for, but for one index of rounding.
            let step = points > 1 ? pow(Double(count), 1 / Double(points - 1)) : 1
            #expect(zip(indices, indices.dropFirst()).allSatisfy { Double($1) <= Double($0) * step + 1 + step })
        }
    }

    @Test("Without values there is nothing to thin out")
    func noIndices() { #expect(logarithmicIndices(upTo: 0, points: 64) == []) }

    @Test("Numbers are rounded to significant digits, and their text is short")
    func rounding() {
        for (value, digits, text) in [
            (0.0, 4, "0"), (1, 4, "1"), (-2.5, 4, "-2.5"), (2150.278715184874, 4, "2150"), (0.012345678, 3, "0.0123"),
            (1.5909123e-5, 4, "1.591e-05"), (0.99986, 4, "0.9999"), (999.96, 4, "1000"), (331776, 4, "331776"),
            (123456.789, 3, "123000"), (-0.00019999, 2, "-0.0002"), (1e300, 4, "1e+300"),
        ] {
            #expect(rounded(value, digits: digits).text() == text, "\(value)")
        }
        #expect(rounded(Double.nan) == .null && rounded(Double.infinity) == .null && rounded(nil) == .null)
    }

    @Test("Labels are short where that tells them apart, and always different")
    func labels() {
        #expect(distinctLabels([("a", "x/a"), ("b", "x/b")]) == ["a", "b"])
        #expect(distinctLabels([("a", "x/a"), ("b", "x/b"), ("a", "y/a")]) == ["x/a", "b", "y/a"])
        #expect(distinctLabels([("a", "a"), ("a", "a")]) == ["a (1)", "a (2)"])
    }
}
