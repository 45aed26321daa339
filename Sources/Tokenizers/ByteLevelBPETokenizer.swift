import Checkpoints
import Synchronization

/// Byte pair encoding over bytes, as GPT-2, Llama 3, Qwen2 and SmolLM2 use it, from the text of a `tokenizer.json`.
///
/// Yields the ids that Hugging Face `tokenizers` yields. In addition any bytes can be encoded: invalid UTF-8 counts as
/// punctuation, byte by byte, and comes back from `decodeBytes` unchanged (but under an NFC normaliser as U+FFFD).
public final class ByteLevelBPETokenizer: Tokenizer {
    public let vocabularySize: Int
    public let bosID: UInt32?
    public let eosID: UInt32?
    public var prefixIDs: [UInt32] { definition.prefixIDs }
    public var suffixIDs: [UInt32] { definition.suffixIDs }
    public var endIDs: [UInt32] { definition.endIDs }

    private let model: BytePairModel
    private let definition: TokenizerDefinition
    /// Looked for in the text as it is, and then in the normalised text between those found.
    private let plainTokens: AddedTokenMatcher
    private let normalizedTokens: AddedTokenMatcher
    /// What an encoding takes and puts back when it is done; two at a time each have one.
    private let spareCache = Mutex<WordCache?>(nil)

    /// Reads a `tokenizer.json`.
    ///
    /// - Parameters:
    ///   - tokenizerJSON: its text as UTF-8.
    ///   - settings: what is said about it elsewhere. Whether a text gets a BOS in front is theirs to say before it is
    ///     the template's.
    ///   - path: where it came from, for error messages.
    /// - Throws: `TokenizerError.unreadable` if it is damaged or contradicts itself, `.unsupported` if it describes
    ///   another kind of tokenizer, naming what was found.
    public init(
        tokenizerJSON: [UInt8], settings: TokenizerSettings = TokenizerSettings(), path: String
    ) throws(TokenizerError) {
        definition = try TokenizerDefinition(tokenizerJSON, settings: settings, path: path)
        model = definition.model
        vocabularySize = definition.vocabularySize
        bosID = definition.bosID
        eosID = definition.eosID
        plainTokens = AddedTokenMatcher(definition.addedTokens.filter { !$0.isNormalized })
        normalizedTokens = AddedTokenMatcher(definition.addedTokens.filter(\.isNormalized))
    }

    public func encode(
        utf8 text: UnsafeBufferPointer<UInt8>, addSpecialTokens: Bool
    ) throws(TokenizerError) -> [UInt32] {
        guard text.count < UInt32.max else {
            throw .encodingFailed(reason: "it has \(text.count) bytes; at most 4 GiB go at once, cut it into parts")
        }
        var encoding = WordEncoding(
            model, definition.preTokenizer,
            cache: spareCache.withLock { cache in
                defer { cache = nil }
                return cache
            } ?? WordCache())
        encoding.output.reserveCapacity(text.count / 4 + 16)
        if addSpecialTokens { encoding.output.append(contentsOf: definition.prefixIDs) }
        if let start = text.baseAddress { encode(start, text.count, &encoding) }
        if addSpecialTokens { encoding.output.append(contentsOf: definition.suffixIDs) }
        if let byte = encoding.unencodable {
            throw .encodingFailed(
                reason:
                    "the vocabulary has no token for the byte 0x\(String(byte, radix: 16, uppercase: true)), and the "
                    + "unk_token \(quoted(model.missingUnknown ?? "")) is not in it either")
        }
        let cache = encoding.cache
        spareCache.withLock { $0 = cache }
        return encoding.output
    }

    private func encode(_ text: UnsafePointer<UInt8>, _ count: Int, _ encoding: inout WordEncoding) {
        for segment in plainTokens.segments(text, 0, count) {
            if let id = segment.id {
                encoding.output.append(id)
                continue
            }
            let part = UnsafeBufferPointer(start: text + segment.start, count: segment.end - segment.start)
            if let normalized = definition.normalizer.normalize(part) {
                normalized.withUnsafeBufferPointer { encodeNormalized($0.baseAddress!, $0.count, &encoding) }
            } else {
                encodeNormalized(part.baseAddress!, part.count, &encoding)
            }
        }
    }

    private func encodeNormalized(_ text: UnsafePointer<UInt8>, _ count: Int, _ encoding: inout WordEncoding) {
        for segment in normalizedTokens.segments(text, 0, count) {
            if let id = segment.id {
                encoding.output.append(id)
            } else {
                encoding.encode(text, segment.start, segment.end)
            }
        }
    }

    public func decodeBytes(_ ids: [UInt32]) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(ids.count * 4)
        for id in ids { result.append(contentsOf: definition.piece(id)) }
        return result
    }
}

/// The merges and what single bytes and whole words are to them.
struct BytePairModel: Sendable {
    /// The symbol of each byte; `nil` if the vocabulary has none.
    var symbols: [UInt32?]
    var merges: MergeTable
    /// What stands for a byte without a symbol; without it such bytes vanish.
    var unknown: UInt32?
    /// What should stand for it, but is not in the vocabulary either: such bytes cannot be encoded.
    var missingUnknown: String?
    /// Whether neighbouring unknown bytes become one unknown token.
    var fusesUnknown = false
    /// The vocabulary by its bytes, if a word that it holds is taken as it is (`ignore_merges`).
    var wholeWords: ByteStringTable?
}

/// The way from a stretch of text to words.
struct PreTokenizer: Equatable, Sendable {
    var steps: [WordSplitter] = []
    /// The step before which a piece that does not start with a space gets one.
    var prefixSpaceStep: Int?
}

/// One run of the encoder: scratch memory and the ids so far.
struct WordEncoding: ~Copyable {
    var output: [UInt32] = []
    /// A byte that has no token; the ids are then not those of the text.
    private(set) var unencodable: UInt8?
    private(set) var cache: WordCache
    private let model: BytePairModel
    private let preTokenizer: PreTokenizer
    private let classes = CharacterClasses.shared
    private var merger = BytePairMerger()
    private var symbols: [UInt32] = []

    init(_ model: BytePairModel, _ preTokenizer: PreTokenizer, cache: WordCache) {
        self.model = model
        self.preTokenizer = preTokenizer
        self.cache = cache
    }

    /// Appends the ids of `text[start..<end]`, which holds no added tokens and is not empty.
    mutating func encode(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int) {
        split(0, text, start, end)
    }

    private mutating func split(_ step: Int, _ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int) {
        if step == preTokenizer.prefixSpaceStep, text[start] != 0x20 {
            var prefixed: [UInt8] = [0x20]
            prefixed.append(contentsOf: UnsafeBufferPointer(start: text + start, count: end - start))
            prefixed.withUnsafeBufferPointer { splitFurther(step, $0.baseAddress!, 0, $0.count) }
        } else {
            splitFurther(step, text, start, end)
        }
    }

    private mutating func splitFurther(_ step: Int, _ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int) {
        guard step < preTokenizer.steps.count else { return encodeWord(text + start, end - start) }
        let splitter = preTokenizer.steps[step]
        let isLast = step + 1 == preTokenizer.steps.count && preTokenizer.prefixSpaceStep != step + 1
        var position = start
        while position < end {
            let next = splitter.endOfPiece(from: position, text, end, classes)
            if isLast {
                encodeWord(text + position, next - position)
            } else {
                split(step + 1, text, position, next)
            }
            position = next
        }
    }

    @inline(__always)
    private mutating func encodeWord(_ word: UnsafePointer<UInt8>, _ count: Int) {
        if count <= WordCache.longestWord {
            let hash = ByteStringTable.hash(word, count)
            if cache.append(word, count, hash: hash, to: &output) { return }
            let before = output.count
            mergeWord(word, count)
            cache.insert(word, count, hash: hash, output[before...])
        } else {
            mergeWord(word, count)
        }
    }

    @inline(never)
    private mutating func mergeWord(_ word: UnsafePointer<UInt8>, _ count: Int) {
        if let id = model.wholeWords?.find(word, count) { return output.append(id) }
        symbols.removeAll(keepingCapacity: true)
        var followsUnknown = false
        for index in 0..<count {
            if let symbol = model.symbols[Int(word[index])] {
                symbols.append(symbol)
                followsUnknown = false
            } else if let unknown = model.unknown {
                if !(followsUnknown && model.fusesUnknown) { symbols.append(unknown) }
                followsUnknown = true
            } else if model.missingUnknown != nil {
                unencodable = word[index]
            }
        }
        merger.merge(symbols, model.merges, into: &output)
    }
}
