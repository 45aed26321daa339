import Tensors
import Testing

@testable import Tokenizers

@Suite("Sentencepiece")
struct SentencePieceTests {
    private func load(_ name: String) throws -> SentencePieceTokenizer {
        try SentencePieceTokenizer(model: Fixture.bytes("\(name).model"), path: name)
    }

    @Test("A text cut into words has the ids of the whole text")
    func cutting() throws {
        let tokenizer = try load("bpe")
        #expect(tokenizer.splitsAtSpaces)
        var generator = SeededGenerator(seed: 11)
        let parts: [[UInt8]] =
            [
                " ", " ", " ", "  ", "\n", "\t", "a", "the", "Tool", "<tool>", "5", "12", ".", "é", "北", "\u{2581}",
                "\u{0}",
            ].map { Array($0.utf8) } + [[0xE2, 0x96], [0xFF]]
        for _ in 0..<2000 {
            let text = (0..<Int.random(in: 0..<40, using: &generator))
                .flatMap { _ in parts.randomElement(using: &generator)! }
            var whole: [UInt32] = []
            try text.withUnsafeBufferPointer { try tokenizer.encodeWhole($0, into: &whole) }
            #expect(try tokenizer.encode(text) == whole, "\(text)")
        }
    }

    @Test("A model that may not be cut is recognised")
    func uncut() throws {
        #expect(try !load("unigram").splitsAtSpaces)
        let bytes = try Fixture.bytes("bpe.model")
        #expect(SentencePieceModel(bytes).splitsAtSpaces)
        // A piece that reaches into the next word: message 1 (pieces), field 1 (spelling).
        let spelling = Array("a\u{2581}b".utf8)
        let piece: [UInt8] = [0x0A, UInt8(spelling.count + 2), 0x0A, UInt8(spelling.count)] + spelling
        #expect(!SentencePieceModel(bytes + piece).splitsAtSpaces)
        // Rules for characters: message 3 (normaliser), field 2; no space in front: field 3.
        #expect(!SentencePieceModel(bytes + [0x1A, 0x03, 0x12, 0x01, 0x00]).splitsAtSpaces)
        #expect(!SentencePieceModel(bytes + [0x1A, 0x02, 0x18, 0x00]).splitsAtSpaces)
        // Another kind of model: message 2 (training), field 3.
        #expect(!SentencePieceModel(bytes + [0x12, 0x02, 0x18, 0x01]).splitsAtSpaces)
    }
}
