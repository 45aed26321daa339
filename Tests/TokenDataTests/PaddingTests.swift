import Testing

@testable import TokenData

@Suite("Padding in the rows of token files")
struct PaddingTests {
    /// The texts of rows, as the rows of a file of theirs have them.
    private func texts(_ rows: [[UInt32]], _ padding: Padding) -> (texts: [[UInt32]], found: PaddedRows) {
        let ids = rows.flatMap { $0 }
        let found = PaddedRows(rows.map { padding.runs(of: $0) }, rowLength: rows[0].count)
        return (found.texts.map { Array(ids[$0]) }, found)
    }

    @Test("Runs at both ends are counted; a row of padding only has none in front")
    func runs() {
        let padding = Padding(id: 0)
        #expect(padding.runs(of: [0, 0, 5, 0, 6, 0]) == .init(leading: 2, trailing: 1))
        #expect(padding.runs(of: [5, 6]) == .init(leading: 0, trailing: 0))
        #expect(padding.runs(of: [0, 0, 0]) == .init(leading: 0, trailing: 3))
    }

    @Test("What a row ends in is left out, and nothing inside it")
    func right() {
        let (texts, found) = texts([[1, 0, 2, 0], [3, 4, 5, 6], [0, 7, 0, 0], [0, 0, 0, 0]], Padding(id: 0))
        #expect(texts == [[1, 0, 2], [3, 4, 5, 6], [0, 7]])
        #expect(found.paddingCount == 7 && found.emptyRows == 1 && !found.isLeft)
    }

    @Test("Of an id that ends documents as well, the first is the text's")
    func ends() {
        let (texts, found) = texts(
            [[1, 9, 9, 9], [3, 4, 5, 9], [9, 7, 6, 5], [9, 9, 9, 9], [2, 8, 9, 9]], Padding(id: 9, ends: [9, 8]))
        // The last text has another end.
        #expect(texts == [[1, 9], [3, 4, 5, 9], [9, 7, 6, 5], [2, 8]])
        #expect(found.paddingCount == 8 && found.emptyRows == 1)
    }

    @Test("Padding on the left is left out where rows show that it is there")
    func left() {
        for ends in [[], [9], [5, 9]] as [[UInt32]] {
            let (texts, found) = texts(
                [[9, 9, 9, 1], [9, 3, 4, 5], [6, 7, 8, 5], [9, 9, 2, 9]], Padding(id: 9, ends: ends))
            // A file is padded on one side: on the other one the id is text.
            #expect(texts == [[1], [3, 4, 5], [6, 7, 8, 5], [2, 9]], "\(ends)")
            #expect(found.paddingCount == 6 && found.isLeft, "\(ends)")
        }
    }
}
