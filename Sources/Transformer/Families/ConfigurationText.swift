import JSON

/// The values of a config.json, by key and type; a missing key and `null` are the same.
///
/// It remembers which keys were asked for: those are the ones that the arithmetic follows (see `ConfigurationKeys`).
struct ConfigurationText {
    let path: String
    /// The most blocks that a model of this file can have.
    let blockLimit: BlockLimit
    private let prefix: String
    private let values: JSONValue
    private let asked: AskedKeys

    /// How many blocks there can be, and why.
    struct BlockLimit {
        let count: Int
        let reason: String

        static let any = BlockLimit(count: 1 << 16, reason: "at most \(1 << 16)")
    }

    private final class AskedKeys {
        var keys: Set<String> = []
    }

    init(_ json: String, path: String, blockLimit: BlockLimit = .any) throws(TransformerError) {
        self.path = path
        self.blockLimit = blockLimit
        asked = AskedKeys()
        prefix = ""
        do throws(JSONError) {
            values = try JSONValue(parsing: json, allowsNonFinite: true)
        } catch {
            throw .configuration(path: path, key: "config", found: "\(error)", expected: "JSON text")
        }
        guard values.objectValue != nil else {
            throw .configuration(path: path, key: "config", found: "another value", expected: "an object")
        }
    }

    private init(inside outer: ConfigurationText, prefix: String, values: JSONValue) {
        path = outer.path
        blockLimit = outer.blockLimit
        asked = AskedKeys()
        self.prefix = prefix
        self.values = values
    }

    /// A key with those of the objects around it.
    func name(_ key: String) -> String { prefix + key }

    func error(_ key: String, _ found: String, _ expected: String) -> TransformerError {
        .configuration(path: path, key: name(key), found: found, expected: expected)
    }

    /// All keys and values, those that are null included.
    var members: [JSONObject.Member] { values.objectValue?.members ?? [] }

    /// Whether a key was asked for.
    func wasRead(_ key: String) -> Bool { asked.keys.contains(key) }

    /// Whether a key is there, be it with null.
    func has(_ key: String) -> Bool { values[key] != nil }

    /// The value of a key that is there and not null.
    func value(_ key: String) -> JSONValue? {
        asked.keys.insert(key)
        guard let value = values[key], !value.isNull else { return nil }
        return value
    }

    private func get<T>(_ key: String, _ kind: String, _ convert: (JSONValue) -> T?) throws(TransformerError) -> T? {
        guard let value = value(key) else { return nil }
        guard let converted = convert(value) else { throw error(key, value.text(writesNonFinite: true), kind) }
        return converted
    }

    func string(_ key: String) throws(TransformerError) -> String? { try get(key, "a text") { $0.stringValue } }
    func flag(_ key: String) throws(TransformerError) -> Bool? { try get(key, "true or false") { $0.boolValue } }
    func number(_ key: String) throws(TransformerError) -> Double? {
        try get(key, "a number") { $0.doubleValue.flatMap { $0.isFinite && abs($0) < 1e15 ? $0 : nil } }
    }

    func texts(_ key: String) throws(TransformerError) -> [String]? {
        try get(key, "an array of texts") { value in
            let texts = value.arrayValue?.compactMap(\.stringValue)
            return texts?.count == value.arrayValue?.count ? texts : nil
        }
    }

    /// A positive whole number, or `fallback` where the key is missing.
    func size(_ key: String, default fallback: Int? = nil) throws(TransformerError) -> Int {
        guard let value = value(key) else {
            guard let fallback else { throw error(key, "nothing", "a positive whole number") }
            return fallback
        }
        guard let size = value.intValue, size > 0, size < 1 << 31 else {
            throw error(key, value.text(writesNonFinite: true), "a positive whole number below \(1 << 31)")
        }
        return size
    }

    /// The number of blocks.
    func blocks(_ key: String) throws(TransformerError) -> Int {
        let count = try size(key)
        guard count <= blockLimit.count else { throw error(key, "\(count)", blockLimit.reason) }
        return count
    }

    /// The values of an object inside this one.
    func object(_ key: String) throws(TransformerError) -> ConfigurationText? {
        try get(key, "an object") { value in
            value.objectValue.map { _ in ConfigurationText(inside: self, prefix: "\(prefix)\(key).", values: value) }
        }
    }
}
