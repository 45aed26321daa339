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
protocol SequenceIndex: Sendable {
    var count: Int { get }
    /// Targets of all sequences.
    var targetCount: Int { get }
    /// The tokens of a sequence, at least two.
    func tokens(of sequence: Int) -> [UInt32]
}

/// Windows of T inputs over the corpora as one stream, each starting at the last target of the one before. A separator, if
/// given, stands between two corpora unless the first ends in it; without one they are simply joined. What is left at the
/// end of the stream and does not fill a window belongs to none.
struct PackedWindows: SequenceIndex {
    let count: Int
    private let length: Int
    private let separator: UInt32?
    private let corpora: [TokenCorpus]
    /// Place in the stream where each corpus starts, and at the end where the stream ends.
    private let starts: [Int]

    init(_ corpora: [TokenCorpus], length: Int, separator: UInt32?) {
        var starts = [0]
        for (index, corpus) in corpora.enumerated() {
            let isFollowed = separator != nil && index + 1 < corpora.count && corpus.last != separator
            starts.append(starts[index] + corpus.count + (isFollowed ? 1 : 0))
        }
        self.corpora = corpora
        self.length = length
        self.separator = separator
        self.starts = starts
        count = max(0, starts[corpora.count] - 1) / length
    }

    var targetCount: Int { count * length }

    func tokens(of sequence: Int) -> [UInt32] {
        let window = sequence * length..<(sequence + 1) * length + 1
        return [UInt32](unsafeUninitializedCapacity: window.count) { result, filled in
            var index = starts.lastIndex(atMost: window.lowerBound)
            while filled < window.count {
                let position = window.lowerBound + filled - starts[index]
                let taken = min(corpora[index].count - position, window.count - filled)
                if taken > 0 {
                    let part = UnsafeMutableBufferPointer(rebasing: result[filled..<filled + taken])
                    corpora[index].copy(position..<position + taken, into: part)
                    filled += taken
                }
                if filled < window.count, let separator, starts[index] + corpora[index].count < starts[index + 1] {
                    result.initializeElement(at: filled, to: separator)
                    filled += 1
                }
                index += 1
            }
        }
    }
}

/// Documents in pieces of at most T inputs, each piece starting at the last target of the one before. A document of a
/// single token has nothing to predict and is left out.
struct DocumentPieces: SequenceIndex {
    let targetCount: Int
    private let length: Int
    private let corpora: [TokenCorpus]
    private let pieces: [Pieces]
    /// The first sequence of each corpus, and at the end the number of all.
    private let starts: [Int]

    /// The pieces of one corpus.
    private enum Pieces {
        /// Documents of one length, one after the other.
        case rows(length: Int, perRow: Int)
        /// First token and inputs of each piece, 12 bytes.
        case listed(starts: [Int], inputs: [UInt32])
    }

    /// A document is a row of a corpus that has rows; otherwise what stands between two separators, or, without a
    /// separator, the corpus. Separators themselves are in no document.
    ///
    /// - Precondition: `length` is less than 2³².
    init(_ corpora: [TokenCorpus], length: Int, separator: UInt32?) {
        self.corpora = corpora
        self.length = length
        var starts = [0]
        var pieces: [Pieces] = []
        var targets = 0
        for corpus in corpora {
            if corpus.rowLength == nil, let separator {
                let (first, inputs) = Self.pieces(between: corpus.positions(of: separator), corpus.count, length)
                pieces.append(.listed(starts: first, inputs: inputs))
                starts.append(starts[pieces.count - 1] + first.count)
                targets += inputs.reduce(0) { $0 + Int($1) }
            } else {
                let rowLength = corpus.rowLength ?? corpus.count
                let rows = corpus.count / rowLength
                let perRow = (rowLength - 1 + length - 1) / length
                pieces.append(.rows(length: rowLength, perRow: perRow))
                starts.append(starts[pieces.count - 1] + rows * perRow)
                targets += rows * (rowLength - 1)
            }
        }
        self.starts = starts
        self.pieces = pieces
        targetCount = targets
    }

    var count: Int { starts[corpora.count] }

    private static func pieces(
        between separators: [Int], _ count: Int, _ length: Int
    ) -> (starts: [Int], inputs: [UInt32]) {
        var starts: [Int] = []
        var inputs: [UInt32] = []
        var first = 0
        for index in 0...separators.count {
            let last = (index < separators.count ? separators[index] : count) - 1
            for start in stride(from: first, to: last, by: length) {
                starts.append(start)
                inputs.append(UInt32(min(length, last - start)))
            }
            first = last + 2
        }
        return (starts, inputs)
    }

    func tokens(of sequence: Int) -> [UInt32] {
        let index = starts.lastIndex(atMost: sequence)
        let piece = sequence - starts[index]
        let first: Int
        let inputs: Int
        switch pieces[index] {
        case .rows(let rowLength, let perRow):
            let offset = piece % perRow * length
            first = piece / perRow * rowLength + offset
            inputs = min(length, rowLength - 1 - offset)
        case .listed(let firsts, let counts):
            first = firsts[piece]
            inputs = Int(counts[piece])
        }
        return [UInt32](unsafeUninitializedCapacity: inputs + 1) { result, filled in
            filled = inputs + 1
            corpora[index].copy(
                first..<first + filled, into: UnsafeMutableBufferPointer(rebasing: result[..<filled]))
        }
    }
}

extension TokenCorpus {
    fileprivate var last: UInt32? {
        guard count > 0 else { return nil }
        var id: UInt32 = 0
        withUnsafeMutablePointer(to: &id) {
            copy(count - 1..<count, into: UnsafeMutableBufferPointer(start: $0, count: 1))
        }
        return id
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
