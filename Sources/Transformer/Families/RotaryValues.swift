/// What a configuration says about the rotation, from all places where it may stand: `rope_parameters` (files since
/// transformers 5; flat, or by kind of layer), `rope_scaling` (before), and beside them.
///
/// Programs differ in which place counts; so two that say different things are an error that names both.
struct RotaryValues {
    private let raw: ConfigurationText
    /// Innermost first.
    private let places: [ConfigurationText]

    /// Kinds of blocks that `rope_parameters` may be nested by.
    private static let kinds = ["full_attention", "sliding_attention", "chunked_attention", "linear_attention"]
    private static let outside = ["rope_theta", "partial_rotary_factor"]

    /// The values for blocks of a kind.
    init(_ raw: ConfigurationText, kind: String = "full_attention") throws(TransformerError) {
        self.raw = raw
        var places: [ConfigurationText] = []
        for key in ["rope_parameters", "rope_scaling"] {
            guard let object = try raw.object(key) else { continue }
            if let own = try object.object(kind) {
                places.append(own)
            } else if let other = Self.kinds.first(where: { object.value($0) != nil }) {
                throw object.error(kind, "nothing beside \(other)", "the parameters of all layers")
            }
            places.append(object)
        }
        self.places = places
    }

    /// Whether a configuration has rotations by kind of block, nested in `rope_parameters`.
    static func areNested(_ raw: ConfigurationText) throws(TransformerError) -> Bool {
        guard let object = try raw.object("rope_parameters") else { return false }
        return kinds.contains { object.value($0) != nil }
    }

    /// An error about a key, named where it stands.
    func error(_ key: String, _ found: String, _ expected: String) -> TransformerError {
        let place = places.first { $0.value(key) != nil || key == "rope_type" && $0.value("type") != nil }
        return (place ?? (Self.outside.contains(key) ? nil : places.first) ?? raw).error(key, found, expected)
    }

    /// A number from wherever it stands.
    func number(_ key: String) throws(TransformerError) -> Double? {
        let candidates = places + (Self.outside.contains(key) ? [raw] : [])
        var result: (value: Double, place: ConfigurationText)?
        for place in candidates {
            guard let value = try place.number(key) else { continue }
            if let other = result, other.value != value {
                throw place.error(key, "\(value)", "\(other.value), as \(other.place.name(key)) says")
            }
            result = result ?? (value, place)
        }
        return result?.value
    }

    func flag(_ key: String) throws(TransformerError) -> Bool? {
        for place in places {
            if let value = try place.flag(key) { return value }
        }
        return nil
    }

    /// The kind of scaling, `rope_type` or as it was called before `type`.
    func kind() throws(TransformerError) -> String {
        var result: (value: String, name: String)?
        for place in places {
            for key in ["rope_type", "type"] {
                guard let value = try place.string(key) else { continue }
                if let other = result, other.value != value {
                    throw place.error(key, value, "\(other.value), as \(other.name) says")
                }
                result = result ?? (value, place.name(key))
            }
        }
        return result?.value ?? "default"
    }

    /// Throws for a key that the kind of scaling does not read, unless its value is the one that changes nothing.
    func refuse(except read: Set<String>) throws(TransformerError) {
        let known = read.union(Self.kinds).union(Self.outside)
            .union(["rope_type", "type", "original_max_position_embeddings", "max_position_embeddings"])
        for place in places {
            for (key, value) in place.members where !value.isNull && !known.contains(key) {
                if value.doubleValue == 1, key.hasSuffix("factor") { continue }
                throw place.error(
                    key, value.text(writesNonFinite: true), "nothing: \(try kind()) scaling has no such value")
            }
        }
    }
}
