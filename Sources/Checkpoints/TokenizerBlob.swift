import Files
import JSON

/// The text ↔ token mapping that travels with the weights, and what was said about it beside it.
public struct TokenizerBlob: Sendable, Equatable {
    public enum Content: Sendable, Equatable {
        /// The text of a Hugging Face `tokenizer.json`, as UTF-8 bytes.
        case tokenizerJSON([UInt8])
        /// A serialised sentencepiece model.
        case sentencepiece([UInt8])
    }

    public var content: Content
    public var settings: TokenizerSettings

    public init(_ content: Content, settings: TokenizerSettings = TokenizerSettings()) {
        self.content = content
        self.settings = settings
    }

    /// A `tokenizer.json` about which nothing else is said.
    public static func tokenizerJSON(_ bytes: [UInt8]) -> Self { Self(.tokenizerJSON(bytes)) }
    /// A sentencepiece model about which nothing else is said.
    public static func sentencepiece(_ bytes: [UInt8]) -> Self { Self(.sentencepiece(bytes)) }
}

/// What is said about a tokenizer outside of it: by the `tokenizer_config.json` of a Hugging Face folder, by a GGUF
/// file's metadata. A value that is not given is nil.
public struct TokenizerSettings: Sendable, Equatable {
    /// Whether every text gets the BOS in front, `add_bos_token`. It counts for more than the template of a
    /// `tokenizer.json`.
    public var addsBOS: Bool?
    /// The token that starts a text, as it is spelled, `bos_token`.
    public var bosToken: String?
    /// The token that ends a text, as it is spelled, `eos_token`.
    public var eosToken: String?

    public init(addsBOS: Bool? = nil, bosToken: String? = nil, eosToken: String? = nil) {
        self.addsBOS = addsBOS
        self.bosToken = bosToken
        self.eosToken = eosToken
    }

    private static let addsBOSKey = "add_bos_token"

    /// The settings under the keys of a `tokenizer_config.json`, those that are given.
    public var json: JSONObject {
        var json = JSONObject()
        if let addsBOS { json[Self.addsBOSKey] = .bool(addsBOS) }
        if let bosToken { json["bos_token"] = .string(bosToken) }
        if let eosToken { json["eos_token"] = .string(eosToken) }
        return json
    }

    /// Reads the keys of a `tokenizer_config.json`; all others are left alone. `path` and `place` name it in errors.
    ///
    /// - Throws: `CheckpointError.invalid` for an `add_bos_token` that is neither true nor false, or a token that is no
    ///   text.
    public init(_ json: JSONObject, path: String, place: String = "") throws(CheckpointError) {
        func invalid(_ key: String, _ value: JSONValue, _ expected: String) -> CheckpointError {
            .invalid(path: path, place: place + key, found: value.text(), expected: expected)
        }
        func token(_ key: String) throws(CheckpointError) -> String? {
            guard let value = json[key], !value.isNull else { return nil }
            // A text, or an object that describes the token.
            guard let text = value.stringValue ?? value["content"]?.stringValue else {
                throw invalid(key, value, "a token")
            }
            return text
        }
        if let value = json[Self.addsBOSKey], !value.isNull {
            guard let flag = value.boolValue else { throw invalid(Self.addsBOSKey, value, "true or false") }
            addsBOS = flag
        }
        bosToken = try token("bos_token")
        eosToken = try token("eos_token")
    }

    /// These settings, and where they say nothing the other ones.
    func filled(from other: Self) -> Self {
        Self(
            addsBOS: addsBOS ?? other.addsBOS, bosToken: bosToken ?? other.bosToken,
            eosToken: eosToken ?? other.eosToken)
    }

    /// What the files beside a tokenizer's say: `tokenizer_config.json`, and where it is silent
    /// `special_tokens_map.json`. Throws `CheckpointError` for one that is damaged.
    public static func beside(_ tokenizerPath: String) throws(CheckpointError) -> Self {
        var settings = Self()
        let folder = HuggingFaceFolder.parent(of: tokenizerPath)
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = "\(folder)/\(name)"
            guard MappedFile.exists(path) else { continue }
            guard let object = try MappedFile.json(path).objectValue else { continue }
            settings = settings.filled(from: try Self(object, path: path))
        }
        return settings
    }
}
