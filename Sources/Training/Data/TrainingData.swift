import TokenData

/// The sequences of a training run: cut from texts, split into those to train on and those held out, and put into an
/// endless shuffled order. All of it follows from the texts and the settings, so that a place in that order – the
/// *cursor*, which counts sequences – is all a run must remember to be resumed.
///
/// Neither texts nor order are held in memory; documents between ends, and rows without their padding, cost 16 bytes each. Readable from several
/// threads at once.
public final class TrainingData: Sendable {
    /// Inputs of a sequence, T; documents may be shorter.
    public let sequenceLength: Int
    /// Sequences of one epoch.
    public let trainingCount: Int
    /// Sequences held out.
    public let evaluationCount: Int
    /// Tokens of all texts, padding and what is put in front of them not counted.
    public let tokenCount: Int
    /// Ids of token files that are padding.
    public let paddingCount: Int
    /// Targets of all sequences, those held out included: what is left of the tokens after cutting.
    public let targetCount: Int

    private let name: String
    private let vocabularySize: Int
    private let seed: UInt64
    private let index: any SequenceIndex
    /// Its first places are the sequences held out, the others are trained on.
    private let split: Permutation

    /// The longest sequence that can be asked for.
    public static let longestSequence = 1 << 24

    /// How texts become sequences.
    public struct Cutting: Sendable {
        /// T, inputs of a sequence.
        public var sequenceLength: Int
        /// `packed`: window k has the tokens kT to kT + T of all texts one after the other. `documents`: one sequence per row
        /// of a two-dimensional file, or per stretch between separators, in pieces of T inputs if longer.
        public var packing: Packing
        /// The id that `packed` puts between two corpora, usually the end of text. `nil`: they are joined as they are.
        public var separator: UInt32?
        /// The ids at which `documents` cuts running texts; it leaves them out. None: each corpus is one document. `nil`: the
        /// separator alone.
        public var ends: [UInt32]?

        public init(sequenceLength: Int, packing: Packing, separator: UInt32?, ends: [UInt32]? = nil) {
            self.sequenceLength = sequenceLength
            self.packing = packing
            self.separator = separator
            self.ends = ends
        }
    }

    /// Checks all ids – one pass over the files, unless their type has no room for other numbers – and lays out the
    /// sequences.
    ///
    /// - Parameters:
    ///   - cutting: how.
    ///   - evaluationFraction: part of the sequences to hold out, in 0..<1. The number is rounded, but if the fraction is not
    ///     0 it is at least 1, and one sequence always remains to train on.
    ///   - seed: chooses which are held out, and the order of the others.
    ///   - vocabularySize: ids are less than it.
    /// - Throws: `TrainingError.data` for an id beyond the vocabulary, naming its place, and for too few tokens;
    ///   `TrainingError.setting` for a sequence length outside 1...`longestSequence` or a separator beyond the vocabulary.
    public init(
        _ corpora: [TokenCorpus], _ cutting: Cutting, evaluationFraction: Double, seed: UInt64, vocabularySize: Int
    ) throws(TrainingError) {
        let (sequenceLength, packing, separator) = (cutting.sequenceLength, cutting.packing, cutting.separator)
        precondition(!corpora.isEmpty, "no texts")
        precondition((0..<1).contains(evaluationFraction), "a fraction of \(evaluationFraction)")
        precondition(vocabularySize > 0, "a vocabulary of \(vocabularySize)")
        guard (1...Self.longestSequence).contains(sequenceLength) else {
            throw .setting(
                name: "sequence length", found: "\(sequenceLength)", expected: "1 to \(Self.longestSequence) tokens")
        }
        if let separator, separator >= vocabularySize {
            throw .setting(
                name: "separator", found: "the id \(separator)",
                expected: "less than the model's vocabulary size \(vocabularySize)")
        }
        for corpus in corpora { try Self.check(corpus, vocabularySize) }
        let ends = cutting.ends ?? separator.map { [$0] } ?? []
        let index: any SequenceIndex =
            switch packing {
            case .packed: PackedWindows(corpora, length: sequenceLength, separator: separator, ends: ends)
            case .documents: DocumentPieces(corpora, length: sequenceLength, ends: ends)
            }
        let names = corpora.prefix(3).map(\.name) + (corpora.count > 3 ? ["\(corpora.count - 3) more"] : [])
        let tokens = corpora.reduce(0) { $0 + $1.textCount }
        let name = names.joined(separator: ", ")
        guard index.count > 0 else {
            throw .data(
                name: name, found: "\(tokens) token\(tokens == 1 ? "" : "s")",
                expected: packing == .documents
                    ? "a document of at least 2"
                    : "at least \(sequenceLength + 1): give a longer text or a shorter sequence length")
        }
        guard evaluationFraction == 0 || index.count > 1 else {
            throw .data(
                name: name, found: "1 sequence of up to \(sequenceLength) tokens",
                expected: "at least 2, one of them to hold out: give a longer text, a shorter sequence length or no "
                    + "evaluation")
        }
        let heldOut = Int((Double(index.count) * evaluationFraction).rounded())
        self.evaluationCount = evaluationFraction == 0 ? 0 : min(max(heldOut, 1), index.count - 1)
        self.trainingCount = index.count - evaluationCount
        self.sequenceLength = sequenceLength
        self.tokenCount = tokens
        self.paddingCount = corpora.reduce(0) { $0 + $1.count - $1.textCount }
        self.targetCount = index.targetCount
        self.name = name
        self.vocabularySize = vocabularySize
        self.seed = seed
        self.index = index
        split = Permutation(count: index.count, seed: seed, stream: 0)
    }

    private static func check(_ corpus: TokenCorpus, _ vocabularySize: Int) throws(TrainingError) {
        guard corpus.textCount > 0 else {
            let found = corpus.count > 0 ? "nothing but padding" : "no tokens"
            throw .data(name: corpus.name, found: found, expected: "a text")
        }
        guard let (position, number) = corpus.firstUnknown(vocabulary: vocabularySize) else { return }
        throw .data(
            name: corpus.name, found: "the id \(number) at \(corpus.place(position))",
            expected: "0 to \(vocabularySize - 1), the model's vocabulary; were the tokens made with this model's "
                + "tokenizer?")
    }

    // MARK: - Reading

    /// The sequences `cursor..<cursor + count` of the endless order. Epoch e is the places from e · `trainingCount` on: all
    /// sequences that are not held out, each once, in an order of its own.
    ///
    /// - Throws: `TrainingError.data` if a file has been changed since it was checked and now holds other ids than the
    ///   model knows.
    public func batch(from cursor: Int, count: Int) throws(TrainingError) -> TrainingBatch {
        precondition(cursor >= 0 && count > 0, "\(count) sequences from \(cursor)")
        var epoch = cursor / trainingCount
        var order = self.order(ofEpoch: epoch)
        return try batch(of: cursor..<cursor + count) { place in
            if place / trainingCount != epoch {
                epoch = place / trainingCount
                order = self.order(ofEpoch: epoch)
            }
            return split[evaluationCount + order[place % trainingCount]]
        }
    }

    /// Some of the sequences held out, by their place in `0..<evaluationCount`; always the same ones.
    ///
    /// - Throws: as `batch(from:count:)`.
    public func evaluationBatch(_ places: Range<Int>) throws(TrainingError) -> TrainingBatch {
        precondition(
            places.lowerBound >= 0 && places.upperBound <= evaluationCount && !places.isEmpty,
            "sequences \(places) of \(evaluationCount) held out")
        return try batch(of: places) { split[$0] }
    }

    private func order(ofEpoch epoch: Int) -> Permutation {
        Permutation(count: trainingCount, seed: seed, stream: UInt64(epoch) + 1)
    }

    private func batch(
        of places: Range<Int>, _ sequence: (Int) -> Int
    ) throws(TrainingError) -> TrainingBatch {
        let batch = TrainingBatch(places.map { TrainingSequence(tokens: index.tokens(of: sequence($0))) })
        // Looked at again, because the model trusts ids, and who writes to a mapped file changes what was checked.
        let largest = max(batch.tokens.ids.max() ?? 0, batch.targets.lazy.compactMap { $0 }.max() ?? 0)
        guard largest < vocabularySize else {
            throw .data(
                name: name, found: "the id \(largest), which was not there at the start",
                expected: "token files that nobody writes to during training")
        }
        return batch
    }
}
