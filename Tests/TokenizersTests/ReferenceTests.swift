import TestSupport
import Testing

@testable import Tokenizers

@Suite("Ids equal those of the reference implementations")
struct ReferenceTests {
    static let byteLevel = ["gpt2", "gpt2prefix", "llama3", "qwen2", "smollm2"]
    static let all = byteLevel + ["bpe", "unigram"]

    @Test("for each text, from prose to noise", arguments: all)
    func encoding(name: String) throws {
        let tokenizer = try Fixture.tokenizer(name)
        let expected = try Fixture.expected()
        let texts = (expected["texts"]?.arrayValue ?? []).compactMap(\.stringValue)
        let lists = try #require(expected["ids"]?[name]?.arrayValue)
        try #require(texts.count == lists.count && texts.count > 250)
        for (text, list) in zip(texts, lists) {
            if let difference = difference(try tokenizer.encode(text), integers(list)) {
                Issue.record("\(text.debugDescription): \(difference)")
            }
        }
    }

    @Test("with begin and end tokens", arguments: all)
    func specialTokens(name: String) throws {
        let tokenizer = try Fixture.tokenizer(name)
        let expected = try Fixture.expected()
        let lists = try #require(expected["withSpecialTokens"]?[name]?.arrayValue)
        try #require(lists.count == 6)
        for (text, list) in zip(expected["texts"]?.arrayValue ?? [], lists) {
            let found = try tokenizer.encode(try #require(text.stringValue), addSpecialTokens: true)
            #expect(found == integers(list), "\(text)")
        }
    }

    @Test("and texts equal them for random ids, characters cut in half and unknown ids among them", arguments: all)
    func decoding(name: String) throws {
        let tokenizer = try Fixture.tokenizer(name)
        let cases = try #require(try Fixture.expected()["decoded"]?[name]?.arrayValue)
        try #require(cases.count == 25)
        for item in cases {
            let ids = integers(item["ids"])
            let text = try #require(item["text"]?.stringValue)
            #expect(tokenizer.decode(ids).utf8.elementsEqual(text.utf8), "\(ids)")
        }
    }

    @Test("Decoding gives back the text", arguments: ["gpt2", "llama3", "smollm2"])
    func roundTrip(name: String) throws {
        let tokenizer = try Fixture.tokenizer(name)
        // These two tokens swallow the white space beside them.
        let texts = (try Fixture.expected()["texts"]?.arrayValue ?? []).compactMap(\.stringValue)
            .filter { !$0.contains("<mask>") && !$0.contains("<r>") }
        #expect(texts.count > 200)
        for text in texts {
            expectEqual(tokenizer.decodeBytes(try tokenizer.encode(text)), Array(text.utf8), "\(text.debugDescription)")
        }
    }

    @Test("An added token comes back as it is written, even if it reads like bytes of a vocabulary")
    func addedTokenText() throws {
        let tokenizer = try Fixture.tokenizer("gpt2")
        let ids = try tokenizer.encode("é!")
        #expect(ids == [603])
        #expect(tokenizer.decode(ids) == "é!")
    }

    @Test("An encoding with a warm cache equals one with a cold cache", arguments: all)
    func cache(name: String) throws {
        let texts = (try Fixture.expected()["texts"]?.arrayValue ?? []).compactMap(\.stringValue)
        let warm = try Fixture.tokenizer(name)
        for _ in 0..<2 { for text in texts { _ = try warm.encode(text) } }
        for text in texts.suffix(40) {
            try expectEqual(warm.encode(text), Fixture.tokenizer(name).encode(text), "\(text.debugDescription)")
        }
    }

    @Test("Threads may share a tokenizer", arguments: ["smollm2", "bpe"])
    func sharing(name: String) async throws {
        let tokenizer = try Fixture.tokenizer(name)
        let texts = (try Fixture.expected()["texts"]?.arrayValue ?? []).compactMap(\.stringValue)
        let alone = try texts.map { try tokenizer.encode($0) }
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<4 { group.addTask { try texts.map { try tokenizer.encode($0) } == alone } }
            for try await same in group { #expect(same) }
        }
    }

    @Test("The comparison notices a wrong id, a missing one and one too many")
    func comparison() {
        #expect(difference([1, 2, 3], [1, 2, 3]) == nil)
        #expect(difference([1, 2, 3], [1, 3, 3]) == "id 1 is 2 instead of 3 (3 and 3 ids)")
        #expect(difference([1, 2], [1, 2, 3]) == "2 ids instead of 3")
        #expect(difference([1, 2, 3, 4], [1, 2, 3]) == "4 ids instead of 3")
    }

    @Test("Sizes and begin and end ids are known")
    func facts() throws {
        let gpt2 = try Fixture.tokenizer("gpt2")
        #expect(gpt2.vocabularySize == 604)
        #expect(gpt2.bosID == nil)
        #expect(gpt2.eosID == 0)
        let llama3 = try Fixture.tokenizer("llama3")
        #expect(llama3.vocabularySize == 605)
        #expect(llama3.bosID == 1)
        #expect(llama3.eosID == 0)
        let bpe = try Fixture.tokenizer("bpe")
        #expect(bpe.vocabularySize == 480)
        #expect(bpe.bosID == 1)
        #expect(bpe.eosID == 2)
    }
}
