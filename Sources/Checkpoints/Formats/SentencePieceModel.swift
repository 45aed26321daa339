import Files

/// A sentencepiece BPE vocabulary of the LLaMA kind, and its serialised form (protocol buffers, written by hand: a few
/// fields of one message).
struct SentencePieceModel {
    /// The numbers are those of the format, and of GGUF.
    enum PieceType: Int {
        case normal = 1, unknown, control, userDefined, unused, byte
    }

    struct Piece {
        var text: String
        var score: Float
        var type: PieceType
    }

    var pieces: [Piece]
    var addsDummyPrefix = true
    var bos: Int?
    var eos: Int?
    var pad: Int?

    /// Throws if the pieces cannot be a vocabulary: one of them empty or twice there, not one unknown piece, or bytes
    /// that are not all 256.
    func serialized(path: String) throws(CheckpointError) -> [UInt8] {
        var seen: Set<[UInt8]> = []
        for (index, piece) in pieces.enumerated() {
            guard !piece.text.isEmpty, seen.insert(Array(piece.text.utf8)).inserted else {
                throw .invalid(
                    path: path, place: "vocabulary, piece \(index)",
                    found: piece.text.isEmpty ? "an empty piece" : "\"\(piece.text)\" a second time",
                    expected: "pieces that are not empty and all different")
            }
        }
        let unknown = pieces.indices.filter { pieces[$0].type == .unknown }
        guard unknown.count == 1 else {
            throw .invalid(
                path: path, place: "vocabulary", found: "\(unknown.count) pieces of type unknown", expected: "one")
        }
        let byteCount = pieces.count { $0.type == .byte }
        guard byteCount == 0 || byteCount == 256 else {
            throw .invalid(path: path, place: "vocabulary", found: "\(byteCount) byte pieces", expected: "0 or 256")
        }
        for index in [bos, eos, pad].compactMap({ $0 }) where index >= pieces.count {
            throw .invalid(
                path: path, place: "vocabulary", found: "the special token \(index)",
                expected: "an index below \(pieces.count)")
        }

        var model = Message()
        for piece in pieces {
            var entry = Message()
            entry.text(1, piece.text)
            entry.float(2, piece.score)
            if piece.type != .normal { entry.integer(3, piece.type.rawValue) }
            model.message(1, entry)
        }
        var trainer = Message()
        trainer.integer(3, 2)  // BPE
        trainer.integer(4, pieces.count)
        trainer.integer(35, byteCount == 256 ? 1 : 0)
        trainer.integer(40, unknown[0])
        trainer.integer(41, bos ?? -1)
        trainer.integer(42, eos ?? -1)
        trainer.integer(43, pad ?? -1)
        trainer.text(45, pieces[unknown[0]].text)
        for (field, index) in [(46, bos), (47, eos), (48, pad)] {
            if let index { trainer.text(field, pieces[index].text) }
        }
        model.message(2, trainer)
        var normalizer = Message()
        normalizer.text(1, "identity")
        normalizer.integer(3, addsDummyPrefix ? 1 : 0)
        normalizer.integer(4, 0)  // extra white space stays
        normalizer.integer(5, 1)  // white space becomes U+2581
        model.message(3, normalizer)
        return model.bytes
    }

    /// Spaces as sentencepiece writes them inside pieces, U+2581.
    static func escaped(_ text: String) -> String {
        var scalars = String.UnicodeScalarView()
        for scalar in text.unicodeScalars { scalars.append(scalar == " " ? "\u{2581}" : scalar) }
        return String(scalars)
    }

    private struct Message {
        var bytes: [UInt8] = []

        private mutating func variable(_ value: UInt64) {
            var rest = value
            while rest >= 0x80 {
                bytes.append(UInt8(rest & 0x7F) | 0x80)
                rest >>= 7
            }
            bytes.append(UInt8(rest))
        }

        private mutating func key(_ field: Int, wire: Int) { variable(UInt64(field << 3 | wire)) }

        mutating func integer(_ field: Int, _ value: Int) {
            key(field, wire: 0)
            variable(UInt64(bitPattern: Int64(value)))
        }

        mutating func float(_ field: Int, _ value: Float) {
            key(field, wire: 5)
            for shift in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: value.bitPattern >> shift)) }
        }

        mutating func text(_ field: Int, _ value: String) {
            key(field, wire: 2)
            variable(UInt64(value.utf8.count))
            bytes.append(contentsOf: value.utf8)
        }

        mutating func message(_ field: Int, _ value: Message) {
            key(field, wire: 2)
            variable(UInt64(value.bytes.count))
            bytes.append(contentsOf: value.bytes)
        }
    }
}
