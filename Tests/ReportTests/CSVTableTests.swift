import Files
import TestSupport
import Testing

@testable import Report

@Suite("CSV tables")
struct CSVTableTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func table(_ text: String) throws -> CSVTable {
        try CSVTable(try MappedFile(folder.write(text, "t.csv")))
    }

    private func fields(_ text: String) throws -> [[String]] {
        let table = try table(text)
        return table.rows.map { row in table.columns.indices.map { table.text(row, $0) } }
    }

    @Test("Both line ends, with and without one at the end, a mark in front, one empty last line")
    func lineEnds() throws {
        for text in ["a,b\r\n1,2\r\n3,4\r\n", "a,b\n1,2\n3,4", "\u{FEFF}a,b\n1,2\r\n3,4\n", "a,b\n1,2\n3,4\n\n"] {
            #expect(try table(text).columns == ["a", "b"], "\(text)")
            #expect(try fields(text) == [["1", "2"], ["3", "4"]], "\(text)")
        }
        #expect(try fields("a,b\r\n").isEmpty && fields("a,b").isEmpty)
    }

    @Test("Quoted fields hold commas, quotes and line ends; empty fields stay empty")
    func quotes() throws {
        #expect(
            try fields("a,b\r\n\"x, \"\"y\"\"\",\"two\r\nlines\"\r\n,\"\"\r\n\"\"\"\"\"\",q\"r\r\n")
                == [["x, \"y\"", "two\r\nlines"], ["", ""], ["\"\"", "q\"r"]])
    }

    @Test("A table that is damaged is an error with file, line, found and expected")
    func damaged() throws {
        for (text, place, found, expected) in [
            ("a,b\n1,2\n3\n", "line 3", "1 field", "2 as in the header"),
            ("a,b\n1,2,3\n", "line 2", "3 fields", "2 as in the header"),
            ("a,b\n\n1,2\n", "line 2", "1 field", "2 as in the header"),
            ("a,b\n\"1\n2\",3\n4\n", "line 4", "1 field", "2 as in the header"),
            ("a,b\n1,\"2\n", "line 2", "a quote that is not closed", "another"),
            ("a,b\n\"1\"2,3\n", "line 2", "text behind a closing quote", "a comma"),
        ] {
            let error = ReportError.invalid(
                path: folder.file("t.csv"), place: place, found: found, expected: expected)
            #expect(throws: error, "\(text)") { try table(text) }
        }
    }

    @Test("Fields are read as what they must be")
    func numbers() throws {
        let table = try table("n,x\n7,-1.5e3\n0,\n-1,abc\n1.0,nan\n")
        #expect(try table.count(0, 0) == 7 && table.count(1, 0) == 0 && table.number(0, 1) == -1500)
        #expect(try table.optionalNumber(1, 1) == nil && table.optionalNumber(3, 1) == nil)
        let path = folder.file("t.csv")
        #expect(throws: ReportError.invalid(path: path, place: "line 4, column n", found: "'-1'", expected: "a count"))
        {
            try table.count(2, 0)
        }
        #expect(
            throws: ReportError.invalid(path: path, place: "line 3, column x", found: "nothing", expected: "a number")
        ) {
            try table.number(1, 1)
        }
        #expect(throws: ReportError.self) { try table.count(3, 0) }
        #expect(throws: ReportError.self) { try table.number(3, 1) }
        #expect(throws: ReportError.self) { try table.optionalNumber(2, 1) }
        #expect(throws: ReportError.invalid(path: path, place: "line 1", found: "n,x", expected: "a column y")) {
            try table.column("y")
        }
    }

    @Test("Rows are compared by their first fields")
    func repeats() throws {
        let table = try table("a,b,c\n1,x,3\n1,x,4\n1,xx,4\n11,x,4\n")
        #expect(table.repeats(1, first: 2) && !table.repeats(1, first: 3))
        #expect(table.repeats(2, first: 1) && !table.repeats(2, first: 2) && !table.repeats(3, first: 1))
    }
}
