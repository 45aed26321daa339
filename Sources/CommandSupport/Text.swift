import JSON

/// A number with a fixed count of decimals; a dash for what is not finite.
public func fixed(_ value: Double, _ decimals: Int) -> String {
    guard value.isFinite else { return "–" }
    var scale = 1.0
    for _ in 0..<decimals { scale *= 10 }
    guard abs(value) * scale < 9e15 else { return "\(value)" }
    let digits = String(Int((abs(value) * scale).rounded()))
    let padded = String(repeating: "0", count: max(0, decimals + 1 - digits.count)) + digits
    let sign = value < 0 && padded.contains(where: { $0 != "0" }) ? "-" : ""
    guard decimals > 0 else { return sign + padded }
    return "\(sign)\(padded.dropLast(decimals)).\(padded.suffix(decimals))"
}

/// Bytes in the unit that keeps the number readable.
public func byteCount(_ bytes: Int) -> String {
    switch bytes {
    case ..<1024: "\(bytes) B"
    case ..<(1 << 20): "\(fixed(Double(bytes) / 1024, 1)) KiB"
    case ..<(1 << 30): "\(fixed(Double(bytes) / Double(1 << 20), 1)) MiB"
    default: "\(fixed(Double(bytes) / Double(1 << 30), 2)) GiB"
    }
}

/// A large count in the decimal unit that keeps it readable: "67.24 G".
public func scaled(_ count: Double) -> String {
    var (value, units) = (count, ["", "k", "M", "G", "T", "P", "E"][...])
    while abs(value) >= 1000, units.count > 1 {
        value /= 1000
        units.removeFirst()
    }
    return units.first == "" ? fixed(value, 0) : "\(fixed(value, 2)) \(units.first!)"
}

/// A count with thousands separated by commas.
public func grouped(_ count: Int) -> String {
    var digits = String(abs(count))
    var groups: [Substring] = []
    while digits.count > 3 {
        groups.insert(digits.suffix(3), at: 0)
        digits.removeLast(3)
    }
    return (count < 0 ? "-" : "") + ([Substring(digits)] + groups).joined(separator: ",")
}

/// Columns aligned with two spaces between them; numbers belong to the right.
public struct TextTable {
    public enum Alignment: Sendable { case left, right }

    private let alignments: [Alignment]
    private var rows: [[String]] = []

    public init(_ header: [(String, Alignment)]) {
        alignments = header.map(\.1)
        rows.append(header.map(\.0))
    }

    public mutating func append(_ row: [String]) {
        precondition(row.count == alignments.count, "\(row.count) cells in \(alignments.count) columns")
        rows.append(row)
    }

    /// The table as lines; on a terminal with the header bold and bars in colour.
    public var text: String { text(isColored: Console.usesColor) }

    func text(isColored: Bool) -> String {
        let widths = alignments.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.enumerated().map { index, row in
            let cells = row.indices.map { column in
                let padding = String(repeating: " ", count: widths[column] - row[column].count)
                return alignments[column] == .left ? row[column] + padding : padding + row[column]
            }
            let line = cells.joined(separator: "  ").replacing(/\ +$/, with: "")
            guard isColored else { return line }
            return index == 0 ? TextStyle.bold.applied(to: line) : TextStyle.bars(in: line)
        }.joined(separator: "\n")
    }
}

/// How a terminal shows a text.
enum TextStyle: Int {
    case bold = 1
    case red = 31
    case yellow = 33
    case blue = 34

    func applied(to text: String) -> String { text.isEmpty ? text : "\u{1B}[\(rawValue)m\(text)\u{1B}[0m" }

    /// The line with its bars in blue.
    static func bars(in line: String) -> String {
        line.replacing(/[█▉▊▋▌▍▎▏]+/) { blue.applied(to: String($0.output)) }
    }
}

/// A fraction from 0 to 1 as a bar of block elements, `width` characters wide.
public func bar(_ fraction: Double, width: Int) -> String {
    let eighths = Int((min(1, max(0, fraction)) * Double(width * 8)).rounded())
    let partial = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
    let filled = String(repeating: "█", count: eighths / 8) + partial
    return filled + String(repeating: " ", count: max(0, width - filled.count))
}

extension JSONValue {
    /// A text without its quotes; any other value as JSON.
    var plainText: String { stringValue ?? text() }
}
