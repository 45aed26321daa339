import JSON
import TokenData
import Tokenizers
import Transformer

/// Token ids of one input, and what of them counts as text.
public struct TokenStream: Sendable {
    public let name: String
    public private(set) var ids: [UInt32]
    /// Tokens of each sequence where the file says so; nil for a running text.
    public let rowLength: Int?
    /// What is put in front of each text or row that does not begin with it.
    public private(set) var prefix: [UInt32] = []
    /// What fills rows up, if anything can.
    public private(set) var padding: Padding?
    /// Ids that are padding, and whether they stand on the left.
    public private(set) var paddingCount = 0
    public private(set) var isPaddedLeft = false
    /// Rows of padding only.
    public private(set) var emptyRows = 0
    /// Why there is a BOS or none.
    private(set) var bosRule = BOSRule.never
    fileprivate var isText = false
    /// The most tokens that the model can see at a time, where it has learned its positions.
    private var longestSequence: Int?
    /// Where the texts are among the ids.
    private var places: [Range<Int>]

    public init(name: String, ids: [UInt32], rowLength: Int?) {
        self.name = name
        self.ids = ids
        self.rowLength = rowLength
        let length = max(1, rowLength ?? ids.count)
        places = stride(from: 0, to: ids.count, by: length).map { $0..<min($0 + length, ids.count) }
    }

    /// Puts in front what the options ask for, leaves padding out, and checks every id against the model's vocabulary.
    mutating func apply(
        _ options: SequenceOptions, isText: Bool, mayLackRows: Bool, tokenizer: () -> (any Tokenizer)?,
        _ special: SpecialIDs, _ model: ModelDescription
    ) throws {
        longestSequence = model.positionRows
        bosRule = options.bos
        self.isText = isText
        prefix = try options.bos.prefix(isText: isText, tokenizer: tokenizer, special, vocabulary: model.vocabularySize)
        if !isText, rowLength != nil || !mayLackRows {
            try leaveOutPadding(options, tokenizer: tokenizer, special)
        }
        try check(vocabulary: model.vocabularySize)
    }

    private mutating func leaveOutPadding(
        _ options: SequenceOptions, tokenizer: () -> (any Tokenizer)?, _ special: SpecialIDs
    ) throws {
        guard let rowLength else {
            if case .id(let id) = options.pad {
                throw InputError("\(name): --pad \(id) goes with a 2-D file, this is one running text")
            }
            return
        }
        guard let padding = try options.padding(special, ends: { try special.ends(and: tokenizer()) }) else { return }
        let rows = PaddedRows(places.map { padding.runs(of: ids[$0]) }, rowLength: rowLength)
        guard !rows.texts.isEmpty else { throw InputError("\(name): nothing but padding, the id \(padding.id)") }
        self.padding = padding
        places = rows.texts
        (paddingCount, isPaddedLeft, emptyRows) = (rows.paddingCount, rows.isLeft, rows.emptyRows)
    }

    private func check(vocabulary: Int) throws {
        let bound = UInt32(clamping: vocabulary)
        for place in places {
            guard let position = ids[place].firstIndex(where: { $0 >= bound }) else { continue }
            throw InputError(
                "\(name): \(TransformerError.token(id: ids[position], position: position, vocabulary: vocabulary))")
        }
    }

    /// Tokens that the prefix adds to a text.
    private func prefixCount(_ place: Range<Int>) -> Int { ids[place].starts(with: prefix) ? 0 : prefix.count }

    /// Keeps so many tokens, the prefix of each text included.
    mutating func truncate(to count: Int) {
        var left = count
        var kept: [Range<Int>] = []
        for place in places {
            let room = left - prefixCount(place)
            guard room > 0 else { break }
            kept.append(place.prefix(room))
            left = room - kept[kept.count - 1].count
        }
        places = kept
    }

    /// Tokens that go through the model if each text does as a whole.
    public var tokenCount: Int { places.reduce(0) { $0 + prefixCount($1) + $1.count } }

    /// Whether the texts are the ids as they are, one after the other.
    public var isUnchanged: Bool { prefix.isEmpty && paddingCount == 0 }

    /// The texts: each row without its padding, or all of a running text, with the prefix in front.
    public var texts: [ArraySlice<UInt32>] { places.map { withPrefix(ids[$0]) } }

    /// The rows of the file with the place of each one's text in it, for results that keep the file's shape.
    public var rowPlaces: [(row: Int, columns: Range<Int>)] {
        let length = rowLength ?? ids.count
        return places.map { place in
            let row = place.lowerBound / length
            return (row, place.lowerBound - row * length..<place.upperBound - row * length)
        }
    }

    /// Tokens of a sequence where nothing else is asked for: a whole row, else 512.
    public var usualLength: Int { rowLength.map { $0 + prefix.count } ?? min(512, longestSequence ?? 512) }

    /// Throws `InputError` for sequences that are longer than the model can see.
    func check(length: Int) throws {
        guard let longestSequence, length > longestSequence else { return }
        throw InputError(
            "\(name): sequences of \(length) tokens, expected at most \(longestSequence): the model has learned that "
                + "many positions")
    }

    /// The texts in pieces of `length`, each with the prefix in front, which counts. The last piece of a text may be
    /// shorter.
    ///
    /// - Precondition: `length` is larger than the prefix.
    public func sequences(length: Int) -> [ArraySlice<UInt32>] {
        precondition(length > prefix.count, "\(length) tokens behind a prefix of \(prefix.count)")
        return places.flatMap { place -> [ArraySlice<UInt32>] in
            var pieces: [ArraySlice<UInt32>] = []
            var start = place.lowerBound
            while start < place.upperBound {
                let rest = ids[start..<place.upperBound]
                let piece = rest.prefix(length - (rest.starts(with: prefix) ? 0 : prefix.count))
                pieces.append(withPrefix(piece))
                start = piece.endIndex
            }
            return pieces
        }
    }

    private func withPrefix(_ text: ArraySlice<UInt32>) -> ArraySlice<UInt32> {
        text.starts(with: prefix) ? text : ArraySlice(prefix + text)
    }
}

extension [TokenStream] {
    /// All sequences of at most `length` tokens (nil: whole rows, or 512), the BOS included, and no more than `maxTokens`
    /// tokens in all.
    ///
    /// - Throws: `InputError` for fewer than two tokens, and for a length that leaves no room behind the BOS.
    public func sequences(length: Int?, maxTokens: Int?) throws -> [ArraySlice<UInt32>] {
        var sequences: [ArraySlice<UInt32>] = []
        var left = maxTokens ?? .max
        for stream in self {
            let length = length ?? stream.usualLength
            guard length > stream.prefix.count else {
                throw InputError(
                    "--sequence-length \(length): no room behind the BOS, expected at least \(stream.prefix.count + 1)")
            }
            try stream.check(length: Swift.min(length, stream.texts.map(\.count).max() ?? 0))
            for sequence in stream.sequences(length: length) where left > stream.prefix.count {
                sequences.append(sequence.prefix(left))
                left -= sequences[sequences.count - 1].count
            }
        }
        guard sequences.reduce(0, { $0 + $1.count }) >= 2 else {
            throw InputError("\(first?.name ?? "input"): fewer than two tokens")
        }
        return sequences
    }

    /// Says what stands in front of the texts and what was left out of them.
    public func describe(each unit: String, _ console: Console) {
        guard let first else { return }
        switch (first.prefix.isEmpty, first.bosRule) {
        case (false, let rule):
            let ids = first.prefix.map(String.init).joined(separator: ", ")
            console.note("bos: \(ids) in front of each \(unit) (--bos \(rule.rawValue))")
        case (true, .never): console.note("bos: none (--bos never)")
        case (true, _):
            console.note(
                "bos: none"
                    + (first.isText ? ", the tokenizer puts none in front" : ", token files are taken as they are")
            )
        }
        for stream in self {
            guard let padding = stream.padding else { continue }
            console.note(
                "\(stream.name): \(grouped(stream.tokenCount)) tokens, \(grouped(stream.paddingCount)) of padding (id "
                    + "\(padding.id)\(stream.isPaddedLeft ? ", on the left" : "")) left out")
            if stream.emptyRows > 0 {
                console.warn("\(stream.name): left out are \(grouped(stream.emptyRows)) rows of padding only")
            }
        }
    }

    /// The same for a record: `bos`, with the rule and the ids, and `padding`, with the id and the number of tokens left
    /// out, or null.
    public var record: JSONObject {
        let padding = first { $0.padding != nil }?.padding
        return JSONObject([
            (
                "bos",
                [
                    "rule": .string(first?.bosRule.rawValue ?? BOSRule.never.rawValue),
                    "ids": .array((first?.prefix ?? []).map { .integer(Int($0)) }),
                ]
            ),
            (
                "padding",
                padding.map {
                    ["id": .integer(Int($0.id)), "tokens": .integer(reduce(0) { $0 + $1.paddingCount })]
                } ?? .null
            ),
        ])
    }
}
