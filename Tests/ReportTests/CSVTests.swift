import Checkpoints
import TestSupport
import Testing

@testable import Report

@Suite("Tables that a report reads")
struct CSVTests {
    let place: TemporaryFolder

    init() throws { place = try TemporaryFolder() }

    private func table(_ text: String) throws -> CSVTable {
        try CSVTable(try MappedFile(place.write(text, "table.csv")))
    }

    private func cells(_ table: CSVTable) -> [[String]] {
        table.rows.map { row in table.columns.indices.map { table.text(row, $0) } }
    }

    @Test("Fields, quoted ones, line ends of all kinds, a mark in front, and an empty line at the end")
    func fields() throws {
        let plain = [["1", "", "x"], ["-2.5e3", "y z", ""]]
        for text in [
            "a,b,c\n1,,x\n-2.5e3,y z,\n", "a,b,c\r\n1,,x\r\n-2.5e3,y z,", "\u{FEFF}a,b,c\n1,,x\n-2.5e3,y z,\n\n",
        ] {
            let table = try table(text)
            #expect(table.columns == ["a", "b", "c"] && cells(table) == plain)
        }
        let quoted = try table("\"a\",b\n\"1,\"\"2\"\"\n3\",\"\"\n\"\"\"\",4\n")
        #expect(quoted.columns == ["a", "b"])
        #expect(cells(quoted) == [["1,\"2\"\n3", ""], ["\"", "4"]])
        #expect(try quoted.count(1, 1) == 4)
    }

    /// What is said of a text that is no table, or no number.
    private func problem(_ text: String, _ read: (CSVTable) throws -> Void = { _ in }) -> ReportError? {
        do { try read(try table(text)) } catch { return error as? ReportError }
        return nil
    }

    @Test("What is wrong is named with file, line, what was found and what was expected")
    func problems() throws {
        let path = place.file("table.csv")
        func expect(_ found: ReportError?, _ place: String, _ words: String, _ expected: String) {
            #expect(found == .invalid(path: path, place: place, found: words, expected: expected))
        }
        expect(problem("a,b\n1,2\n3\n"), "line 3", "1 field", "2 as in the header")
        expect(problem("a,b\n\"1\n\n\",2,3\n"), "line 2", "3 fields", "2 as in the header")
        expect(problem("a,b\n1,\"2\n"), "line 2", "a quote that is not closed", "another")
        expect(problem("a,b\n\"1\"2,3\n"), "line 2", "text behind a closing quote", "a comma")
        expect(problem("a,b\n\"\n\",x\n") { _ = try $0.count(0, 1) }, "line 2, column b", "'x'", "a count")
        expect(problem("a,b\n1,2\n1,-2\n") { _ = try $0.count(1, 1) }, "line 3, column b", "'-2'", "a count")
        expect(problem("a,b\n1,\n") { _ = try $0.number(0, 1) }, "line 2, column b", "nothing", "a number")
        expect(problem("a,b\n1,nan\n") { _ = try $0.number(0, 1) }, "line 2, column b", "'nan'", "a number")
        expect(
            problem("a,b\n1,x\n") { _ = try $0.optionalNumber(0, 1) }, "line 2, column b", "'x'", "a number or nothing")
        expect(problem("a,b\n1,2\n") { _ = try $0.column("c") }, "line 1", "a,b", "a column c")
        let table = try table("a,b\n,nan\n")
        #expect(try table.optionalNumber(0, 0) == nil && table.optionalNumber(0, 1) == nil)
    }

    @Test("Rows that begin alike are told from those that do not")
    func repeats() throws {
        let table = try table("a,b,c\n1,x,5\n1,x,6\n1,y,6\n11,y,6\n")
        #expect((1..<4).map { table.repeats($0, first: 2) } == [true, false, false])
    }
}

@Suite("Numbers of a report")
struct NumberTests {
    @Test("Rounding to significant digits leaves the decimal number that is nearest")
    func rounding() {
        for (value, digits, text) in [
            (0.123456, 3, "0.123"), (123456.7, 3, "123000"), (-0.00098765, 2, "-0.00099"), (2, 1, "2"),
            (1e-9, 4, "1e-09"), (9.9999, 2, "10"), (0, 3, "0"), (1.5e300, 2, "1.5e+300"),
        ] { #expect(rounded(value, digits: digits).text() == text) }
        #expect(rounded(.nan).isNull && rounded(Double.infinity).isNull && rounded(nil as Double?).isNull)
    }

    @Test(
        "A thinned curve keeps both ends, ascends, and is dense where it is short", arguments: [1, 2, 3, 57, 160, 4096])
    func indices(_ count: Int) {
        let indices = logarithmicIndices(upTo: count, points: 100)
        #expect(indices.first == 1 && indices.last == count)
        #expect(zip(indices, indices.dropFirst()).allSatisfy { $0 < $1 })
        #expect(indices.count <= 100 && indices.prefix(10).elementsEqual(1...min(10, count)))
        #expect(logarithmicIndices(upTo: 0, points: 100) == [])
    }

    @Test("Names are as short as they can be and never the same")
    func labels() {
        #expect(distinctLabels([("a", "x/a"), ("b", "x/b")]) == ["a", "b"])
        #expect(distinctLabels([("a", "x/a"), ("a", "y/a"), ("b", "x/b")]) == ["x/a", "y/a", "b"])
        #expect(distinctLabels([("a", "x"), ("a", "x")]) == ["x (1)", "x (2)"])
    }
}
