import Tensors
import TestSupport
import Testing

@testable import Tokenizers

@Suite("Byte pair encoding")
struct BytePairTests {
    /// The definition, word for word: merge the leftmost of the pairs of the lowest rank until none is left.
    private func naive(_ symbols: [UInt32], _ merges: [MergeTable.Merge]) -> [UInt32] {
        var ids = symbols
        while true {
            var best: (rank: Int, index: Int)?
            for index in ids.indices.dropLast() {
                let rank = merges.lastIndex { $0.left == ids[index] && $0.right == ids[index + 1] }
                if let rank, rank < best?.rank ?? .max { best = (rank, index) }
            }
            guard let (rank, index) = best else { return ids }
            ids.replaceSubrange(index...index + 1, with: [merges[rank].result])
        }
    }

    @Test("Scan and heap merge as the definition does", arguments: [1, 2, 3, 7, 39, 40, 41, 42, 97, 211])
    func merging(length: Int) {
        var generator = SeededGenerator(seed: UInt64(length))
        for round in 0..<20 {
            // Ids 0..<3 are bytes; each merge makes a new id of any two earlier ones.
            var merges: [MergeTable.Merge] = []
            for id in UInt32(3)..<30 {
                merges.append(
                    .init(
                        left: .random(in: 0..<id, using: &generator), right: .random(in: 0..<id, using: &generator),
                        result: id))
            }
            merges.shuffle(using: &generator)
            let symbols = (0..<length).map { _ in UInt32.random(in: 0..<3, using: &generator) }
            var merger = BytePairMerger()
            var found: [UInt32] = []
            merger.merge(symbols, MergeTable(merges), into: &found)
            expectEqual(found, naive(symbols, merges), "round \(round)")
        }
    }

    @Test("A heap yields its numbers in order")
    func heap() {
        var generator = SeededGenerator(seed: 3)
        var heap = MinimumHeap()
        let numbers = (0..<1000).map { _ in UInt64.random(in: 0..<500, using: &generator) }
        for number in numbers { heap.push(number) }
        var found: [UInt64] = []
        while let number = heap.pop() { found.append(number) }
        expectEqual(found, numbers.sorted())
    }

    @Test("A word of a megabyte without white space comes back whole")
    func longWord() throws {
        let tokenizer = try Fixture.tokenizer("gpt2")
        var generator = SeededGenerator(seed: 4)
        let word = (0..<1_000_000).map { _ in UInt8.random(in: 97...122, using: &generator) }
        let ids = try tokenizer.encode(word)
        #expect(ids.count < word.count)
        expectEqual(tokenizer.decodeBytes(ids), word)
    }

    @Test("Any bytes, valid UTF-8 or not, come back unchanged", arguments: ["gpt2", "llama3", "smollm2"])
    func anyBytes(name: String) throws {
        let tokenizer = try Fixture.tokenizer(name)
        var generator = SeededGenerator(seed: 5)
        for count in 0..<300 {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            expectEqual(tokenizer.decodeBytes(try tokenizer.encode(bytes)), bytes)
        }
        // Cut off in the middle of a character, too long a form, a surrogate, beyond the last character.
        for bytes: [UInt8] in [[0xE4, 0xB8], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0x80]] {
            expectEqual(tokenizer.decodeBytes(try tokenizer.encode(bytes)), bytes)
        }
    }

    @Test("The cache starts afresh when it is full, and stays right")
    func fullCache() throws {
        let tokenizer = try Fixture.tokenizer("gpt2")
        let text = (0..<200_000).map { " w\($0 % 70_000)x" }.joined()
        let ids = try tokenizer.encode(text)
        expectEqual(tokenizer.decode(ids), text)
        let again = try Fixture.tokenizer("gpt2").encode(" w69999x w0x")
        #expect(try tokenizer.encode(" w69999x w0x") == again)
    }

    @Test("Spellings that Swift takes for equal are different words of a vocabulary")
    func canonicalEquivalence() {
        var table = ByteStringTable(capacity: 1)
        let isNew = ["é", "e\u{301}", "é"].enumerated().map { table.insert(Array($1.utf8), value: UInt32($0 + 1)) }
        #expect(isNew == [true, true, false])
        #expect(table.find(Array("é".utf8)) == 1)
        #expect(table.find(Array("e\u{301}".utf8)) == 2)
        #expect(table.find(Array("e".utf8)) == nil)
    }

    @Test("A table finds all strings of any length, and no others")
    func table() {
        var table = ByteStringTable(capacity: 4)
        let strings = (0..<2000).map { Array("\(String(repeating: "x", count: $0 % 23))\($0)".utf8) }
        let areNew = strings.enumerated().map { table.insert($1, value: UInt32($0)) }
        #expect(areNew.allSatisfy { $0 })
        for (index, string) in strings.enumerated() { #expect(table.find(string) == UInt32(index)) }
        #expect(table.find(Array("x2000".utf8)) == nil)
        #expect(table.count == 2000)
    }

    @Test("The byte alphabet has 256 different printable characters and is undone")
    func alphabet() {
        #expect(Set(ByteAlphabet.scalars).count == 256)
        #expect(ByteAlphabet.scalars[0x20] == 0x120)
        #expect(ByteAlphabet.scalars[0x41] == 0x41)
        #expect(ByteAlphabet.scalars[0xAD] == 0x143)
        for byte in UInt8.min...UInt8.max {
            var bytes: [UInt8] = []
            ByteAlphabet.decode(String(decoding: ByteAlphabet.spelling(of: byte), as: UTF8.self), into: &bytes)
            #expect(bytes == [byte])
        }
        var bytes: [UInt8] = []
        ByteAlphabet.decode("a b", into: &bytes)
        #expect(bytes == Array("a b".utf8))
    }

    @Test("Character classes follow the general categories")
    func classes() {
        func classOf(_ scalar: Unicode.Scalar) -> UInt8 {
            Array(String(scalar).utf8).withUnsafeBufferPointer { text in
                let (value, length) = CharacterClasses.shared.at(0, text.baseAddress!, text.count)
                #expect(length == text.count)
                return value
            }
        }
        for value in UInt32(0)..<0x30000 {
            guard let scalar = Unicode.Scalar(value) else { continue }
            let properties = scalar.properties
            let isKnown = (properties.age?.major ?? 0) <= 16
            let expected: UInt8 =
                switch properties.generalCategory {
                case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
                    isKnown ? CharacterClass.letter : CharacterClass.other
                case .decimalNumber, .letterNumber, .otherNumber:
                    isKnown ? CharacterClass.number : CharacterClass.other
                default:
                    scalar == "\n" || scalar == "\r"
                        ? CharacterClass.lineBreak
                        : properties.isWhitespace ? CharacterClass.space : CharacterClass.other
                }
            let found = classOf(scalar)
            if found != expected { Issue.record("U+\(String(value, radix: 16)): \(found) instead of \(expected)") }
        }
    }
}
