import Checkpoints
import Testing

@testable import Tokenizers

@Suite("What a tokenizer puts in front of a text")
struct BeginningTests {
    private func byteLevel(_ name: String, _ settings: TokenizerSettings = .init()) throws -> any Tokenizer {
        try makeTokenizer(
            from: TokenizerBlob(.tokenizerJSON(Fixture.bytes("\(name).json")), settings: settings), path: "")
    }

    private func sentencePiece(_ settings: TokenizerSettings = .init()) throws -> any Tokenizer {
        try makeTokenizer(from: TokenizerBlob(.sentencepiece(Fixture.bytes("bpe.model")), settings: settings), path: "")
    }

    @Test("The template says it, alone or in a sequence; GPT-2 and Qwen have none")
    func template() throws {
        #expect(try byteLevel("llama3").prefixIDs == [1])
        for name in ["gpt2", "qwen2", "smollm2"] { #expect(try byteLevel(name).prefixIDs == [], "\(name)") }
    }

    @Test("add_bos_token counts for more than the template")
    func settings() throws {
        #expect(try byteLevel("llama3", .init(addsBOS: false)).prefixIDs == [])
        #expect(try byteLevel("llama3", .init(addsBOS: true)).prefixIDs == [1])
        let end = "<|endoftext|>"
        let added = try byteLevel("gpt2", .init(addsBOS: true, bosToken: end))
        #expect(added.prefixIDs == [0] && added.bosID == 0)
        #expect(try added.encode("a", addSpecialTokens: true) == [0] + added.encode("a"))
        // Without a BOS there is none to add, as transformers has it.
        #expect(try byteLevel("gpt2", .init(addsBOS: true)).prefixIDs == [])
    }

    @Test("Begin and end tokens that are named, a vocabulary's piece or an added token")
    func named() throws {
        let tokenizer = try byteLevel("gpt2", .init(bosToken: "a", eosToken: "b"))
        #expect(try tokenizer.bosID == tokenizer.encode("a")[0] && tokenizer.eosID == tokenizer.encode("b")[0])
        // A name that the vocabulary lacks says nothing.
        #expect(try byteLevel("gpt2", .init(eosToken: "<|nowhere|>")).eosID == 0)
    }

    @Test("A sentencepiece model has its BOS unless the settings say otherwise")
    func sentencePieces() throws {
        #expect(try sentencePiece().prefixIDs == [1])
        #expect(try sentencePiece(.init(addsBOS: true)).prefixIDs == [1])
        let without = try sentencePiece(.init(addsBOS: false))
        #expect(without.prefixIDs == [] && without.bosID == 1)
        #expect(try without.encode("the", addSpecialTokens: true) == without.encode("the"))
    }
}
