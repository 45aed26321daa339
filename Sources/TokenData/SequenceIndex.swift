/// How sequences are cut from the texts.
public enum Packing: String, Codable, Sendable, CaseIterable {
    /// All texts one after the other, in windows of the same length. A window may hold the end of one text and the start
    /// of the next.
    case packed
    /// Every document on its own, so that no token sees another document.
    case documents
}

/// Where each of a number of sequences lies in the texts. A sequence of n inputs is a stretch of n + 1 tokens: the inputs
/// are all but its last, the targets all but its first.
package protocol SequenceIndex: Sendable {
    var count: Int { get }
    /// Targets of all sequences.
    var targetCount: Int { get }
    /// The tokens of a sequence, at least two.
    func tokens(of sequence: Int) -> [UInt32]
}

/// Windows of T inputs over the corpora as one stream, each starting at the last target of the one before. A separator, if
/// given, stands between two corpora unless the first ends in an end of documents; without one they are simply joined.
/// Padding is not in the stream; what a corpus has put in front is there once for each of its texts or rows. What is left at
/// the end of the stream and does not fill a window belongs to none.
package struct PackedWindows: SequenceIndex {
    package let count: Int
    private let length: Int
    private let corpora: [TokenCorpus]
    private let parts: [Part]
    /// Place in the stream where each part starts, and at the end where the stream ends.
    private let starts: [Int]

    private enum Part {
        /// Ids of a corpus from a position on.
        case stretch(corpus: Int, from: Int)
        case ids([UInt32])
    }

    package init(_ corpora: [TokenCorpus], length: Int, separator: UInt32?, ends: [UInt32]) {
        var parts: [Part] = []
        var starts = [0]
        func append(_ part: Part, _ count: Int) {
            parts.append(part)
            starts.append(starts[parts.count - 1] + count)
        }
        for (index, corpus) in corpora.enumerated() {
            var texts = corpus.texts
            if corpus.prefix.isEmpty { texts.joinNeighbours() }
            for text in texts {
                let prefix = corpus.missingPrefix(of: text)
                if !prefix.isEmpty { append(.ids(prefix), prefix.count) }
                append(.stretch(corpus: index, from: text.lowerBound), text.count)
            }
            if let separator, index + 1 < corpora.count, let last = texts.last,
                !ends.contains(corpus.ids(last.upperBound - 1..<last.upperBound)[0])
            {
                append(.ids([separator]), 1)
            }
        }
        self.corpora = corpora
        self.length = length
        self.parts = parts
        self.starts = starts
        count = max(0, starts[parts.count] - 1) / length
    }

    package var targetCount: Int { count * length }

    package func tokens(of sequence: Int) -> [UInt32] {
        let window = sequence * length..<(sequence + 1) * length + 1
        return [UInt32](unsafeUninitializedCapacity: window.count) { result, filled in
            var index = starts.lastIndex(atMost: window.lowerBound)
            while filled < window.count {
                let position = window.lowerBound + filled - starts[index]
                let taken = min(starts[index + 1] - starts[index] - position, window.count - filled)
                let target = UnsafeMutableBufferPointer(rebasing: result[filled..<filled + taken])
                switch parts[index] {
                case .stretch(let corpus, let from):
                    corpora[corpus].copy(from + position..<from + position + taken, into: target)
                case .ids(let ids): _ = target.update(fromContentsOf: ids[position..<position + taken])
                }
                filled += taken
                index += 1
            }
        }
    }
}

/// Documents in pieces of at most T inputs, each piece starting at the last target of the one before. A document of a
/// single token has nothing to predict and is left out. What a corpus has put in front is part of each document.
package struct DocumentPieces: SequenceIndex {
    package let targetCount: Int
    private let length: Int
    private let corpora: [TokenCorpus]
    private let pieces: [Pieces]
    /// The first sequence of each corpus, and at the end the number of all.
    private let starts: [Int]

    /// The pieces of one corpus.
    private enum Pieces {
        /// Documents of one length, one after the other.
        case rows(length: Int, perRow: Int)
        case listed([Piece])
    }

    /// A piece of a document: a part of the prefix, if any, and ids from a position on.
    private struct Piece {
        let start: Int
        let inputs: UInt32
        /// Ids of the prefix that are not in the piece.
        let skipped: UInt32
    }

    /// A document is a row of a corpus that has rows; otherwise what stands between two ends, or, without any ends, the
    /// corpus. The ends themselves are in no document.
    ///
    /// - Precondition: `length` is less than 2³².
    package init(_ corpora: [TokenCorpus], length: Int, ends: [UInt32]) {
        self.corpora = corpora
        self.length = length
        var starts = [0]
        var pieces: [Pieces] = []
        var targets = 0
        for corpus in corpora {
            let isDivided = corpus.rowLength == nil && !ends.isEmpty
            if !isDivided, corpus.prefix.isEmpty, corpus.paddedRows == nil {
                let rowLength = corpus.rowLength ?? corpus.count
                let rows = corpus.count / rowLength
                let perRow = (rowLength - 1 + length - 1) / length
                pieces.append(.rows(length: rowLength, perRow: perRow))
                starts.append(starts[pieces.count - 1] + rows * perRow)
                targets += rows * (rowLength - 1)
            } else {
                let documents =
                    isDivided ? Self.stretches(between: corpus.positions(of: ends), corpus.count) : corpus.texts
                let listed = documents.flatMap { Self.pieces(of: $0, in: corpus, length) }
                pieces.append(.listed(listed))
                starts.append(starts[pieces.count - 1] + listed.count)
                targets += listed.reduce(0) { $0 + Int($1.inputs) }
            }
        }
        self.starts = starts
        self.pieces = pieces
        targetCount = targets
    }

    package var count: Int { starts[corpora.count] }

    private static func stretches(between ends: [Int], _ count: Int) -> [Range<Int>] {
        var first = 0
        return (ends + [count]).map { end in
            defer { first = end + 1 }
            return first..<end
        }
    }

    private static func pieces(of document: Range<Int>, in corpus: TokenCorpus, _ length: Int) -> [Piece] {
        guard !document.isEmpty else { return [] }
        let added = corpus.missingPrefix(of: document).count
        let last = added + document.count - 1
        return stride(from: 0, to: last, by: length).map { offset in
            Piece(
                start: document.lowerBound + max(0, offset - added), inputs: UInt32(min(length, last - offset)),
                skipped: UInt32(corpus.prefix.count - max(0, added - offset)))
        }
    }

    package func tokens(of sequence: Int) -> [UInt32] {
        let index = starts.lastIndex(atMost: sequence)
        let piece = sequence - starts[index]
        switch pieces[index] {
        case .rows(let rowLength, let perRow):
            let offset = piece % perRow * length
            let first = piece / perRow * rowLength + offset
            return corpora[index].ids(first..<first + min(length, rowLength - 1 - offset) + 1)
        case .listed(let pieces):
            let (piece, corpus) = (pieces[piece], corpora[index])
            let front = corpus.prefix.dropFirst(Int(piece.skipped)).prefix(Int(piece.inputs) + 1)
            return front + corpus.ids(piece.start..<piece.start + Int(piece.inputs) + 1 - front.count)
        }
    }
}

extension TokenCorpus {
    /// Where the texts are: the rows without their padding, or all of a running text.
    fileprivate var texts: [Range<Int>] {
        if let paddedRows { return paddedRows.texts }
        guard let rowLength, !prefix.isEmpty else { return [0..<count] }
        return stride(from: 0, to: count, by: rowLength).map { $0..<$0 + rowLength }
    }

    /// What is to be put in front of a text.
    fileprivate func missingPrefix(of text: Range<Int>) -> [UInt32] {
        prefix.isEmpty || ids(text.prefix(prefix.count)) == prefix ? [] : prefix
    }
}

extension [Range<Int>] {
    /// Makes one of two that follow each other without a gap.
    fileprivate mutating func joinNeighbours() {
        var joined: [Range<Int>] = []
        for range in self {
            if let last = joined.last, last.upperBound == range.lowerBound {
                joined[joined.count - 1] = last.lowerBound..<range.upperBound
            } else {
                joined.append(range)
            }
        }
        self = joined
    }
}

extension [Int] {
    /// Index of the last element that is at most `value`, in an ascending array whose first element is.
    fileprivate func lastIndex(atMost value: Int) -> Int {
        var low = 0
        var high = count
        while high - low > 1 {
            let middle = (low + high) / 2
            if self[middle] <= value { low = middle } else { high = middle }
        }
        return low
    }
}
