/// The id that fills the rows of a two-dimensional token file up to one length.
public struct Padding: Sendable, Equatable {
    public let id: UInt32
    /// The ids that end documents. If padding is one of them, the first one behind a row's text is the text's own end,
    /// unless the text has another one.
    public let ends: [UInt32]

    public init(id: UInt32, ends: [UInt32] = []) {
        self.id = id
        self.ends = ends
    }

    /// How often the id stands at the two ends of a row.
    public struct Runs: Sendable, Equatable {
        public let leading: Int
        public let trailing: Int
        /// Whether the first of the trailing ones is the end of the text.
        public let endsText: Bool

        public init(leading: Int = 0, trailing: Int = 0, endsText: Bool = false) {
            self.leading = leading
            self.trailing = trailing
            self.endsText = endsText
        }
    }

    /// Counts the id at the ends of a row; of a row with nothing else, `trailing` is its length and `leading` 0.
    public func runs(of row: some RandomAccessCollection<UInt32>) -> Runs {
        let trailing = row.reversed().prefix { $0 == id }.count
        guard trailing < row.count else { return Runs(trailing: trailing) }
        let last = row[row.index(row.endIndex, offsetBy: -trailing - 1)]
        return Runs(
            leading: row.prefix { $0 == id }.count, trailing: trailing,
            endsText: trailing > 0 && ends.contains(id) && !ends.contains(last))
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
    public init(_ runs: [Padding.Runs], rowLength: Int) {
        func padding(_ run: Padding.Runs) -> Int { run.endsText ? run.trailing - 1 : run.trailing }
        let partial = runs.lazy.filter { $0.trailing < rowLength }
        isLeft = partial.count { $0.leading > 1 } > partial.count { padding($0) > 0 }
        var texts: [Range<Int>] = []
        texts.reserveCapacity(runs.count)
        for (row, run) in runs.enumerated() where run.trailing < rowLength {
            let start = row * rowLength
            texts.append(
                isLeft
                    ? start + run.leading..<start + rowLength
                    : start..<start + rowLength - padding(run))
        }
        self.texts = texts
        emptyRows = runs.count - texts.count
        paddingCount = runs.count * rowLength - texts.reduce(0) { $0 + $1.count }
    }
}
