/// The id that fills the rows of a two-dimensional token file up to one length.
public struct Padding: Sendable, Equatable {
    public let id: UInt32
    /// Whether the same id ends documents: then the first one behind a row's text is the text's own end.
    public let endsDocuments: Bool

    public init(id: UInt32, endsDocuments: Bool = false) {
        self.id = id
        self.endsDocuments = endsDocuments
    }

    /// How often the id stands at the two ends of a row.
    public struct Runs: Sendable, Equatable {
        public let leading: Int
        public let trailing: Int

        public init(leading: Int, trailing: Int) {
            self.leading = leading
            self.trailing = trailing
        }
    }

    /// Counts the id at the ends of a row; of a row with nothing else, `trailing` is its length and `leading` 0.
    public func runs(of row: some BidirectionalCollection<UInt32>) -> Runs {
        let trailing = row.reversed().prefix { $0 == id }.count
        guard trailing < row.count else { return Runs(leading: 0, trailing: trailing) }
        return Runs(leading: row.prefix { $0 == id }.count, trailing: trailing)
    }
}

/// The text in the rows of a token file whose rows are filled up.
public struct PaddedRows: Sendable, Equatable {
    /// The place of each row's text among all ids of the file, in the order of the rows, without rows of padding only.
    public let texts: [Range<Int>]
    /// Ids that are padding.
    public let paddingCount: Int
    /// Rows without any text.
    public let emptyRows: Int
    /// Whether the padding stands in front of the text.
    public let isLeft: Bool

    /// Looks for the text of each row between what `Padding.runs(of:)` has counted.
    ///
    /// A file is padded on one side. It is the left one if more rows begin in at least two of the id than end in padding:
    /// a single one at the start may be text.
    public init(_ padding: Padding, runs: [Padding.Runs], rowLength: Int) {
        // The first of a trailing run that ends the document is text.
        let kept = padding.endsDocuments ? 1 : 0
        let partial = runs.lazy.filter { $0.trailing < rowLength }
        isLeft = partial.count { $0.leading > 1 } > partial.count { $0.trailing > kept }
        var texts: [Range<Int>] = []
        texts.reserveCapacity(runs.count)
        for (row, run) in runs.enumerated() where run.trailing < rowLength {
            let start = row * rowLength
            texts.append(
                isLeft
                    ? start + run.leading..<start + rowLength
                    : start..<start + rowLength - max(0, run.trailing - kept))
        }
        self.texts = texts
        emptyRows = runs.count - texts.count
        paddingCount = runs.count * rowLength - texts.reduce(0) { $0 + $1.count }
    }
}
