import TestSupport
import Testing
import TokenData

@testable import Training

@Suite("Sequences without padding, with what is put in front, between several ends")
struct TextRulesDataTests {
    private static let vocabulary = 97
    private static let pad: UInt32 = 0
    private static let bos: UInt32 = 1

    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func data(
        _ corpora: [TokenCorpus], length: Int, packing: Packing, separator: UInt32? = nil, ends: [UInt32]? = nil,
        vocabulary: Int = vocabulary
    ) throws -> TrainingData {
        try TrainingData(
            corpora, .init(sequenceLength: length, packing: packing, separator: separator, ends: ends),
            evaluationFraction: 0,
            seed: 1, vocabularySize: vocabulary)
    }

    /// Texts of these lengths, without the ids of padding, BOS and ends.
    private func texts(_ lengths: [Int]) -> [[UInt32]] {
        lengths.enumerated().map { randomIDs($1, below: 90, seed: UInt64($0 + 3)).map { $0 + 5 } }
    }

    private func filled(_ texts: [[UInt32]], _ length: Int, isLeft: Bool = false, id: UInt32 = pad) -> [UInt32] {
        texts.flatMap { text in
            let padding = [UInt32](repeating: id, count: length - text.count)
            return isLeft ? padding + text : text + padding
        }
    }

    private func expectSame(
        _ found: TrainingData, _ expected: TrainingData, _ what: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let isSame = try found.everySequence().sorted() == expected.everySequence().sorted()
        #expect(isSame, "\(what)", sourceLocation: sourceLocation)
        #expect(found.trainingCount == expected.trainingCount, "\(what)", sourceLocation: sourceLocation)
        #expect(found.targetCount == expected.targetCount, "\(what)", sourceLocation: sourceLocation)
    }

    @Test(
        "Rows that were filled up are the texts in them, mapped and held, on either side",
        arguments: Packing.allCases, [1, 3, 8, 40])
    func padding(packing: Packing, length: Int) throws {
        let texts = texts([13, 2, 1, 20, 20, 7])
        // As one running text if packed, as one corpus each if they are documents.
        let plain =
            packing == .packed
            ? [TokenCorpus(name: "plain", ids: texts.flatMap { $0 })]
            : texts.map { TokenCorpus(name: "plain", ids: $0) }
        let expected = try data(plain, length: length, packing: packing)
        for isLeft in [false, true] {
            let ids = filled(texts + [[]], 20, isLeft: isLeft)
            let corpora = [
                TokenCorpus(name: "held", ids: ids, rowLength: 20, padding: Padding(id: Self.pad)),
                try TokenCorpus(
                    file: folder.corpus("rows.npy", ids, rowLength: 20).name, padding: Padding(id: Self.pad)),
            ]
            for corpus in corpora {
                let found = try data([corpus], length: length, packing: packing)
                try expectSame(found, expected, "\(corpus.name), left: \(isLeft)")
                #expect(found.tokenCount == 63 && found.paddingCount == 77)
                #expect(corpus.paddedRows?.emptyRows == 1 && corpus.paddedRows?.isLeft == isLeft)
            }
        }
    }

    @Test("Padding may be beyond the vocabulary, text may not")
    func vocabulary() throws {
        let ids = filled(texts([3, 5]), 6, id: 200)
        let corpus = TokenCorpus(name: "rows", ids: ids, rowLength: 6, padding: Padding(id: 200))
        #expect(try data([corpus], length: 4, packing: .documents).tokenCount == 8)
        var wrong = ids
        wrong[7] = 99
        for corpus in [
            TokenCorpus(name: "held", ids: wrong, rowLength: 6, padding: Padding(id: 200)),
            try TokenCorpus(file: folder.corpus("wrong.npy", wrong, rowLength: 6).name, padding: Padding(id: 200)),
        ] {
            #expect { try data([corpus], length: 4, packing: .documents) } throws: {
                "\($0)".contains("the id 99 at row 1, column 1")
            }
        }
        let empty = TokenCorpus(name: "empty", ids: [0, 0], rowLength: 2, padding: Padding(id: 0))
        #expect { try data([empty], length: 1, packing: .packed) } throws: { "\($0)".contains("nothing but padding") }
    }

    @Test("What is put in front is part of each document, once", arguments: [1, 2, 5, 16, 40])
    func prefix(length: Int) throws {
        for prefix in [[Self.bos], [Self.bos, 2]] as [[UInt32]] {
            let documents = texts([1, 2, 17, 16, 5, 33])
            var ids = documents.flatMap { document -> [UInt32] in document + [3] }
            // One has it already, one is empty.
            ids += [3] + prefix + documents[2]
            let plain = (documents + [documents[2]]).map { TokenCorpus(name: "plain", ids: prefix + $0) }
            let found = try data(
                [TokenCorpus(name: "text", ids: ids, prefix: prefix)], length: length, packing: .documents, separator: 3
            )
            try expectSame(found, try data(plain, length: length, packing: .documents), "prefix of \(prefix.count)")
        }
    }

    @Test("Packed, it stands in front of each text and each row", arguments: [1, 4, 23])
    func packedPrefix(length: Int) throws {
        let texts = texts([9, 1, 14])
        let rows = filled(texts, 14)
        let found = try data(
            texts.map { TokenCorpus(name: "text", ids: $0, prefix: [Self.bos]) }
                + [TokenCorpus(name: "rows", ids: rows, rowLength: 14, padding: Padding(id: 0), prefix: [Self.bos])],
            length: length, packing: .packed, separator: 3)
        let stream =
            texts.flatMap { text -> [UInt32] in [Self.bos] + text + [3] }
            + texts.flatMap { text -> [UInt32] in [Self.bos] + text }
        try expectSame(
            found, try data([TokenCorpus(name: "plain", ids: stream)], length: length, packing: .packed), "\(length)")
        // Of a text that ends in another known end no separator follows.
        let ended = try data(
            [TokenCorpus(name: "a", ids: texts[0] + [4]), TokenCorpus(name: "b", ids: texts[2])], length: length,
            packing: .packed, separator: 3, ends: [3, 4])
        let joined = TokenCorpus(name: "plain", ids: texts[0] + [4] + texts[2])
        try expectSame(ended, try data([joined], length: length, packing: .packed), "\(length)")
    }

    @Test("Any of several ids ends a document", arguments: [2, 30])
    func ends(length: Int) throws {
        let documents = texts([4, 11, 1, 7])
        let ids = documents[0] + [3] + documents[1] + [2] + documents[2] + [2, 3] + documents[3]
        let expected = try data(
            documents.map { TokenCorpus(name: "plain", ids: $0) }, length: length, packing: .documents)
        for corpus in [TokenCorpus(name: "held", ids: ids), try folder.corpus("a.u16", ids)] {
            try expectSame(
                try data([corpus], length: length, packing: .documents, ends: [3, 2]), expected, corpus.name)
        }
    }
}
