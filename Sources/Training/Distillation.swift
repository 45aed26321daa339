import CKernels
import Tensors
import Transformer

/// A model whose predictions another one learns, at work beside it: it sees each batch just before.
///
/// What it makes of a sequence, the residual stream after its last block, is kept for the next time the sequence comes:
/// C numbers for each token, from which the whole distribution over the vocabulary follows, where the largest logits alone
/// would be an approximation. Sequences run one by one, so that what is kept does not depend on the batch.
public final class Teacher {
    public let model: LanguageModel
    /// Weight of the divergence from the teacher in the loss; the rest is the cross-entropy of the data.
    public let share: Double
    private let workspace: Workspace
    private let hidden: Matrix
    private var kept: [[UInt32]: Matrix] = [:]
    private var keptBytes = 0
    fileprivate let head: VocabularyHead

    /// What is kept at most: a third of a million tokens of a model with 576 features.
    public static let largestCache = 768 << 20

    public init(_ model: LanguageModel, share: Double, maximumTokens: Int, longestSequence: Int) {
        self.model = model
        self.share = share
        workspace = Workspace(model, maximumTokens: longestSequence, longestSequence: longestSequence)
        hidden = Matrix(uninitialized: [maximumTokens, model.description.hiddenSize])
        head = VocabularyHead(model, maximumRows: maximumTokens)
    }

    /// Runs the teacher over the sequences of a batch that it has not kept; the objective holds until the next one.
    public func objective(of batch: TokenBatch, targets: [UInt32?]) -> Distillation {
        for (start, length) in zip(batch.starts, batch.lengths) {
            let place = hidden.view.rows(start..<start + length)
            let sequence = Array(batch.ids[start..<start + length])
            if let states = kept[sequence] {
                place.pointer.update(from: states.pointer, count: states.count)
                continue
            }
            let states = model.forward(TokenBatch([sequence[...]]), in: workspace)
            place.pointer.update(from: states.pointer, count: length * hidden.columns)
            guard keptBytes + 4 * length * hidden.columns <= Self.largestCache else { continue }
            let copy = Matrix(uninitialized: [length, hidden.columns])
            copy.pointer.update(from: states.pointer, count: copy.count)
            kept[sequence] = copy
            keptBytes += copy.bytes
        }
        return Distillation(teacher: self, hidden: hidden.view.rows(0..<batch.count), targets: targets)
    }

    /// Bytes of weights and buffers, without what is kept.
    public var bytes: Int { model.weights.bytes + workspace.bytes + hidden.bytes + head.bytes }
}

/// λ · KL(teacher ‖ student) + (1 − λ) · cross-entropy, over the whole vocabulary (Hinton, Vinyals & Dean 2015, at
/// temperature 1).
public final class Distillation: TokenObjective {
    private let teacher: Teacher
    private let hidden: MatrixView<Float>
    private let targets: [UInt32?]
    private var first = 0
    private var logits: MatrixView<Float>?

    fileprivate init(teacher: Teacher, hidden: MatrixView<Float>, targets: [UInt32?]) {
        self.teacher = teacher
        self.hidden = hidden
        self.targets = targets
    }

    public func prepare(_ rows: Range<Int>) {
        first = rows.lowerBound
        logits = teacher.head.logits(of: hidden.rows(rows))
    }

    public func differentiate(token: Int, logits: UnsafeMutablePointer<Float>, count: Int, scale: Float) -> Double? {
        guard let target = targets[token], let own = self.logits else { return nil }
        precondition(own.columns == count, "a teacher with \(own.columns) logits for \(count)")
        return ck_distillation(logits, own.row(token - first), count, Int(target), Float(teacher.share), scale)
    }
}
