import Transformer

/// Which matrix of activations at a module.
public enum Side: String, Sendable, CaseIterable, Codable {
    case input, output
    /// A·x of a CoLA layer.
    case bottleneck
    /// σ(A·x) of a CoLA layer.
    case bottleneckActivated = "bottleneck_activated"
}

/// A place in a block that spectra are reported for: a linear layer, or the residual stream.
public struct MeasuredModule: Hashable, Sendable {
    /// The path of the linear layer inside the block, `mlp.down_proj`; or `residual`.
    public let name: String

    /// The residual stream; its input enters the block, its output leaves it.
    public static let residual = MeasuredModule(name: "residual")

    /// By its full name, as a record has it. Whether a model has it, `SpectrumAnalysis` checks.
    public init(name: String) { self.name = name }

    /// Takes a path (`mlp.down_proj`), its last part (`down_proj`) or that without `_proj` (`down`).
    ///
    /// Throws `SpectrumError.module` for what the model does not have.
    public init(_ text: String, of description: ModelDescription) throws(SpectrumError) {
        let all = Self.all(of: description)
        guard let found = all.first(where: { $0.names.contains(text) }) else {
            throw .module(text, known: all.map(\.shortName))
        }
        self = found
    }

    /// All that a model has, in the order of its blocks.
    public static func all(of description: ModelDescription) -> [MeasuredModule] {
        description.modules.map { MeasuredModule(name: $0) } + [.residual]
    }

    /// What tables for people call it: `down`, `residual`.
    public var shortName: String { LinearLayer.shortName(of: name) }

    private var names: [String] {
        self == .residual ? [name] : [name, name.split(separator: ".").last.map(String.init) ?? name, shortName]
    }
}

/// How activations are summed up.
public enum Accumulation: String, Sendable, CaseIterable {
    /// Double-precision second moments: fast, exact to about 10⁻⁸·σ₁.
    case gram
    /// QR factorisation slab by slab: slow, exact to about 10⁻¹⁵·σ₁; the reference.
    case qr
}

/// What to measure.
public struct SpectrumRequest: Sendable {
    public var modules: [MeasuredModule]
    public var blocks: [Int]
    public var sides: [Side]
    /// Whether the mean over tokens is removed first.
    public var isCentered: Bool
    public var accumulation: Accumulation

    public init(
        modules: [MeasuredModule], blocks: [Int], sides: [Side] = [.output], isCentered: Bool = false,
        accumulation: Accumulation = .gram
    ) {
        self.modules = modules
        self.blocks = blocks
        self.sides = sides
        self.isCentered = isCentered
        self.accumulation = accumulation
    }

    /// The linear layers of a model that are asked for, in the order of blocks and modules.
    public func linears(of description: ModelDescription) -> [LinearLayer] {
        blocks.flatMap { block in
            modules.compactMap { description.linear(.init(block: block, module: $0.name)) }
        }
    }
}

/// Which spectrum: of which matrix, where.
public struct SpectrumKey: Hashable, Sendable {
    /// From 0.
    public let block: Int
    public let module: MeasuredModule
    public let side: Side

    public init(block: Int, module: MeasuredModule, side: Side) {
        self.block = block
        self.module = module
        self.side = side
    }
}

/// How a spectrum follows from what was observed: by linear maps of the activations at a site.
struct Derivation {
    let key: SpectrumKey
    let site: ActivationSite
    /// y = M·x + b, one after the other.
    let maps: [Map]

    struct Map {
        let weight: Weight
        /// Whether `weight` is stored `[in, out]`.
        let isTransposed: Bool
        let bias: Weight?

        var outputs: Int { isTransposed ? weight.columns : weight.rows }
    }

    /// How each requested spectrum of the model is derived, in the order of blocks, modules and sides. A block that lacks a
    /// module is passed over.
    ///
    /// The output of a dense linear layer follows from its input, which others may share. One that is narrower after than
    /// before and whose output can be observed – down – is observed there, at a fraction of the cost and memory, unless its
    /// input is asked for anyway.
    static func plan(_ request: SpectrumRequest, of model: LanguageModel) -> [Derivation] {
        request.blocks.flatMap { block in
            request.modules.flatMap { module in
                request.sides.compactMap { side -> Derivation? in
                    let key = SpectrumKey(block: block, module: module, side: side)
                    guard module != .residual else { return residual(key) }
                    guard let linear = model.description.linear(.init(block: block, module: module.name)) else {
                        return nil
                    }
                    return plan(key, linear, model.weights[linear], observesInput: request.sides.contains(.input))
                }
            }
        }
    }

    private static func residual(_ key: SpectrumKey) -> Derivation? {
        switch key.side {
        case .input: Derivation(key: key, site: .residualInput, maps: [])
        case .output: Derivation(key: key, site: .residualOutput, maps: [])
        case .bottleneck, .bottleneckActivated: nil
        }
    }

    private static func plan(
        _ key: SpectrumKey, _ linear: LinearLayer, _ weights: LinearWeights, observesInput: Bool
    ) -> Derivation? {
        let input = ActivationSite.input(linear.role.stream)
        switch (key.side, weights) {
        case (.input, _): return Derivation(key: key, site: input, maps: [])
        case (.output, .dense(let dense)):
            if !observesInput, linear.outputs < linear.inputs, let output = outputSite(of: linear) {
                return Derivation(key: key, site: output, maps: [])
            }
            let map = Map(weight: dense.weight, isTransposed: false, bias: dense.bias)
            return Derivation(key: key, site: input, maps: [map])
        case (_, .dense): return nil
        case (let side, .lowRank(let lowRank)):
            let first = Map(weight: lowRank.a, isTransposed: true, bias: nil)
            let second = Map(weight: lowRank.b, isTransposed: true, bias: lowRank.bias)
            let bottleneck = ActivationSite.bottleneck(module: linear.module)
            switch (side, lowRank.isActivated) {
            case (.output, true): return Derivation(key: key, site: bottleneck, maps: [second])
            case (.output, false): return Derivation(key: key, site: input, maps: [first, second])
            case (.bottleneckActivated, true): return Derivation(key: key, site: bottleneck, maps: [])
            default: return Derivation(key: key, site: input, maps: [first])
            }
        }
    }

    /// Where what leaves a linear layer is shown.
    private static func outputSite(of linear: LinearLayer) -> ActivationSite? {
        linear.role == .down ? .feedForwardOutput : nil
    }
}
