import ArgumentParser
import Spectra
import Transformer

/// Lists in options that say which spectra to measure; `option` names it in errors.
public enum SpectrumLists {
    public static let modulesHelp = ArgumentHelp(
        "Modules, by comma: q, k, v, o, gate, up, down, residual, or their full paths.", valueName: "names")
    public static let layersHelp = ArgumentHelp("Layers, by comma, from 0: 0,5,10-14.", valueName: "numbers")
    public static let sidesHelp = ArgumentHelp(
        "Sides, by comma: output, input, bottleneck, bottleneck_activated (the last two in CoLA layers).",
        valueName: "names")
    public static let alphasHelp = ArgumentHelp(
        "Fractions of the energy to report ranks for, by comma.", valueName: "fractions")

    private static func parts(_ text: String) -> [String] {
        text.split(separator: ",").map { $0.filter { $0 != " " } }
    }

    /// Throws `ValidationError` for a name that no model has, before one is known.
    public static func checkModules(_ text: String, option: String) throws {
        guard text != "all" else { return }
        let names = parts(text)
        guard !names.isEmpty else { throw ValidationError("\(option): expected at least one.") }
        let known = LinearRole.allCases.map { LinearLayer.shortName(of: $0.module) } + [MeasuredModule.residual.name]
        for name in names where !known.contains(LinearLayer.shortName(of: name)) {
            throw ValidationError("\(option): '\(name)' is none of \(known.joined(separator: ", ")).")
        }
    }

    /// The modules of a model, in its order. Throws `InputError` for one that it does not have.
    public static func modules(
        _ text: String, option: String, of description: ModelDescription
    ) throws -> [MeasuredModule] {
        let all = MeasuredModule.all(of: description)
        if text == "all" { return all }
        let chosen = try parts(text).map { name in
            do throws(SpectrumError) {
                return try MeasuredModule(name, of: description)
            } catch {
                throw InputError("\(option): \(error), the modules of this model")
            }
        }
        return all.filter(chosen.contains)
    }

    public static func sides(_ text: String, option: String) throws -> [Side] {
        let chosen = try parts(text).map { name in
            guard let side = Side(rawValue: name) else {
                let known = Side.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("\(option): '\(name)' is none of \(known).")
            }
            return side
        }
        guard !chosen.isEmpty else { throw ValidationError("\(option): expected at least one.") }
        return Side.allCases.filter(chosen.contains)
    }

    /// The fractions, and each as it was written: that names its column.
    public static func alphas(_ text: String, option: String) throws -> [(value: Double, text: String)] {
        let chosen = try parts(text).map { text in
            guard let value = Double(text), value > 0, value <= 1 else {
                throw ValidationError("\(option): '\(text)' is no fraction between 0 and 1.")
            }
            return (value, text)
        }
        guard !chosen.isEmpty else { throw ValidationError("\(option): expected at least one.") }
        guard Set(chosen.map(\.1)).count == chosen.count else {
            throw ValidationError("\(option): a fraction stands twice.")
        }
        return chosen
    }

    /// Layers of a model that has `count`; with `.max`, before a model is known, "all" is empty.
    public static func layers(_ text: String, count: Int, option: String) throws -> [Int] {
        if text == "all" { return count == .max ? [] : Array(0..<count) }
        var chosen: Set<Int> = []
        for part in parts(text) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard let first = ends.first ?? nil, let last = ends.last ?? nil, ends.count <= 2, first <= last else {
                throw ValidationError("\(option): '\(part)' is neither a number nor a range like 3-7.")
            }
            guard last < count else {
                throw InputError("\(option) \(part): the model has \(count) layers, 0 to \(count - 1)")
            }
            guard last < 100_000 else { throw ValidationError("\(option): \(last) is too large.") }
            chosen.formUnion(first...last)
        }
        guard !chosen.isEmpty else { throw ValidationError("\(option): expected at least one.") }
        return chosen.sorted()
    }
}
