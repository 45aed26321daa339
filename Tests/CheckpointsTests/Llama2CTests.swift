import Files
import JSON
import TestSupport
import Testing

@testable import Checkpoints

@Suite("llama2.c files") struct Llama2CTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    /// hidden 8, MLP 6, two layers, two heads of size 4, one of keys and values, vocabulary 5, context 3.
    private func model(tied: Bool) -> (bytes: [UInt8], values: [Float]) {
        var bytes = littleEndian([8, 6, 2, 2, 1, tied ? 5 : -5, 3] as [Int32])
        let count = 40 + 16 + 128 + 64 + 64 + 128 + 16 + 96 + 96 + 96 + 8 + 12 + (tied ? 0 : 40)
        let values = (0..<count).map { Float($0) }
        bytes += littleEndian(values)
        return (bytes, values)
    }

    @Test("all tensors stand where the layout has them", arguments: [true, false])
    func layout(tied: Bool) throws {
        let (bytes, values) = model(tied: tied)
        let source = try Checkpoint.open(folder.write(bytes, "model.bin"))
        #expect(source.formatName == "llama2.c")
        #expect(source.tensors.count == (tied ? 20 : 21))
        let starts: [(String, Int, [Int])] = [
            ("model.embed_tokens.weight", 0, [5, 8]), ("model.layers.1.input_layernorm.weight", 48, [8]),
            ("model.layers.1.self_attn.v_proj.weight", 40 + 16 + 128 + 64 + 32, [4, 8]),
            ("model.layers.0.self_attn.o_proj.weight", 40 + 16 + 128 + 128, [8, 8]),
            ("model.layers.0.post_attention_layernorm.weight", 440, [8]),
            ("model.layers.0.mlp.gate_proj.weight", 456, [6, 8]),
            ("model.layers.1.mlp.down_proj.weight", 456 + 96 + 48, [8, 6]),
            ("model.layers.0.mlp.up_proj.weight", 456 + 192, [6, 8]), ("model.norm.weight", 744, [8]),
        ]
        for (name, start, shape) in starts + (tied ? [] : [("lm_head.weight", 764, [5, 8])]) {
            #expect(source.info(name)?.shape == shape)
            expectSameBits(try elements(source, name), values[start..<start + shape.reduce(1, *)], name)
        }
        // Rows 0 1 2 3 of a head are stored as 0 2 1 3.
        for (name, start, rows) in [("q_proj", 56 + 64, 8), ("k_proj", 56 + 128 + 32, 4)] {
            let expected = (0..<rows).flatMap { row in
                let from = start + (row / 4 * 4 + [0, 2, 1, 3][row % 4]) * 8
                return values[from..<from + 8]
            }
            let canonical = "model.layers.1.self_attn.\(name).weight"
            expectSameBits(try elements(source, canonical), expected, canonical)
            expectSameBits(try elements(source, canonical, rows: 1..<2), expected[8..<16], canonical)
        }
        let json = try JSONValue(parsing: #require(source.configuration))
        #expect(json["tie_word_embeddings"] == .bool(tied))
        #expect(json["hidden_size"] == 8)
        #expect(json["num_key_value_heads"] == 1)
        #expect(json["vocab_size"] == 5)
        #expect(json["rope_theta"] == 10000.0)
        #expect(json["rms_norm_eps"] == 1e-05)
        #expect(throws: CheckpointError.self) { try Checkpoint.open(source.path, configurationPath: "config.json") }
    }

    @Test("a size that is not the header's is refused", arguments: [-4, -1, 1, 4])
    func size(difference: Int) throws {
        var bytes = model(tied: true).bytes
        if difference < 0 { bytes.removeLast(-difference) } else { bytes += [UInt8](repeating: 0, count: difference) }
        let path = try folder.write(bytes, "model.bin")
        #expect(throws: CheckpointError.self) { try Llama2CFile(path: path) }
        #expect(throws: CheckpointError.self) { try Checkpoint.open(path) }
    }

    @Test("the greatest numbers of a header do not overflow")
    func overflow() throws {
        let path = try folder.write(
            littleEndian([0x7FFF_FFFE, .max, .max, 1, 1, .min, .max] as [Int32]) + [0, 0, 0, 0], "model.bin")
        #expect(throws: CheckpointError.self) { try Llama2CFile(path: path) }
    }

    @Test("damaged files never trap, and no file cut short is accepted")
    func damage() throws {
        let result = try fuzz(model(tied: false).bytes, name: "m.bin", rounds: 2000, seed: 4) {
            try Llama2CFile(path: $0)
        }
        #expect(result.truncationsAccepted == 0)
    }

    // MARK: - Tokenizer

    private func vocabulary(_ pieces: [(Float, String)], longest: UInt32 = 8) -> [UInt8] {
        pieces.reduce(littleEndian([longest])) { bytes, piece in
            bytes + littleEndian([piece.0]) + littleEndian([UInt32(piece.1.utf8.count)]) + Array(piece.1.utf8)
        }
    }

    private func pieces() -> [(Float, String)] {
        let hex = Array("0123456789ABCDEF")
        let bytes = (0..<256).map { (Float(0), "<0x\(hex[$0 / 16])\(hex[$0 % 16])>") }
        return [(0, "<unk>"), (0, "\n<s>\n"), (0, "\n</s>\n")] + bytes + [(-1, " t"), (-2, "é")]
    }

    @Test("a vocabulary file becomes a sentencepiece model")
    func tokenizer() throws {
        let path = try folder.write(vocabulary(pieces()), "tok.bin")
        guard case .sentencepiece(let bytes) = try Llama2CTokenizer.read(path).content else {
            Issue.record("no sentencepiece model")
            return
        }
        func contains(_ part: [UInt8]) -> Bool { bytes.indices.contains { bytes[$0...].starts(with: part) } }
        #expect(bytes.starts(with: [0x0A, 14, 0x0A, 5] + Array("<unk>".utf8) + [0x15, 0, 0, 0, 0, 0x18, 2]))
        #expect(contains([0x0A, 3] + Array("<s>".utf8) + [0x15, 0, 0, 0, 0, 0x18, 3]))
        #expect(contains([0x0A, 6] + Array("<0xA7>".utf8) + [0x15, 0, 0, 0, 0, 0x18, 6]))
        #expect(contains([0x0A, 4] + Array("\u{2581}t".utf8) + [0x15, 0, 0, 0x80, 0xBF]))
        #expect(contains([0x98, 0x02, 1]))
    }

    @Test("a vocabulary file cut short, or with wrong pieces, is refused")
    func badTokenizer() throws {
        let good = vocabulary(pieces())
        // Only between two pieces can a cut go unnoticed: the file does not say how many there are.
        for cut in [1, 2, 9, good.count - 2, good.count - 1] {
            let path = try folder.write(Array(good.dropLast(cut)), "tok.bin")
            #expect(throws: CheckpointError.self, "\(cut)") { try Llama2CTokenizer.read(path) }
        }
        for bad in [(Float.nan, "x"), (0, "far too long"), (0, "é"), (0, "")] {
            let path = try folder.write(vocabulary(pieces() + [bad]), "tok.bin")
            #expect(throws: CheckpointError.self) { try Llama2CTokenizer.read(path) }
        }
    }
}
