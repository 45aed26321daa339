import JSON
import Spectra
import Transformer

/// Which effective ranks a run follows while it trains, and how often.
public struct RankTracking: Sendable, Equatable {
    /// Steps from one measurement to the next; there is one before the first step and one after the last, too.
    public var interval: Int
    public var modules: [MeasuredModule]
    /// From 0, growing.
    public var blocks: [Int]
    public var sides: [Side]
    /// Fractions of the energy, as the user wrote them; they name the columns.
    public var alphas: [String]

    public init(
        interval: Int, modules: [MeasuredModule], blocks: [Int], sides: [Side] = [.output],
        alphas: [String] = ["0.90", "0.95", "0.99"]
    ) {
        self.interval = interval
        self.modules = modules
        self.blocks = blocks
        self.sides = sides
        self.alphas = alphas
    }

    var request: SpectrumRequest { SpectrumRequest(modules: modules, blocks: blocks, sides: sides) }

    /// The name and value of the first part that is invalid, and what it has to be.
    var problem: (name: String, found: String, expected: String)? {
        let fractions = alphas.map { Double($0) ?? .nan }
        if !(1...1 << 30).contains(interval) { return ("interval", "\(interval)", "1 to \(1 << 30)") }
        if modules.isEmpty { return ("modules", "none", "at least one") }
        if blocks.isEmpty || blocks[0] < 0 || zip(blocks, blocks.dropFirst()).contains(where: { $0 >= $1 }) {
            return ("layers", "\(blocks)", "growing numbers from 0")
        }
        if sides.isEmpty { return ("sides", "none", "at least one") }
        if alphas.isEmpty || !fractions.allSatisfy({ $0 > 0 && $0 <= 1 }) || Set(alphas).count != alphas.count {
            return ("alphas", alphas.joined(separator: ", "), "different fractions above 0, at most 1")
        }
        return nil
    }

    /// The first part that a model does not have.
    func problem(of model: ModelDescription) -> (name: String, found: String, expected: String)? {
        let count = model.blocks.count
        if blocks.last ?? 0 >= count { return ("layers", "\(blocks)", "0 to \(count - 1)") }
        let known = MeasuredModule.all(of: model)
        guard let module = modules.first(where: { !known.contains($0) }) else { return nil }
        return ("modules", module.name, "some of \(known.map(\.name).joined(separator: ", "))")
    }

    static let record = JSONRecord(
        blank: RankTracking(interval: 1, modules: [], blocks: []),
        [
            .required("interval", \.interval, .int),
            .required(
                "modules", \.modules,
                .list(of: .text("a module", parse: { MeasuredModule(name: $0) }, spell: { $0.name }))),
            .required("layers", \.blocks, .list(of: .int)), .required("sides", \.sides, .list(of: .choice)),
            .required("alphas", \.alphas, .list(of: .text)),
        ])
}
