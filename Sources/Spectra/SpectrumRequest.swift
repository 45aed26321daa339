import Transformer

/// Which matrix of activations at a module.
public enum Side: String, Sendable, CaseIterable, Codable {
    case input, output
    /// A·x of a CoLA layer.
    case bottleneck
    /// σ(A·x) of a CoLA layer.
    case bottleneckActivated = "bottleneck_activated"
}

/// A place in a decoder layer that spectra are reported for.
public enum MeasuredModule: Hashable, Sendable, CaseIterable {
    case linear(LinearModule)
    /// The residual stream; its input enters the decoder layer, its output leaves it.
    case residual

    public static var allCases: [MeasuredModule] { LinearModule.allCases.map { .linear($0) } + [.residual] }

    public var name: String {
        switch self {
        case .linear(let module): module.rawValue
        case .residual: "residual"
        }
    }

    /// What tables for people call it: `down`, `residual`.
    public var shortName: String {
        switch self {
        case .linear(let module): module.shortName
        case .residual: name
        }
    }

    /// Takes a path (`mlp.down_proj`), its last part (`down_proj`) or that without `_proj` (`down`).
    public init?(_ text: String) {
        let found = Self.allCases.first { module in
            guard case .linear(let linear) = module else { return text == module.name }
            return [linear.rawValue, linear.shortName, linear.shortName + "_proj"].contains(text)
        }
        guard let found else { return nil }
        self = found
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
    public var layers: [Int]
    public var sides: [Side]
    /// Whether the mean over tokens is removed first.
    public var isCentered: Bool
    public var accumulation: Accumulation

    public init(
        modules: [MeasuredModule] = MeasuredModule.allCases, layers: [Int], sides: [Side] = [.output],
        isCentered: Bool = false, accumulation: Accumulation = .gram
    ) {
        self.modules = modules
        self.layers = layers
        self.sides = sides
        self.isCentered = isCentered
        self.accumulation = accumulation
    }
}

/// Which spectrum: of which matrix, where.
public struct SpectrumKey: Hashable, Sendable {
    /// From 0.
    public let layer: Int
    public let module: MeasuredModule
    public let side: Side
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

    /// How each requested spectrum of the decoder is derived, in the order of layers, modules and sides.
    ///
    /// The output of a dense layer follows from its input, which q, k and v, and gate and up, share. Only down is
    /// narrower after than before: unless its input is asked for anyway, its output is observed, at a fraction of the
    /// cost and memory.
    static func plan(_ request: SpectrumRequest, of decoder: Decoder) -> [Derivation] {
        request.layers.flatMap { index in
            request.modules.flatMap { module in
                request.sides.compactMap { side -> Derivation? in
                    let key = SpectrumKey(layer: index, module: module, side: side)
                    guard case .linear(let linear) = module else {
                        switch side {
                        case .input: return Derivation(key: key, site: .residualInput, maps: [])
                        case .output: return Derivation(key: key, site: .residualOutput, maps: [])
                        case .bottleneck, .bottleneckActivated: return nil
                        }
                    }
                    let observesInput = request.sides.contains { $0 == .input }
                    return plan(key, decoder.weights.layers[index][linear], linear, observesInput: observesInput)
                }
            }
        }
    }

    private static func plan(
        _ key: SpectrumKey, _ projection: Projection, _ module: LinearModule, observesInput: Bool
    ) -> Derivation? {
        let input = ActivationSite.input(module.inputOwner)
        switch (key.side, projection) {
        case (.input, _): return Derivation(key: key, site: input, maps: [])
        case (.output, .dense(let dense)):
            if module == .down, !observesInput, dense.weight.rows < dense.weight.columns {
                return Derivation(key: key, site: .mlpOutput, maps: [])
            }
            let map = Map(weight: dense.weight, isTransposed: false, bias: dense.bias)
            return Derivation(key: key, site: input, maps: [map])
        case (_, .dense): return nil
        case (let side, .lowRank(let lowRank)):
            let first = Map(weight: lowRank.a, isTransposed: true, bias: nil)
            let second = Map(weight: lowRank.b, isTransposed: true, bias: lowRank.bias)
            switch (side, lowRank.isActivated) {
            case (.output, true): return Derivation(key: key, site: .bottleneck(module), maps: [second])
            case (.output, false): return Derivation(key: key, site: input, maps: [first, second])
            case (.bottleneckActivated, true): return Derivation(key: key, site: .bottleneck(module), maps: [])
            default: return Derivation(key: key, site: input, maps: [first])
            }
        }
    }
}
