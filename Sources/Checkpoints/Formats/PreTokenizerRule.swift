import JSON

/// The rule by which a byte-level vocabulary cuts a text into words before it merges, under the names that GGUF files have
/// for it (`tokenizer.ggml.pre`).
///
/// Known are all names that llama.cpp maps to an expression that `Tokenizers` has: several families cut alike.
public struct PreTokenizerRule: Sendable, Equatable {
    public let name: String
    private let expression: Expression
    private let normalizes: Bool
    /// LLaMA 3 takes a word that the vocabulary holds as it is, and puts a BOS in front of a text.
    private let isLlama3: Bool

    /// How words are found; the raw value is the best known name.
    private enum Expression: String, CaseIterable {
        case gpt2 = "gpt-2"
        /// Single digits first, then GPT-2's.
        case digits = "smollm"
        /// Numbers of up to three digits.
        case llama3 = "llama-bpe"
        /// Single digits.
        case qwen2 = "qwen2"
    }

    /// One well-known name of each rule.
    public static let examples = Expression.allCases.map(\.rawValue)

    private static let llama3Names = [
        "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
    ]
    private static let qwen2Names = ["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"]

    private static let names: [(Expression, [String])] = [
        (
            .gpt2,
            [
                "gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "jina-v1-en", "jina-v2-code",
                "roberta-bpe", "modern-bert", "gigachat", "a.x-4.0", "mellum", "exaone4", "mpt", "olmo", "jais",
                "trillion", "granite-docling",
            ]
        ),
        (.digits, ["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"]),
        (.llama3, llama3Names + ["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"]),
        (.qwen2, qwen2Names + ["stablelm2", "hunyuan", "grok-2", "bailingmoe", "bailingmoe2", "llada-moe"]),
    ]

    /// Nil for a name that stands for no rule, such as `default`, or for one that is not known.
    public init?(_ name: String) {
        guard let (expression, _) = Self.names.first(where: { $0.1.contains(name) }) else { return nil }
        self.name = name
        self.expression = expression
        normalizes = Self.qwen2Names.contains(name)
        isLlama3 = Self.llama3Names.contains(name)
    }

    // MARK: - As parts of a tokenizer.json

    var addsBOS: Bool { isLlama3 }
    var ignoresMerges: Bool { isLlama3 }
    var normalizer: JSONValue { normalizes ? ["type": "NFC"] : nil }

    var preTokenizer: JSONValue {
        switch expression {
        case .gpt2: Self.byteLevel(prefix: false, trim: true, regex: true)
        case .digits:
            [
                "type": "Sequence",
                "pretokenizers": [
                    ["type": "Digits", "individual_digits": true],
                    Self.byteLevel(prefix: false, trim: true, regex: true),
                ],
            ]
        case .llama3: Self.split(numbers: #"\p{N}{1,3}"#, trim: true)
        case .qwen2: Self.split(numbers: #"\p{N}"#, trim: false)
        }
    }

    var processor: JSONValue {
        switch expression {
        case .gpt2, .digits: nil
        case .llama3: Self.byteLevel(prefix: true, trim: false, regex: true)
        case .qwen2: Self.byteLevel(prefix: false, trim: false, regex: false)
        }
    }

    var decoder: JSONValue {
        expression == .qwen2 ? processor : Self.byteLevel(prefix: true, trim: true, regex: true)
    }

    private static func byteLevel(prefix: Bool, trim: Bool, regex: Bool) -> JSONValue {
        [
            "type": "ByteLevel", "add_prefix_space": .bool(prefix), "trim_offsets": .bool(trim),
            "use_regex": .bool(regex),
        ]
    }

    /// LLaMA 3 and Qwen 2 cut text alike but for the length of numbers.
    private static func split(numbers: String, trim: Bool) -> JSONValue {
        let pattern =
            #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + numbers
            + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
        return [
            "type": "Sequence",
            "pretokenizers": [
                ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false],
                byteLevel(prefix: false, trim: trim, regex: false),
            ],
        ]
    }
}
