import Tensors
import TestSupport
import Testing
import TokenData

@testable import Training

@Suite("Sequences cut from texts")
struct TrainingDataTests {
    private static let vocabulary = 97

    private func data(
        _ corpora: [TokenCorpus], length: Int, packing: Packing = .packed, separator: UInt32? = nil,
        evaluation: Double = 0, seed: UInt64 = 1, vocabulary: Int = vocabulary
    ) throws -> TrainingData {
        try TrainingData(
            corpora, .init(sequenceLength: length, packing: packing, separator: separator),
            evaluationFraction: evaluation,
            seed: seed, vocabularySize: vocabulary)
    }

    private func texts(_ lengths: [Int], seed: UInt64 = 3) -> [[UInt32]] {
        lengths.enumerated().map { randomIDs($1, below: Self.vocabulary, seed: seed + UInt64($0)) }
    }

    private func corpora(_ texts: [[UInt32]]) -> [TokenCorpus] {
        texts.enumerated().map { TokenCorpus(name: "text \($0)", ids: $1) }
    }

    // MARK: - Naive twins

    private func naiveWindows(_ texts: [[UInt32]], _ length: Int, _ separator: UInt32?) -> [Pair] {
        var stream: [UInt32] = []
        for (index, text) in texts.enumerated() {
            stream += text
            if let separator, index + 1 < texts.count, text.last != separator { stream.append(separator) }
        }
        var result: [Pair] = []
        var start = 0
        while start + length < stream.count {
            result.append(
                Pair(
                    inputs: Array(stream[start..<start + length]),
                    targets: Array(stream[start + 1...start + length])))
            start += length
        }
        return result
    }

    private func naivePieces(_ documents: [[UInt32]], _ length: Int) -> [Pair] {
        documents.flatMap { document -> [Pair] in
            var result: [Pair] = []
            var inputs: [UInt32] = []
            var targets: [UInt32] = []
            for index in document.indices.dropLast() {
                inputs.append(document[index])
                targets.append(document[index + 1])
                if inputs.count == length || index + 2 == document.count {
                    result.append(Pair(inputs: inputs, targets: targets))
                    (inputs, targets) = ([], [])
                }
            }
            return result
        }
    }

    // MARK: - Packing

    @Test(
        "Windows are those of the joined texts, with and without separator", arguments: [1, 2, 7, 16, 101],
        [nil, 0] as [UInt32?])
    func packed(length: Int, separator: UInt32?) throws {
        var texts = texts([1, 211, 16, 1, 2, 333, 64, 5])
        // One text has its separator already; the last gets none.
        texts[2].append(0)
        let expected = naiveWindows(texts, length, separator)
        let data = try data(corpora(texts), length: length, separator: separator)
        #expect(data.trainingCount == expected.count)
        #expect(data.evaluationCount == 0)
        #expect(data.tokenCount == texts.reduce(0) { $0 + $1.count })
        #expect(data.targetCount == expected.count * length)
        try expectEqual(data.everySequence().sorted(), expected.sorted())
        #expect(try data.batch(from: 3, count: 2).tokens.lengths == [length, length])
    }

    @Test("A window needs the token after it: the number of windows at every length of text")
    func packedCounts() throws {
        for count in 2...40 {
            let ids = randomIDs(count, below: Self.vocabulary, seed: 5)
            for length in 1..<count {
                let data = try data(corpora([ids]), length: length)
                #expect(data.trainingCount == naiveWindows([ids], length, nil).count, "\(count) tokens, \(length)")
            }
        }
    }

    @Test("Documents between separators, long ones in pieces", arguments: [1, 2, 3, 10, 64])
    func documents(length: Int) throws {
        var generator = SeededGenerator(seed: 8)
        var texts: [[UInt32]] = []
        var documents: [[UInt32]] = []
        for text in 0..<3 {
            var ids: [UInt32] = []
            for count in [0, 1, 2, 3, 11, 21, 20, 0, 0, 64, 65, 1, 130].shuffled(using: &generator) {
                let document = randomIDs(count, below: 90, seed: generator.next()).map { $0 + 1 }
                documents.append(document)
                ids += (ids.isEmpty && text == 1 ? [] : [0]) + document
            }
            texts.append(text == 2 ? ids + [0] : ids)
        }
        // The first document of the second text has no separator before it, unless it is empty.
        let expected = naivePieces(documents, length)
        let data = try data(corpora(texts), length: length, packing: .documents, separator: 0)
        #expect(data.trainingCount == expected.count)
        #expect(data.targetCount == documents.reduce(0) { $0 + max(0, $1.count - 1) })
        try expectEqual(data.everySequence().sorted(), expected.sorted())
    }

    @Test("Rows are documents, and so is a text without separators", arguments: [1, 4, 6, 12, 13, 40])
    func rows(length: Int) throws {
        let rows = texts([13, 13, 13, 13, 13])
        let text = randomIDs(29, below: Self.vocabulary, seed: 1)
        let all = [
            TokenCorpus(name: "rows", ids: rows.flatMap { $0 }, rowLength: 13), TokenCorpus(name: "text", ids: text),
            TokenCorpus(name: "column", ids: [1, 2, 3], rowLength: 1),
        ]
        let expected = naivePieces(rows + [text], length)
        let data = try data(all, length: length, packing: .documents)
        #expect(data.trainingCount == expected.count)
        #expect(data.targetCount == 5 * 12 + 28)
        try expectEqual(data.everySequence().sorted(), expected.sorted())
        // Rows stay whole where the text is cut; packed, they are one running text.
        let separated = try self.data(all, length: length, packing: .documents, separator: text[9])
        let parts = text.split(separator: text[9]).map(Array.init)
        try expectEqual(separated.everySequence().sorted(), naivePieces(rows + parts, length).sorted())
        let packed = try self.data(all, length: length)
        let joined = naiveWindows([rows.flatMap { $0 }, text, [1, 2, 3]], length, nil)
        try expectEqual(packed.everySequence().sorted(), joined.sorted())
    }

    // MARK: - Order

    /// 101 windows that tell themselves apart by their first token.
    private func numbered(evaluation: Double, seed: UInt64 = 1) throws -> TrainingData {
        try data(
            [TokenCorpus(name: "numbers", ids: (0...303).map { $0 })], length: 3, evaluation: evaluation, seed: seed,
            vocabulary: 304)
    }

    private func windows(_ batch: TrainingBatch) -> [Int] { batch.sequences.map { Int($0.inputs[0]) / 3 } }

    @Test("Every epoch has all sequences once, each in its own order")
    func epochs() throws {
        let data = try numbered(evaluation: 0)
        let orders = try (0..<5).map { windows(try data.batch(from: $0 * 101, count: 101)) }
        for order in orders { expectEqual(order.sorted(), Array(0..<101)) }
        for (index, order) in orders.enumerated() {
            for other in orders[..<index] { #expect(zip(order, other).count { $0 == $1 } < 12) }
        }
    }

    @Test("The order follows from the seed alone: from any cursor, in batches of any size")
    func resumes() throws {
        let data = try numbered(evaluation: 0.1)
        let whole = windows(try data.batch(from: 0, count: 400))
        for size in [1, 7, 64, 200] {
            let again = try numbered(evaluation: 0.1)
            // Backwards, so that nothing can depend on what was read before.
            for start in stride(from: 0, to: 400 - size, by: size).reversed() {
                expectEqual(windows(try again.batch(from: start, count: size)), Array(whole[start..<start + size]))
            }
        }
        #expect(windows(try numbered(evaluation: 0.1, seed: 2).batch(from: 0, count: 400)) != whole)
        #expect(windows(try data.batch(from: 1_000_000_007, count: 3)).count == 3)
    }

    @Test("Sequences held out are never trained on", arguments: [0.001, 0.1, 0.5, 0.999])
    func split(fraction: Double) throws {
        let data = try numbered(evaluation: fraction)
        let heldOut = windows(try data.evaluationBatch(0..<data.evaluationCount))
        #expect(Set(heldOut).count == data.evaluationCount)
        #expect(data.trainingCount + data.evaluationCount == 101)
        #expect(data.evaluationCount == [0.001: 1, 0.1: 10, 0.5: 51, 0.999: 100][fraction])
        for epoch in 0..<4 {
            let trained = windows(try data.batch(from: epoch * data.trainingCount, count: data.trainingCount))
            expectEqual((trained + heldOut).sorted(), Array(0..<101))
        }
        // The same ones the next time, whatever was read before; others with another seed.
        let again = try numbered(evaluation: fraction)
        expectEqual(windows(try again.evaluationBatch(0..<again.evaluationCount)), heldOut)
        if heldOut.count > 2 {
            #expect(windows(try data.evaluationBatch(1..<3)) == Array(heldOut[1..<3]))
            let other = try numbered(evaluation: fraction, seed: 2)
            #expect(windows(try other.evaluationBatch(0..<other.evaluationCount)) != heldOut)
        }
    }

    @Test("Several threads read what one reads")
    func concurrent() async throws {
        let folder = try TemporaryFolder()
        let ids = randomIDs(5003, below: Self.vocabulary, seed: 2)
        let data = try data([folder.corpus("a.u16", ids)], length: 10, evaluation: 0.1)
        let expected = try (0..<64).map { try data.batch(from: $0 * 31, count: 17) }
        let found = try await withThrowingTaskGroup(of: (Int, TrainingBatch).self) { group in
            for index in 0..<64 { group.addTask { (index, try data.batch(from: index * 31, count: 17)) } }
            return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
        for (index, batch) in expected.enumerated() { expectIdentical(found[index], batch) }
    }
}
