import ArgumentParser
import Checkpoints
import CommandSupport
import JSON
import Transformer

struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "What is in a checkpoint: kind, configuration, tensors, parameters, provenance.",
        discussion: """
            Reads the directory of the file only, not the weights.

            Example:
              cola-convert inspect smollm2.h5
            """)

    @OptionGroup var checkpoint: CheckpointOptions

    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() throws {
        let source = try checkpoint.openStored()
        let facts = Facts(source, hasTokenizer: tokenizerName(source))
        try Console.output(json ? JSONValue.object(facts.json).text(indent: 2) : facts.text)
    }

    private func tokenizerName(_ source: any TensorSource) -> String {
        let blob: TokenizerBlob?
        do { blob = try source.tokenizer() } catch { return "not readable: \(error)" }
        if let vocabulary = blob.flatMap({ UncutVocabulary($0) }) {
            let rule = UncutVocabulary.describe(vocabulary.ruleName)
            return "byte-level vocabulary without a rule for cutting text (tokenizer.ggml.pre: \(rule))"
        }
        return switch blob?.content {
        case .tokenizerJSON(let bytes): "tokenizer.json, \(byteCount(bytes.count))"
        case .sentencepiece(let bytes): "sentencepiece model, \(byteCount(bytes.count))"
        case nil: "none"
        }
    }
}

/// What `inspect` finds out.
private struct Facts {
    let source: any TensorSource
    let tokenizer: String
    let parameters: Int
    let storedBytes: Int
    let kind: String
    let isUsable: String

    init(_ source: any TensorSource, hasTokenizer: String) {
        self.source = source
        tokenizer = hasTokenizer
        // One more name of a stored tensor takes no bytes, and is no further parameter.
        parameters = source.tensors.reduce(0) { $0 + ($1.storedBytes > 0 ? $1.count : 0) }
        storedBytes = source.tensors.reduce(0) { $0 + $1.storedBytes }
        let factors = source.tensors.filter { $0.name.hasSuffix(".cola_a") }
        let dense = source.tensors.filter { $0.name.hasSuffix("_proj.weight") }
        let ranks = Set(factors.compactMap(\.shape.last)).sorted()
        switch (factors.isEmpty, dense.isEmpty) {
        case (true, true): kind = "no linear layers of a LLaMA-type decoder"
        case (true, false): kind = "dense, \(dense.count) linear layers"
        case (false, true): kind = "CoLA, \(factors.count) low-rank layers, ranks \(Self.list(ranks))"
        case (false, false):
            kind = "CoLA, \(factors.count) low-rank layers, ranks \(Self.list(ranks)), and \(dense.count) dense ones"
        }
        do {
            let configuration = try DecoderConfiguration(of: source)
            isUsable = "\(configuration.modelType), \(configuration.layers) layers"
        } catch {
            isUsable = "not supported: \(error)"
        }
    }

    private static func list(_ ranks: [Int]) -> String {
        ranks.count <= 6 ? ranks.map(String.init).joined(separator: ", ") : "\(ranks.first!) to \(ranks.last!)"
    }

    var json: JSONObject {
        let tensors = source.tensors.map { tensor in
            var row = JSONObject([
                ("name", .string(tensor.name)), ("shape", .array(tensor.shape.map { .integer($0) })),
                ("type", .string(tensor.storedType)), ("bytes", .integer(tensor.storedBytes)),
            ])
            if let obstacle = tensor.obstacle { row["unreadable"] = .string(obstacle) }
            return JSONValue.object(row)
        }
        return JSONObject([
            ("path", .string(source.path)), ("format", .string(source.formatName)), ("kind", .string(kind)),
            ("architecture", .string(isUsable)), ("parameters", .integer(parameters)),
            ("stored_bytes", .integer(storedBytes)), ("tokenizer", .string(tokenizer)),
            ("config", parsed(source.configuration)), ("provenance", parsed(source.provenance)),
            ("tensors", .array(tensors)),
        ])
    }

    /// JSON text as a value; text that is not JSON as a string.
    private func parsed(_ text: String?) -> JSONValue {
        guard let text else { return .null }
        return (try? JSONValue(parsing: text, allowsNonFinite: true)) ?? .string(text)
    }

    var text: String {
        var lines = [
            ("file", source.path), ("format", source.formatName), ("kind", kind), ("architecture", isUsable),
            ("parameters", grouped(parameters)), ("stored", byteCount(storedBytes)), ("tokenizer", tokenizer),
        ]
        if case .object(let config) = parsed(source.configuration) {
            let keys = [
                "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                "head_dim", "vocab_size", "rope_theta", "tie_word_embeddings", "rank", "cola_activation", "only_lr_act",
            ]
            let shown = keys.compactMap { key in config[key].map { "\(key) \($0.text())" } }
            lines.append(("config", shown.joined(separator: ", ")))
        } else {
            lines.append(("config", "none"))
        }
        if let provenance = source.provenance {
            // A run on many files lists all of them.
            let text = parsed(provenance).text()
            lines.append(("provenance", text.count > 1000 ? text.prefix(1000) + "… (all of it: --json)" : text))
        }
        let width = lines.map(\.0.count).max() ?? 0
        let head = lines.map { $0.0 + String(repeating: " ", count: width + 2 - $0.0.count) + $0.1 }
        var table = TextTable([("tensor", .left), ("shape", .left), ("type", .left), ("bytes", .right)])
        for tensor in source.tensors {
            table.append([tensor.name, "\(tensor.shape)", tensor.storedType, grouped(tensor.storedBytes)])
        }
        let unreadable = source.tensors.compactMap { tensor in
            tensor.obstacle.map { "\(tensor.name) cannot be read: \($0)" }
        }
        return
            ([head.joined(separator: "\n"), table.text]
            + (unreadable.isEmpty ? [] : [unreadable.joined(separator: "\n")]))
            .joined(separator: "\n\n")
    }
}
