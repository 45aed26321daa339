import CKernels
import Tensors
import Transformer

/// A model whose predictions another one learns, at work beside it: it sees each batch just before.
public final class Teacher {
    public let decoder: Decoder
    /// Weight of the divergence from the teacher in the loss; the rest is the cross-entropy of the data.
    public let share: Double
    private let workspace: Workspace
    fileprivate let head: VocabularyHead

    public init(_ decoder: Decoder, share: Double, maximumTokens: Int, longestSequence: Int) {
        self.decoder = decoder
        self.share = share
        workspace = Workspace(decoder, maximumTokens: maximumTokens, longestSequence: longestSequence)
        head = VocabularyHead(decoder, maximumRows: maximumTokens)
    }

    /// Runs the teacher over a batch; the objective holds until the next one.
    public func objective(of batch: TokenBatch, targets: [UInt32?]) -> Distillation {
        Distillation(teacher: self, hidden: decoder.forward(batch, in: workspace), targets: targets)
    }

    /// Bytes of weights and buffers.
    public var bytes: Int { decoder.weights.bytes + workspace.bytes + head.bytes }
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
