/// The ways of training whose costs are compared (arXiv 2502.10940, section 4).
public enum TrainingMethod: String, Sendable, CaseIterable {
    /// All matrices dense.
    case fullRank = "full-rank"
    /// Full rank with vanilla gradient checkpointing: of each decoder layer only the input is kept.
    case gcp
    /// y = B·σ(A·x) for each linear layer.
    case cola
    /// CoLA that keeps the residual streams and the bottlenecks only.
    case colaM = "cola-m"
    /// y = W·x + B·A·x with a frozen W.
    case lora
    /// LoRA whose factors are added to W from time to time, which is too rare to count.
    case relora
    /// Full rank; AdamW's m and v are those of gradients that are projected to rank r.
    case galore
    /// W = B·A + S with a sparse S.
    case sltrain
}
