import Files
import JSON

/// A model in the first ("legacy") layout of llama2.c: seven 32-bit integers, then all weights in float32.
///
/// The file has no magic number; it is known by its size, which must be exactly what the header says. A negative
/// vocabulary size stands for a head of its own. Rows of the query and key projections stand in the order of the
/// interleaved rotation and are put back into Hugging Face's half-split order; the rotation's tables are left out.
public final class Llama2CFile: TensorSource {
    public let path: String
    public let configuration: String?
    public let tensors: [TensorInfo]
    public var formatName: String { "llama2.c" }
    public var provenance: String? { #"{"format":"llama2.c"}"# }

    private let file: MappedFile
    private let stored: [String: StoredTensor]

    /// Throws `CheckpointError` if the file is missing or its size is not that of the model its header describes.
    public convenience init(path: String) throws(CheckpointError) {
        try self.init(MappedFile(path))
    }

    init(_ file: MappedFile) throws(CheckpointError) {
        self.file = file
        path = file.path
        guard let header = Header(file.bytes) else {
            throw .invalid(
                path: file.path, place: "header", found: "no seven sizes of a model", expected: "the header of llama2.c"
            )
        }
        guard let bytes = header.bytes, bytes == file.bytes.count else {
            throw .invalid(
                path: file.path, place: "header \(header)", found: "\(file.bytes.count) bytes",
                expected: "\(header.bytes.map { "\($0)" } ?? "more than any file's") bytes")
        }
        let layout = header.layout()
        tensors = layout.map(\.info)
        stored = Dictionary(uniqueKeysWithValues: layout.map { ($0.info.name, $0) })
        configuration = header.json.text(indent: 2)
    }

    /// Whether a file has the size that its first 28 bytes ask for.
    static func fits(_ bytes: UnsafeRawBufferPointer) -> Bool { Header(bytes)?.bytes == bytes.count }

    /// llama2.c has no tokenizer in the model's file; see `Llama2CTokenizer`.
    public func tokenizer() throws -> TokenizerBlob? { nil }

    public func read(_ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>) throws {
        guard let tensor = stored[name] else {
            throw CheckpointError.tensors(path: path, problems: ["\(name): missing"])
        }
        tensor.read(from: file, rows: rows, into: destination)
    }
}

extension Llama2CFile {
    private struct Header: CustomStringConvertible {
        let hidden, intermediate, layers, heads, keyValueHeads, vocabulary, context: Int
        let isTied: Bool

        var description: String {
            "(\(hidden), \(intermediate), \(layers), \(heads), \(keyValueHeads), \(isTied ? vocabulary : -vocabulary), "
                + "\(context))"
        }

        /// `nil` unless the numbers can be those of a model.
        init?(_ bytes: UnsafeRawBufferPointer) {
            guard bytes.count > 28 else { return nil }
            let numbers = (0..<7).map { Int(bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self)) }
            (hidden, intermediate, layers, heads) = (numbers[0], numbers[1], numbers[2], numbers[3])
            (keyValueHeads, vocabulary, context) = (numbers[4], abs(numbers[5]), numbers[6])
            isTied = numbers[5] > 0
            guard [hidden, intermediate, layers, heads, keyValueHeads, vocabulary, context].allSatisfy({ $0 > 0 }),
                hidden % (2 * heads) == 0, heads % keyValueHeads == 0
            else { return nil }
        }

        private var headSize: Int { hidden / heads }
        private var keyValueSize: Int { headSize * keyValueHeads }

        /// Every group of tensors in the order of the file: elements of one, and how many there are.
        private var groups: [(rows: Int, columns: Int?, count: Int)] {
            [
                (vocabulary, hidden, 1), (hidden, nil, layers), (hidden, hidden, layers),
                (keyValueSize, hidden, layers),
                (keyValueSize, hidden, layers), (hidden, hidden, layers), (hidden, nil, layers),
                (intermediate, hidden, layers), (hidden, intermediate, layers), (intermediate, hidden, layers),
                (hidden, nil, 1), (context, headSize, 1), (vocabulary, hidden, isTied ? 0 : 1),
            ]
        }

        private static let names = [
            "model.embed_tokens.weight", "input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.k_proj.weight",
            "self_attn.v_proj.weight", "self_attn.o_proj.weight", "post_attention_layernorm.weight",
            "mlp.gate_proj.weight", "mlp.down_proj.weight", "mlp.up_proj.weight", "model.norm.weight", "",
            "lm_head.weight",
        ]

        /// The size of the whole file; `nil` if it does not fit into an integer.
        var bytes: Int? {
            var sum = 7
            for (rows, columns, count) in groups {
                // Factors are below 2^31, so that a product of two fits.
                let (product, tooMany) = (rows * (columns ?? 1)).multipliedReportingOverflow(by: count)
                let (next, tooLarge) = sum.addingReportingOverflow(product)
                guard !tooMany, !tooLarge else { return nil }
                sum = next
            }
            let (bytes, overflow) = sum.multipliedReportingOverflow(by: 4)
            return overflow ? nil : bytes
        }

        /// All tensors, of a file whose size was found right.
        func layout() -> [StoredTensor] {
            var tensors: [StoredTensor] = []
            var offset = 28
            for (index, (rows, columns, count)) in groups.enumerated() {
                let size = rows * (columns ?? 1) * 4
                let name = Self.names[index]
                for item in 0..<count {
                    defer { offset += size }
                    if name.isEmpty { continue }  // cosines and sines of the rotation
                    let info = TensorInfo(
                        name: count == 1 && !(1...9).contains(index) ? name : "model.layers.\(item).\(name)",
                        shape: columns.map { [rows, $0] } ?? [rows], storedType: "f32", storedBytes: size)
                    let rotated = index == 2 ? heads : index == 3 ? keyValueHeads : nil
                    tensors.append(StoredTensor(info: info, type: .f32, offset: offset, interleavedHeads: rotated))
                }
            }
            return tensors
        }

        var json: JSONValue {
            [
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
                "hidden_size": .integer(hidden), "intermediate_size": .integer(intermediate),
                "num_hidden_layers": .integer(layers), "num_attention_heads": .integer(heads),
                "num_key_value_heads": .integer(keyValueHeads), "head_dim": .integer(headSize),
                "max_position_embeddings": .integer(context), "vocab_size": .integer(vocabulary),
                "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "rope_scaling": nil, "tie_word_embeddings": .bool(isTied),
                "attention_bias": false, "mlp_bias": false, "bos_token_id": 1, "eos_token_id": 2,
            ]
        }
    }
}

/// The vocabulary file that goes with a llama2.c model (`tokenizer.bin`, `tok512.bin`).
public enum Llama2CTokenizer {
    /// Reads the file – the greatest length, then score, length and bytes of each piece to the end of the file – and
    /// gives it as a serialised sentencepiece model. Pieces 0, 1 and 2 are unknown, begin and end of text.
    ///
    /// Throws `CheckpointError` if the file is cut short or no such vocabulary.
    public static func read(_ path: String) throws -> TokenizerBlob {
        let file = try MappedFile(path)
        var reader = ByteReader(file)
        let longest = try reader.read(UInt32.self, "greatest length of a piece")
        var pieces: [SentencePieceModel.Piece] = []
        while reader.remaining > 0 {
            let place = "piece \(pieces.count)"
            let score = try reader.read(Float.self, "score of \(place)")
            let length = try reader.read(UInt32.self, "length of \(place)")
            guard length <= longest, score.isFinite else {
                throw CheckpointError.invalid(
                    path: path, place: place, found: "score \(score), \(length) bytes",
                    expected: "a finite score and at most \(longest) bytes")
            }
            let text = try reader.string(count: Int(length), place)
            pieces.append(piece(text, score: score, index: pieces.count))
        }
        guard pieces.count > 3 else {
            throw CheckpointError.invalid(
                path: path, place: "vocabulary", found: "\(pieces.count) pieces", expected: "more than 3")
        }
        let bytes = pieces.indices.filter { pieces[$0].type == .byte }
        if bytes.count != 256 { for index in bytes { pieces[index].type = .normal } }
        let model = SentencePieceModel(pieces: pieces, bos: 1, eos: 2)
        return .sentencepiece(try model.serialized(path: path))
    }

    /// llama2.c stores spaces for sentencepiece's U+2581 and puts line breaks around the special tokens.
    private static func piece(_ text: String, score: Float, index: Int) -> SentencePieceModel.Piece {
        switch index {
        case 0: return .init(text: "<unk>", score: score, type: .unknown)
        case 1: return .init(text: "<s>", score: score, type: .control)
        case 2: return .init(text: "</s>", score: score, type: .control)
        default: break
        }
        let bytes = Array(text.utf8)
        if bytes.count == 6, text.hasPrefix("<0x"), bytes[5] == UInt8(ascii: ">"),
            UInt8(String(decoding: bytes[3...4], as: UTF8.self), radix: 16) != nil
        {
            return .init(text: text, score: score, type: .byte)
        }
        return .init(text: SentencePieceModel.escaped(text), score: score, type: .normal)
    }
}
