import JSON
import Spectra

/// Which effective ranks a run follows while it trains, and how often.
public struct RankTracking: Sendable, Equatable {
    /// Steps from one measurement to the next; there is one before the first step and one after the last, too.
    public var interval: Int
    public var modules: [MeasuredModule]
    /// From 0, growing.
    public var layers: [Int]
    public var sides: [Side]
    /// Fractions of the energy, as the user wrote them; they name the columns.
    public var alphas: [String]

    public init(
        interval: Int, modules: [MeasuredModule] = MeasuredModule.allCases, layers: [Int], sides: [Side] = [.output],
        alphas: [String] = ["0.90", "0.95", "0.99"]
    ) {
        self.interval = interval
        self.modules = modules
        self.layers = layers
        self.sides = sides
        self.alphas = alphas
    }

    var request: SpectrumRequest { SpectrumRequest(modules: modules, layers: layers, sides: sides) }

    /// The name and value of the first part that is none, and what it has to be.
    var problem: (name: String, found: String, expected: String)? {
        let fractions = alphas.map { Double($0) ?? .nan }
        if !(1...1 << 30).contains(interval) { return ("interval", "\(interval)", "1 to \(1 << 30)") }
        if modules.isEmpty { return ("modules", "none", "at least one") }
        if layers.isEmpty || layers[0] < 0 || zip(layers, layers.dropFirst()).contains(where: { $0 >= $1 }) {
            return ("layers", "\(layers)", "growing numbers from 0")
        }
        if sides.isEmpty { return ("sides", "none", "at least one") }
        if alphas.isEmpty || !fractions.allSatisfy({ $0 > 0 && $0 <= 1 }) || Set(alphas).count != alphas.count {
            return ("alphas", alphas.joined(separator: ", "), "different fractions above 0, at most 1")
        }
        return nil
    }
}

// MARK: - As JSON

extension RankTracking {
    var json: JSONValue {
        [
            "interval": .integer(interval), "modules": .array(modules.map { .string($0.name) }),
            "layers": .array(layers.map { .integer($0) }), "sides": .array(sides.map { .string($0.rawValue) }),
            "alphas": .array(alphas.map { .string($0) }),
        ]
    }

    /// nil for what is no such object.
    init?(_ json: JSONValue) {
        func list<Value>(_ name: String, _ convert: (JSONValue) -> Value?) -> [Value]? {
            guard let values = json[name]?.arrayValue else { return nil }
            let converted = values.compactMap(convert)
            return converted.count == values.count ? converted : nil
        }
        guard let interval = json["interval"]?.intValue,
            let modules = list("modules", { $0.stringValue.flatMap(MeasuredModule.init) }),
            let layers = list("layers", { $0.intValue }),
            let sides = list("sides", { $0.stringValue.flatMap(Side.init) }),
            let alphas = list("alphas", { $0.stringValue })
        else { return nil }
        self.init(interval: interval, modules: modules, layers: layers, sides: sides, alphas: alphas)
    }
}
