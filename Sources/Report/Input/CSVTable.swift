import Files

/// A CSV file (RFC 4180) with a header line. Its fields are found once and read when asked for, because tables of
/// spectra have a million of them. Rows count from 0; errors name lines, which count from 1.
struct CSVTable {
    let path: String
    let columns: [String]
    private let file: MappedFile
    /// Where the fields are, row by row, quotes included.
    private let fields: [Range<Int>]
    private let lines: [Int]

    /// Throws `ReportError.invalid` for a row that has more or fewer fields than the header, and for a quote that is
    /// not closed.
    init(_ file: MappedFile) throws(ReportError) {
        var scanner = CSVScanner(file)
        var header: [Range<Int>] = []
        _ = try scanner.record(into: &header)
        var fields: [Range<Int>] = []
        var lines: [Int] = []
        while true {
            let line = scanner.line
            let start = fields.count
            guard try scanner.record(into: &fields) else { break }
            let found = fields.count - start
            guard found == header.count else {
                throw .invalid(
                    path: file.path, place: "line \(line)", found: "\(found) field\(found == 1 ? "" : "s")",
                    expected: "\(header.count) as in the header")
            }
            lines.append(line)
        }
        path = file.path
        columns = header.map { CSVScanner.text(file.bytes[$0]) }
        self.file = file
        self.fields = fields
        self.lines = lines
    }

    var rows: Range<Int> { lines.indices }

    /// The place of a column; throws if there is none of this name.
    func column(_ name: String) throws(ReportError) -> Int {
        if let index = columns.firstIndex(of: name) { return index }
        throw .invalid(
            path: path, place: "line 1", found: columns.joined(separator: ","), expected: "a column \(name)")
    }

    func text(_ row: Int, _ column: Int) -> String {
        CSVScanner.text(file.bytes[fields[row * columns.count + column]])
    }

    /// A whole number that is not negative.
    func count(_ row: Int, _ column: Int) throws(ReportError) -> Int {
        let text = text(row, column)
        guard let value = Int(text), value >= 0 else { throw invalid(row, column, expected: "a count") }
        return value
    }

    /// A finite number.
    func number(_ row: Int, _ column: Int) throws(ReportError) -> Double {
        guard let value = Double(text(row, column)), value.isFinite else {
            throw invalid(row, column, expected: "a number")
        }
        return value
    }

    /// A number, or nil where the field is empty or holds one that is not finite: a loss after a run went astray.
    func optionalNumber(_ row: Int, _ column: Int) throws(ReportError) -> Double? {
        let text = text(row, column)
        guard !text.isEmpty else { return nil }
        guard let value = Double(text) else { throw invalid(row, column, expected: "a number or nothing") }
        return value.isFinite ? value : nil
    }

    /// Whether the first fields of a row are those of the row before, byte for byte.
    func repeats(_ row: Int, first count: Int) -> Bool {
        let (this, last) = (row * columns.count, (row - 1) * columns.count)
        return (0..<count).allSatisfy { index in
            file.bytes[fields[this + index]].elementsEqual(file.bytes[fields[last + index]])
        }
    }

    func invalid(_ row: Int, _ column: Int, expected: String) -> ReportError {
        let text = text(row, column)
        return .invalid(
            path: path, place: "line \(lines[row]), column \(columns[column])",
            found: text.isEmpty ? "nothing" : "'\(text)'", expected: expected)
    }
}

/// Finds the records of a CSV file one after the other.
struct CSVScanner {
    private let path: String
    private let bytes: UnsafeRawBufferPointer
    private var position = 0
    /// Of the next record.
    private(set) var line = 1

    private static let (quote, comma) = (UInt8(ascii: "\""), UInt8(ascii: ","))
    private static let (carriageReturn, lineFeed) = (UInt8(ascii: "\r"), UInt8(ascii: "\n"))

    /// `file` has to live as long as the scanner.
    init(_ file: MappedFile) {
        (path, bytes) = (file.path, file.bytes)
        // A byte order mark, as spreadsheets put one in front.
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
    }

    /// Appends where the fields of the next record are; false at the end of the file, and before one empty last line.
    mutating func record(into fields: inout [Range<Int>]) throws(ReportError) -> Bool {
        let rest = bytes[min(position, bytes.count)...]
        if rest.elementsEqual("\n".utf8) || rest.elementsEqual("\r\n".utf8) { position = bytes.count }
        guard position < bytes.count else { return false }
        while true {
            let start = position
            if peek == Self.quote { try skipQuoted() }
            while let byte = peek, byte != Self.comma, byte != Self.lineFeed { position += 1 }
            let isLast = peek != Self.comma
            var end = position
            if isLast, end > start, bytes[end - 1] == Self.carriageReturn { end -= 1 }
            fields.append(start..<end)
            position += 1
            if isLast {
                line += 1
                return true
            }
        }
    }

    private var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipQuoted() throws(ReportError) {
        let first = line
        position += 1
        while let byte = peek {
            position += 1
            if byte == Self.lineFeed { line += 1 }
            guard byte == Self.quote else { continue }
            if peek == Self.quote {
                position += 1
            } else if let next = peek, next != Self.comma, next != Self.carriageReturn, next != Self.lineFeed {
                throw .invalid(
                    path: path, place: "line \(line)", found: "text behind a closing quote", expected: "a comma")
            } else {
                return
            }
        }
        throw .invalid(path: path, place: "line \(first)", found: "a quote that is not closed", expected: "another")
    }

    /// A field without the quotes around it.
    static func text(_ field: Slice<UnsafeRawBufferPointer>) -> String {
        guard field.first == quote, field.count >= 2 else { return String(decoding: field, as: UTF8.self) }
        var inner: [UInt8] = []
        var isPair = false
        for byte in field.dropFirst().dropLast() {
            isPair = byte == quote && !isPair
            if !isPair { inner.append(byte) }
        }
        return String(decoding: inner, as: UTF8.self)
    }
}
