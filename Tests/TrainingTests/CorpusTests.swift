import Files
import Foundation
import TestSupport
import Testing
import TokenData

@testable import Training

@Suite("Texts to train on")
struct CorpusTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func data(
        _ corpora: [TokenCorpus], length: Int = 4, packing: Packing = .packed, separator: UInt32? = nil,
        evaluation: Double = 0, vocabulary: Int = 100
    ) throws(TrainingError) -> TrainingData {
        try TrainingData(
            corpora, .init(sequenceLength: length, packing: packing, separator: separator),
            evaluationFraction: evaluation,
            seed: 3, vocabularySize: vocabulary)
    }

    private func refusal(_ body: () throws(TrainingError) -> TrainingData) -> String {
        do throws(TrainingError) {
            _ = try body()
            return "nothing was refused"
        } catch {
            return "\(error)"
        }
    }

    @Test("The same tokens give the same batches from every format", arguments: Packing.allCases)
    func formats(packing: Packing) throws {
        let ids = randomIDs(1001, below: 90, seed: 6)
        let reference = try data(
            [TokenCorpus(name: "held", ids: ids)], length: 8, packing: packing, separator: 5, evaluation: 0.1)
        let expected = try reference.batch(from: 7, count: 300)
        let heldOut = try reference.evaluationBatch(0..<reference.evaluationCount)
        let wide = try folder.wideCorpus("wide.npy", ids.map { Int64($0) }, shape: "(1001,)")
        let corpora = try ["a.u16", "a.u32", "a.npy", "a.h5", "b.h5:/x/y"].map { try folder.corpus($0, ids) } + [wide]
        #expect(corpora.map(\.isMapped) == [true, true, true, false, false, true])
        for corpus in corpora {
            #expect(corpus.count == 1001 && corpus.rowLength == nil)
            let data = try data([corpus], length: 8, packing: packing, separator: 5, evaluation: 0.1)
            try expectIdentical(data.batch(from: 7, count: 300), expected, corpus.name)
            try expectIdentical(data.evaluationBatch(0..<data.evaluationCount), heldOut, corpus.name)
        }
    }

    @Test("Rows come from arrays and datasets, in either order of elements")
    func rows() throws {
        let ids = randomIDs(77 * 13, below: 90, seed: 7)
        let columns = (0..<13).flatMap { column in (0..<77).map { Int64(ids[$0 * 13 + column]) } }
        let corpora = [
            TokenCorpus(name: "held", ids: ids, rowLength: 13),
            try folder.corpus("a.npy", ids, rowLength: 13),
            try folder.corpus("a.h5", ids, rowLength: 13),
            try folder.wideCorpus("columns.npy", columns, shape: "(77, 13)", isFortranOrder: true),
        ]
        #expect(corpora.map(\.isMapped) == [false, true, false, false])
        let batches = try corpora.map { corpus in
            #expect(corpus.rowLength == 13)
            return try data([corpus], length: 5, packing: .documents).batch(from: 0, count: 100)
        }
        for batch in batches { expectIdentical(batch, batches[0]) }
        #expect(Set(batches[0].tokens.lengths) == [5, 2])
    }

    @Test("An id beyond the vocabulary is named with its place, in every format")
    func unknownIDs() throws {
        // More than one block of the check, so that the first place must be found among several.
        var ids = [UInt32](repeating: 99, count: 2_500_001)
        #expect(
            refusal { () throws(TrainingError) in try data([TokenCorpus(name: "fits", ids: ids)]) }.contains("nothing"))
        for place in [2_500_000, 1_048_577, 1_048_576, 1_048_575, 4095, 0] {
            ids[place] = 100
            for corpus in [try folder.corpus("a.u16", ids), TokenCorpus(name: "held", ids: ids)] {
                #expect(
                    refusal { () throws(TrainingError) in try data([corpus]) }
                        == "\(corpus.name): found the id 100 at token \(place), expected 0 to 99, the model's "
                        + "vocabulary; were the tokens made with this model's tokenizer?")
            }
        }
        for name in ["b.u32", "b.npy", "b.h5"] {
            let corpus = try folder.corpus(name, [1, 2, 3, 4, 70_000, 5])
            #expect(
                refusal { () throws(TrainingError) in try data([corpus]) }.contains("the id 70000 at token 4"),
                "\(name)")
        }
        let rows = try folder.corpus("rows.npy", [1, 2, 3, 4, 100, 5], rowLength: 2)
        #expect(refusal { () throws(TrainingError) in try data([rows]) }.contains("the id 100 at row 2, column 0"))
    }

    @Test("Numbers of 64 bits that are no ids are refused, not cut down")
    func wideNumbers() throws {
        for (number, name) in [(-1, "minus"), (-(1 << 32) + 5, "low"), (1 << 32 + 5, "high")] as [(Int64, String)] {
            let corpus = try folder.wideCorpus("\(name).npy", [1, 2, number, 4, 5, 6], shape: "(6,)")
            for vocabulary in [100, 1 << 32] {
                #expect(
                    refusal { () throws(TrainingError) in try data([corpus], vocabulary: vocabulary) }
                        .contains("the id \(number) at token 2"))
            }
        }
    }

    @Test("Too little text is refused with what is needed")
    func tooShort() {
        func text(_ count: Int) -> TokenCorpus { TokenCorpus(name: "text", ids: .init(repeating: 1, count: count)) }
        #expect(refusal { () throws(TrainingError) in try data([text(5)]) } == "nothing was refused")
        #expect(
            refusal { () throws(TrainingError) in try data([text(4)]) }
                == "text: found 4 tokens, expected at least 5: give a longer text or a shorter sequence length")
        #expect(refusal { () throws(TrainingError) in try data([text(0)]) } == "text: found no tokens, expected a text")
        #expect(
            refusal { () throws(TrainingError) in try data([text(5)], separator: 1, evaluation: 0.5) }
                .hasPrefix("text: found 1 sequence of up to 4 tokens, expected at least 2"))
        #expect(refusal { () throws(TrainingError) in try data([text(9)], evaluation: 0.5) } == "nothing was refused")
        // Nothing but separators.
        #expect(
            refusal { () throws(TrainingError) in
                try data([text(9), text(1), text(1), text(1)], packing: .documents, separator: 1)
            } == "text, text, text, 1 more: found 12 tokens, expected a document of at least 2")
    }

    @Test("Settings out of range are refused")
    func settings() {
        let text = TokenCorpus(name: "text", ids: .init(repeating: 1, count: 50))
        for length in [0, -1, .max, TrainingData.longestSequence + 1] {
            #expect(
                refusal { () throws(TrainingError) in try data([text], length: length) }
                    == "setting sequence length: found \(length), expected 1 to 16777216 tokens")
        }
        for packing in Packing.allCases {
            #expect(
                refusal { () throws(TrainingError) in try data([text], packing: packing, separator: 100) }
                    == "setting separator: found the id 100, expected less than the model's vocabulary size 100")
        }
    }

    @Test("A missing or damaged file is refused as the token file's reader does")
    func badFiles() throws {
        let path = folder.file("none.u16")
        #expect(throws: CheckpointError.missing(path: path)) { try TokenCorpus(file: path) }
        #expect(throws: CheckpointError.self) { try TokenCorpus(file: folder.file("none.h5")) }
        #expect(throws: CheckpointError.self) { try TokenCorpus(file: "tokens.bin") }
    }

    @Test("A file that others write to meanwhile gives an error, not ids the model lacks")
    func changedFile() throws {
        let corpus = try folder.corpus("a.u16", .init(repeating: 7, count: 21))
        let data = try data([corpus])
        try expectEqual(data.batch(from: 0, count: 5).tokens.ids, [UInt32](repeating: 7, count: 20))
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: folder.file("a.u16")))
        try file.seek(toOffset: 40)
        // The last token of all: a target only.
        try file.write(contentsOf: [100, 0])
        try file.close()
        let error = #expect(throws: TrainingError.self) { try data.batch(from: 0, count: 5) }
        #expect("\(try #require(error))".contains("the id 100, which was not there at the start"))
    }

    // MARK: - Memory

    /// What a line of the process' own account of its memory says, in bytes; nil where the system keeps none.
    private func memory(_ line: String) -> Int? {
        guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return nil }
        let found = status.split(separator: "\n").first { $0.hasPrefix(line + ":") }
        return found?.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap { Int($0) }
            .map { $0 << 10 }
    }

    @Test("A gigabyte of tokens is opened and read without taking memory")
    func large() throws {
        let path = try folder.emptyFile("a.u16", bytes: 1 << 30)
        let before = memory("VmRSS")
        let corpus = try TokenCorpus(file: path)
        #expect(corpus.count == 1 << 29)
        // All numbers of 16 bits are ids of this vocabulary: there is nothing to check.
        let data = try TrainingData(
            [corpus], .init(sequenceLength: 1000, packing: .packed, separator: nil), evaluationFraction: 0.01, seed: 1,
            vocabularySize: 65_536)
        #expect(data.trainingCount + data.evaluationCount == (1 << 29 - 1) / 1000)
        for step in 0..<4 {
            let batch = try data.batch(from: step * 8, count: 8)
            expectEqual(batch.tokens.ids, [UInt32](repeating: 0, count: 8000))
        }
        // Held in memory, the ids would take 2 GiB; other tests of this process take some meanwhile.
        if let before, let after = memory("VmRSS") { #expect(after - before < 256 << 20, "\(after - before) bytes") }
    }

    @Test("The check of all ids gives the memory back that it reads")
    func checked() throws {
        let path = try folder.emptyFile("a.u16", bytes: 256 << 20)
        let before = memory("RssFile")
        let data = try data([TokenCorpus(file: path)], length: 1000, vocabulary: 1)
        #expect(data.trainingCount == (1 << 27 - 1) / 1000)
        if let before, let after = memory("RssFile") { #expect(after - before < 100 << 20, "\(after - before) bytes") }
    }
}
