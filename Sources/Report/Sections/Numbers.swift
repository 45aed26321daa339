import Glibc
import JSON

/// A number to so many significant digits, as JSON. Whole numbers stay what they are.
func rounded(_ value: Double, digits: Int = 5) -> JSONValue {
    guard value.isFinite else { return .null }
    if value == value.rounded(), abs(value) < 1e15 { return .integer(Int(value)) }
    let places = digits - 1 - Int(log10(abs(value)).rounded(.down))
    // A power of ten up to 10²² is exact, so that one division gives the double nearest to the decimal number.
    let scale = pow(10, Double(abs(places)))
    let result = places >= 0 ? (value * scale).rounded() / scale : (value / scale).rounded() * scale
    if result == result.rounded(), abs(result) < 1e15 { return .integer(Int(result)) }
    return .number(result)
}

func rounded(_ value: Double?, digits: Int = 5) -> JSONValue { value.map { rounded($0, digits: digits) } ?? .null }

/// Indices from 1 to `count`, ascending, both ends among them: at most `points`, evenly spaced by their logarithm as
/// far as whole numbers are.
func logarithmicIndices(upTo count: Int, points: Int) -> [Int] {
    guard count > 1, points > 1 else { return count > 0 ? [1] : [] }
    var indices: [Int] = []
    for point in 0..<points {
        let index = Int(exp(log(Double(count)) * Double(point) / Double(points - 1)).rounded())
        if index > indices.last ?? 0 { indices.append(min(index, count)) }
    }
    return indices
}

/// What stands for one thing on the page: short where that is enough to tell it from the others, and longer where not.
func distinctLabels(_ names: [(short: String, long: String)]) -> [String] {
    let shorts = Dictionary(names.map { ($0.short, 1) }, uniquingKeysWith: +)
    let longs = Dictionary(names.map { ($0.long, 1) }, uniquingKeysWith: +)
    return names.enumerated().map { index, name in
        if shorts[name.short] == 1 { return name.short }
        return longs[name.long] == 1 ? name.long : "\(name.long) (\(index + 1))"
    }
}
