import Testing

/// Where two collections that should be the same differ first, in words that stay short however long the collections are;
/// nil if they are equal.
package func firstDifference<Element: Equatable>(
    _ found: some Collection<Element>, _ expected: some Collection<Element>
) -> String? {
    if found.elementsEqual(expected) { return nil }
    let places = zip(found, expected).enumerated().filter { $1.0 != $1.1 }
    guard let (index, (one, other)) = places.first else {
        return "\(found.count) elements, expected \(expected.count); those that both have are the same"
    }
    return "\(found.count) of \(expected.count) elements, \(places.count) differ, first [\(index)]: found "
        + "\(excerpt(one)), expected \(excerpt(other))"
}

/// Records an issue that names the first place where two collections differ. `#expect(found == expected)` would print all
/// of both.
package func expectEqual<Element: Equatable>(
    _ found: some Collection<Element>, _ expected: some Collection<Element>, _ what: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard let difference = firstDifference(found, expected) else { return }
    Issue.record("\(what) \(difference)", sourceLocation: sourceLocation)
}

/// The same for named collections, such as the parameters of a model: names the first one that differs.
package func expectEqual<Values: Collection>(
    _ found: [String: Values], _ expected: [String: Values], _ what: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) where Values.Element: Equatable {
    expectEqual(found.keys.sorted(), expected.keys.sorted(), "\(what) names:", sourceLocation: sourceLocation)
    for (name, values) in found.sorted(by: { $0.key < $1.key }) {
        guard let difference = expected[name].flatMap({ firstDifference(values, $0) }) else { continue }
        Issue.record("\(what) \(name) \(difference)", sourceLocation: sourceLocation)
        return
    }
}

/// The same for large values of any kind: shows the place where their descriptions differ first.
package func expectIdentical<Value: Equatable>(
    _ found: Value, _ expected: Value, _ what: String = "", sourceLocation: SourceLocation = #_sourceLocation
) {
    guard found != expected else { return }
    let (one, other) = ("\(found)", "\(expected)")
    let start = max(0, zip(one, other).prefix { $0 == $1 }.count - 40)
    Issue.record(
        "\(what) found …\(excerpt(one.dropFirst(start))), expected …\(excerpt(other.dropFirst(start)))",
        sourceLocation: sourceLocation)
}

/// A description, cut where it is long.
private func excerpt(_ value: some Any) -> String {
    let text = "\(value)"
    return text.count <= 160 ? text : "\(text.prefix(160))…"
}
