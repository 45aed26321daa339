import ArgumentParser
import LowRank
import Transformer
import Workflows

extension Weighting: ExpressibleByArgument {}

/// How ranks are chosen; at most one of the policies is given.
public struct RankOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The same rank in all linear layers.", valueName: "count"))
    public var rank: Int?

    @Option(help: ArgumentHelp("The same rank, as a part of the hidden size; 0.25 is the paper's.", valueName: "ratio"))
    public var rankRatio: Double?

    @Option(
        help: ArgumentHelp("In each layer the least rank that keeps this share of its energy.", valueName: "share"))
    public var alpha: Double?

    @Option(
        help: ArgumentHelp(
            "Keep this share of the linear layers' parameters, where they matter most.", valueName: "share"))
    public var keep: Double?

    @Option(
        help: ArgumentHelp(
            "As --keep, for a model of at most so many bytes in single precision.", valueName: "bytes"))
    public var maxBytes: Int?

    @Option(
        help: ArgumentHelp(
            "As --keep, for at most so many FLOPs per token, head included, attention's scores not.",
            valueName: "count"))
    public var maxFlops: Int?

    @Option(help: ArgumentHelp("Ranks are multiples of this, as matrix kernels like them.", valueName: "count"))
    public var multiple = 8

    public init() {}

    private var given: [String] {
        [
            rank.map { _ in "--rank" }, rankRatio.map { _ in "--rank-ratio" }, alpha.map { _ in "--alpha" },
            keep.map { _ in "--keep" }, maxBytes.map { _ in "--max-bytes" }, maxFlops.map { _ in "--max-flops" },
        ].compactMap { $0 }
    }

    public var isGiven: Bool { !given.isEmpty }

    public func validate() throws {
        if given.count > 1 {
            throw ValidationError("\(given.joined(separator: " and ")): expected one way to choose ranks.")
        }
        for (name, value) in [("--rank", rank), ("--max-bytes", maxBytes), ("--max-flops", maxFlops)] {
            if let value, value < 1 { throw ValidationError("\(name) \(value): expected at least 1.") }
        }
        for (name, value) in [("--rank-ratio", rankRatio), ("--alpha", alpha), ("--keep", keep)] {
            if let value, !(value > 0 && value <= 1) {
                throw ValidationError("\(name) \(value): expected a number above 0, at most 1.")
            }
        }
        if !(1...1 << 30).contains(multiple) {
            throw ValidationError("--multiple \(multiple): expected 1 to \(1 << 30).")
        }
    }

    /// The choice that was asked for; nil if none was.
    public func choice(for model: LanguageModel, _ weighting: Weighting) -> RankChoice? {
        policy(for: model).map { RankChoice(policy: $0, multiple: multiple, weighting: weighting) }
    }

    /// The policy that was asked for; nil if none was.
    private func policy(for model: LanguageModel) -> RankPolicy? {
        if let rank { return .uniform(rank: rank) }
        if let rankRatio {
            return .uniform(rank: max(1, Int((rankRatio * Double(model.description.hiddenSize)).rounded())))
        }
        if let alpha { return .energy(alpha: alpha) }
        if let keep { return .keep(share: keep) }
        if let maxBytes { return .parameters(maxBytes / 4) }
        // Two FLOPs for each parameter of a matrix product; a tied embedding is the head, another one is only looked up.
        return maxFlops.map { flops in
            let lookup = model.description.tiesEmbedding ? 0 : model.weights.embedding.count
            return .parameters(flops / 2 + lookup)
        }
    }
}
