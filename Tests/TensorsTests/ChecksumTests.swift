import CKernels
import Tensors
import TestSupport
import Testing

@Suite("Fletcher-32 checksums", .everyInstructionSet)
struct ChecksumTests {
    /// Word by word, with the sums folded as the format's own description has it.
    private func checksum(_ bytes: [UInt8]) -> UInt32 {
        var (low, high): (UInt32, UInt32) = (0, 0)
        for word in stride(from: 0, to: bytes.count, by: 2) {
            low += UInt32(bytes[word]) << 8 | UInt32(bytes[word + 1])
            low = (low & 0xFFFF) + low >> 16
            high += low
            high = (high & 0xFFFF) + high >> 16
        }
        return high << 16 | low
    }

    private func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }

    @Test(
        "Agree with a word-by-word sum at every kind of length",
        arguments: [0, 2, 4, 62, 64, 66, 126, 1000, 16_382, 16_384, 16_386, 40_000, 1_000_002])
    func lengths(_ count: Int) {
        let bytes = bytes(count, seed: UInt64(count))
        #expect(ck_has_fletcher32(bytes, count, checksum(bytes)))
        #expect(!ck_has_fletcher32(bytes, count, checksum(bytes) ^ 0x0000_0001))
        #expect(!ck_has_fletcher32(bytes, count, checksum(bytes) ^ 0x0001_0000))
    }

    @Test("Hold for the largest sums there are")
    func extremes() {
        for value in [0 as UInt8, 1, 255] {
            let bytes = [UInt8](repeating: value, count: 300_000)
            #expect(ck_has_fletcher32(bytes, bytes.count, checksum(bytes)))
        }
        #expect(checksum([1, 2, 3, 4]) == 0x0508_0406, "256·1 + 2 + 256·3 + 4, and twice the first word")
    }

    @Test("Notice any one changed byte and any two exchanged words")
    func damage() {
        let intact = bytes(16_500, seed: 5)
        let sum = checksum(intact)
        for place in stride(from: 0, to: intact.count, by: 7) {
            var bytes = intact
            bytes[place] ^= 0x10
            #expect(!ck_has_fletcher32(bytes, bytes.count, sum), "byte \(place)")
        }
        for word in stride(from: 0, to: intact.count - 66, by: 34) where intact[word] != intact[word + 66] {
            var bytes = intact
            bytes.swapAt(word, word + 66)
            #expect(!ck_has_fletcher32(bytes, bytes.count, sum), "word at byte \(word)")
        }
    }
}
