import Foundation
import JSON
import Testing

@Suite("Checkpoints that cannot be used")
struct BadCheckpointTests {
    let workplace: Workplace

    init() throws {
        workplace = try Workplace()
        try workplace.write(TinyModel.text(300), "text.txt")
    }

    /// The model is refused by import and by spectrum with the same code and words.
    private func refuse(
        _ checkpoint: String, _ mentions: String..., code: Int32 = 65, options: [String] = [],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try workplace.refuse(
            code, .convert, ["import", checkpoint, "out.h5", "--quiet"] + options, mentions: mentions,
            sourceLocation: sourceLocation)
        try workplace.refuse(
            code, .analyze, ["spectrum", checkpoint, "--text", "text.txt", "--out", "out", "--quiet"] + options,
            mentions: mentions, sourceLocation: sourceLocation)
    }

    // MARK: - No checkpoint

    @Test("A file that is not there")
    func missing() throws {
        try refuse("nothing.h5", "nothing.h5: no such file", code: 66)
        try refuse("no/such/folder", "no/such/folder: no such file", code: 66)
        try workplace.refuse(66, .convert, ["inspect", "nothing.gguf"], mentions: ["nothing.gguf"])
    }

    @Test("Files of other kinds, with the kinds that are read named")
    func notCheckpoints() throws {
        try workplace.write("", "empty")
        try refuse("empty", "empty: is empty", "GGUF")
        try workplace.write("Four score and seven years ago", "speech.h5")
        try refuse("speech.h5", "speech.h5: is of no known format", "safetensors")
        try workplace.write(Array("PK\u{3}\u{4}".utf8) + [UInt8](repeating: 7, count: 90), "model.pt")
        try refuse("model.pt", "model.pt: is a pickled PyTorch file")
        try workplace.write("version https://git-lfs.github.com/spec/v1\n", "pointer.gguf")
        try refuse("pointer.gguf", "git lfs pull")
        try refuse("/dev/null", "/dev/null: is not a file")
        try workplace.makeFolder("bare")
        try refuse("bare", "bare: holds neither model.safetensors nor")
    }

    @Test("A token file is no checkpoint")
    func tokenFile() throws {
        try workplace.write(NumpyArray.file("<u2", shape: [3], [UInt16](1...3)), "tokens.npy")
        try refuse("tokens.npy", "tokens.npy: is of no known format")
    }

    // MARK: - Configuration

    @Test("No configuration, and a way to give one")
    func noConfiguration() throws {
        let model = TinyModel.dense
        try workplace.write(model.safetensors(), "model.safetensors")
        try refuse("model.safetensors", "model.safetensors: ", "--config")
        try workplace.write(model.configurationText, "other.json")
        try workplace.succeed(.convert, "import", "model.safetensors", "in.h5", "--config", "other.json", "--quiet")
        try refuse("model.safetensors", "gone.json: no such file", code: 66, options: ["--config", "gone.json"])
        try model.writeFolder(workplace, "hf")
        try FileManager.default.removeItem(atPath: workplace.file("hf/config.json"))
        try refuse("hf", "hf/config.json: no such file", code: 66)
    }

    @Test("A broken config.json", arguments: ["{\"hidden_size\": 24,", "[1, 2]", "", "{}}", "\u{0}"])
    func brokenConfiguration(_ text: String) throws {
        try TinyModel.dense.writeFolder(workplace, "hf")
        try workplace.write(text, "hf/config.json")
        try refuse("hf", "hf/config.json: not ")
    }

    private static let wrongValues: [(String, JSONValue?, String)] = [
        ("model_type", "gemma", "the architecture gemma is not supported; supported are llama"),
        ("hidden_size", .integer(1 << 31), "hidden_size: found 2147483648, expected a positive whole number below"),
        (
            "hidden_size", .integer(1 << 30),
            "model.embed_tokens.weight: found [300, 24], expected [300, 1073741824]"
        ),
        ("hidden_size", 0, "hidden_size: found 0"), ("hidden_size", -24, "hidden_size: found -24"),
        ("hidden_size", "24", "hidden_size: found \"24\""), ("hidden_size", 24.5, "hidden_size: found 24.5"),
        ("num_hidden_layers", 1_000_000_000, "num_hidden_layers: found 1000000000, expected no more than"),
        ("num_hidden_layers", 3, "model.layers.2.self_attn.q_proj.weight: missing, expected [30, 24]"),
        ("num_hidden_layers", 1, "model.layers.1.mlp.up_proj.weight: unexpected"),
        ("num_attention_heads", 4, "expected [40, 24]"),
        ("num_attention_heads", .integer(1 << 30), "model.layers.0.self_attn.q_proj.weight: found [30, 24]"),
        ("num_key_value_heads", 2, "num_key_value_heads: found 2, expected a divisor of num_attention_heads 3"),
        ("head_dim", 7, "head_dim: found 7, expected an even number"), ("head_dim", nil, "self_attn.q_proj.weight"),
        ("vocab_size", 301, "model.embed_tokens.weight: found [300, 24], expected [301, 24]"),
        ("vocab_size", nil, "vocab_size: found nothing"), ("rms_norm_eps", -1, "rms_norm_eps: found -1"),
        ("rms_norm_eps", "small", "rms_norm_eps: found \"small\", expected a number"),
        ("rope_theta", 0, "rope_theta: found 0"), ("rope_theta", -5, "rope_theta: found -5"),
        (
            "rope_scaling", ["rope_type": "longrope", "factor": 2],
            "rope_scaling.rope_type: found longrope, expected default, linear, dynamic, yarn or llama3"
        ),
        ("rope_scaling", ["rope_type": "linear", "factor": 0], "rope_scaling.factor"),
        ("hidden_act", "relu", "hidden_act: found relu, expected silu"),
        ("tie_word_embeddings", 1, "tie_word_embeddings: found 1, expected true or false"),
        ("cola_activation", "everywhere", "cola_activation: found everywhere, expected one of both, inner"),
    ]

    @Test("Values that no model has, or that this one has not", arguments: wrongValues)
    func configurationValues(_ key: String, _ value: JSONValue?, _ words: String) throws {
        try TinyModel.dense.configured([(key, value)]).writeFolder(workplace, "hf")
        try refuse("hf", "hf: ", words)
    }

    @Test("inspect shows an unsupported model, and says so")
    func inspectsUnsupported() throws {
        try TinyModel.dense.configured([("model_type", "gemma")]).writeFolder(workplace, "hf")
        let facts = try workplace.json(.convert, "inspect", "hf")
        let obstacles = try #require(facts["missing"]?.arrayValue).compactMap(\.stringValue)
        #expect(facts["architecture"]?.stringValue == "not supported: " + obstacles.joined(separator: "; "))
        #expect(obstacles.first?.hasPrefix("model_type gemma is not among llama, ") == true)
        #expect(facts["parameters"]?.intValue == TinyModel.dense.parameters)
    }

    // MARK: - Tensors

    @Test("Missing, unexpected and mis-shaped tensors are listed all at once")
    func tensors() throws {
        var model = TinyModel.dense
        model = model.changing("model.norm.weight") { $0.name = "model.layers.0.mlp.extra.weight" }
        model = model.changing("model.layers.1.mlp.up_proj.weight") { $0.shape = [24, 40] }
        model = model.changing("model.layers.0.self_attn.k_proj.weight") { $0.shape = [240] }
        try model.writeFolder(workplace, "hf")
        try refuse(
            "hf", "hf: 4 tensors wrong:\n", "\n  model.norm.weight: missing, expected [24]",
            "\n  model.layers.0.mlp.extra.weight: unexpected",
            "\n  model.layers.1.mlp.up_proj.weight: found [24, 40], expected [40, 24]",
            "\n  model.layers.0.self_attn.k_proj.weight: found [240], expected [10, 24]")
    }

    @Test("Half a low-rank projection, and factors that do not fit")
    func factors() throws {
        let half = TinyModel.cola.changing("model.layers.0.mlp.up_proj.cola_b") {
            $0.name = "model.layers.0.mlp.up_proj.x"
        }
        try half.writeFolder(workplace, "half")
        try refuse("half", "model.layers.0.mlp.up_proj.cola_b: missing, expected [5, 40]")
        let wide = TinyModel.cola.changing("model.layers.1.mlp.down_proj.cola_a") { $0.shape = [20, 10] }
        try wide.writeFolder(workplace, "wide")
        try refuse("wide", "model.layers.1.mlp.down_proj.cola_a: found [20, 10], expected [40, 10]")
    }

    @Test("Integer weights")
    func integers() throws {
        try workplace.makeFolder("hf")
        try workplace.write(TinyModel.dense.configurationText, "hf/config.json")
        try workplace.write(TinyModel.tokenizerJSON, "hf/tokenizer.json")
        try workplace.write(TinyModel.dense.safetensors(type: "I32"), "hf/model.safetensors")
        try refuse(
            "hf", "hf: ", "model.embed_tokens.weight: elements of type i32, expected f64",
            "model.layers.1.mlp.down_proj.weight: elements of type i32")
    }

    @Test("Weights that are no numbers, with their place", arguments: [Float.nan, .infinity, -.infinity])
    func notFinite(_ value: Float) throws {
        let model = TinyModel.dense.changing("model.layers.1.mlp.up_proj.weight") { $0.values[24 * 7 + 5] = value }
        try model.writeFolder(workplace, "hf")
        try refuse("hf", "model.layers.1.mlp.up_proj.weight: element ", "7, 5", " is \(value)")
    }

    @Test("A number too large for the type that is asked for")
    func overflow() throws {
        let model = TinyModel.dense.changing("model.layers.0.mlp.up_proj.weight") { $0.values[3] = 70000 }
        try model.writeFolder(workplace, "hf")
        let words = ["model.layers.0.mlp.up_proj.weight: ", "70000", "too large for f16"]
        try workplace.refuse(
            65, .convert, ["import", "hf", "out.h5", "--dtype", "f16", "--quiet"], mentions: words)
    }

    // MARK: - Tokenizer

    @Test("A checkpoint without a tokenizer takes token ids only")
    func noTokenizer() throws {
        var model = TinyModel.dense
        model.tokenizer = nil
        try model.writeFolder(workplace, "hf")
        for command in [["perplexity"], ["spectrum", "--out", "out"], ["logits", "--out", "out.npy"]] {
            let arguments = [command[0], "hf", "--text", "text.txt", "--quiet"] + command.dropFirst()
            try workplace.refuse(65, .analyze, arguments, mentions: ["hf: no tokenizer", "--tokens"])
        }
        try workplace.refuse(
            65, .convert, ["tokenize", "text.txt", "--tokenizer", "hf", "--out", "t.npy", "--quiet"],
            mentions: ["hf: no tokenizer"])
        let outcome = try workplace.run(.convert, "import", "hf", "in.h5", "--quiet")
        #expect(outcome.status == 0 && outcome.errors.hasPrefix("warning: hf: no tokenizer found"))
    }

    @Test("A tokenizer with more ids than the embedding has rows")
    func vocabularyMismatch() throws {
        var model = TinyModel.dense.configured([("vocab_size", 260)])
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            model = model.changing(name) { tensor in
                tensor.shape[0] = 260
                tensor.values.removeLast(40 * 24)
            }
        }
        try model.writeFolder(workplace, "hf")
        try workplace.refuse(
            65, .convert, ["import", "hf", "out.h5", "--quiet"], mentions: ["hf: ", "264 ids", "embedding of 260"])
        // Only ids that are used matter to a run.
        try workplace.write("in the band", "words.txt")
        try workplace.refuse(
            65, .analyze, ["perplexity", "hf", "--text", "words.txt", "--quiet"],
            mentions: ["words.txt: token 0 is 262, expected less than the vocabulary size 260"])
    }

    @Test("A damaged tokenizer", arguments: ["{", "[]", ""])
    func damagedTokenizer(_ text: String) throws {
        try TinyModel.dense.writeFolder(workplace, "hf")
        try workplace.write(text, "hf/tokenizer.json")
        try refuse("hf", "hf")
        let arguments = ["tokenize", "text.txt", "--tokenizer", "hf/tokenizer.json", "--out", "t.npy", "--quiet"]
        try workplace.refuse(65, .convert, arguments, mentions: ["hf/tokenizer.json: "])
    }

    @Test("A tokenizer of a kind that is not understood comes along, with a warning; text is refused")
    func otherTokenizer() throws {
        let text = "{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"<unk>\", 0.0], [\"a\", -1.5]]}}"
        try TinyModel.dense.writeFolder(workplace, "hf")
        try workplace.write(text, "hf/tokenizer.json")
        let outcome = try workplace.run(.convert, "import", "hf", "out.h5", "--quiet")
        #expect(outcome.status == 0 && outcome.errors.hasPrefix("warning: hf: model is not supported"), "\(outcome)")
        for model in ["hf", "out.h5"] {
            try workplace.refuse(
                65, .analyze, ["perplexity", model, "--text", "text.txt", "--quiet"],
                mentions: ["\(model): ", "Unigram"])
        }
        try workplace.succeed(.convert, "export", "out.h5", "back", "--quiet")
        #expect(try workplace.text("back/tokenizer.json") == text)
    }
}
