import ArgumentParser
import Checkpoints
import CommandSupport
import JSON
import Transformer

struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "What is in a checkpoint: kind, description, tensors, parameters, provenance.",
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
    let support: Support
    private let linears: [(layer: LinearLayer, source: String)]

    init(_ source: any TensorSource, hasTokenizer: String) {
        self.source = source
        tokenizer = hasTokenizer
        // One more name of a stored tensor takes no bytes, and is no further parameter.
        parameters = source.tensors.reduce(0) { $0 + ($1.storedBytes > 0 ? $1.count : 0) }
        storedBytes = source.tensors.reduce(0) { $0 + $1.storedBytes }
        support = Support(of: source)
        let (family, values) = (support.family, source.configurationValues)
        linears = (support.description?.linears ?? []).map { layer in
            (layer, family?.source(of: layer, configuration: values) ?? layer.id.path)
        }
    }

    /// "llama, 30 layers", or why not.
    private var architecture: String {
        guard let description = support.description, support.isSupported else {
            return "not supported: " + support.obstacles.joined(separator: "; ")
        }
        return "\(description.modelType), \(description.blocks.count) layers"
    }

    /// What kinds of linear layers there are.
    private var kind: String {
        let ranks = Set(linears.compactMap(\.layer.rank)).sorted()
        let (factors, dense) = (linears.count { $0.layer.isLowRank }, linears.count { !$0.layer.isLowRank })
        return switch (factors, dense) {
        case (0, 0): "no linear layers that are known"
        case (0, _): "dense, \(dense) linear layers"
        case (_, 0): "CoLA, \(factors) low-rank layers, ranks \(Self.list(ranks))"
        default: "CoLA, \(factors) low-rank layers, ranks \(Self.list(ranks)), and \(dense) dense ones"
        }
    }

    private static func list(_ ranks: [Int]) -> String {
        ranks.count <= 6 ? ranks.map(String.init).joined(separator: ", ") : "\(ranks.first!) to \(ranks.last!)"
    }

    // MARK: - JSON

    var json: JSONObject {
        JSONObject([
            ("path", .string(source.path)), ("format", .string(source.formatName)),
            ("family", support.family.map { .string($0.name) } ?? .null), ("supported", .bool(support.isSupported)),
            ("missing", .array(support.obstacles.map { .string($0) })), ("kind", .string(kind)),
            ("architecture", .string(architecture)), ("parameters", .integer(parameters)),
            ("stored_bytes", .integer(storedBytes)), ("tokenizer", .string(tokenizer)),
            ("config", parsed(source.configuration)), ("provenance", parsed(source.provenance)),
            ("linear_layers", .array(linears.map { linearJSON($0.layer, $0.source) })),
            ("tensors", .array(source.tensors.map(tensorJSON))),
        ])
    }

    private func linearJSON(_ layer: LinearLayer, _ path: String) -> JSONValue {
        [
            "layer": .integer(layer.block), "module": .string(layer.module), "inputs": .integer(layer.inputs),
            "outputs": .integer(layer.outputs), "rank": layer.rank.map { .integer($0) } ?? .null,
            "bias": .bool(layer.hasBias), "source": .string(path),
        ]
    }

    private func tensorJSON(_ tensor: TensorInfo) -> JSONValue {
        var row = JSONObject([
            ("name", .string(tensor.name)), ("shape", .array(tensor.shape.map { .integer($0) })),
            ("type", .string(tensor.storedType)), ("bytes", .integer(tensor.storedBytes)),
        ])
        if let obstacle = tensor.obstacle { row["unreadable"] = .string(obstacle) }
        return .object(row)
    }

    /// JSON text as a value; text that is not JSON as a string.
    private func parsed(_ text: String?) -> JSONValue {
        guard let text else { return .null }
        return (try? JSONValue(parsing: text, allowsNonFinite: true)) ?? .string(text)
    }

    // MARK: - Text

    var text: String {
        var lines = [
            ("file", source.path), ("format", source.formatName), ("family", support.family?.name ?? "unknown"),
            ("kind", kind), ("architecture", architecture), ("parameters", grouped(parameters)),
            ("stored", byteCount(storedBytes)), ("tokenizer", tokenizer),
        ]
        if support.isSupported {
            lines.append(("supported", "spectra, ranks, conversion, training, export"))
        } else {
            lines += support.obstacles.map { ("missing", $0) }
        }
        lines.append(("config", configurationLine))
        if let provenance = source.provenance {
            // A run on many files lists all of them.
            let text = parsed(provenance).text()
            lines.append(("provenance", text.count > 1000 ? text.prefix(1000) + "… (all of it: --json)" : text))
        }
        let width = lines.map(\.0.count).max() ?? 0
        let head = lines.map { $0.0 + String(repeating: " ", count: width + 2 - $0.0.count) + $0.1 }
        let unreadable = source.tensors.compactMap { tensor in
            tensor.obstacle.map { "\(tensor.name) cannot be read: \($0)" }
        }
        return [head.joined(separator: "\n"), linearTable, tensorTable, unreadable.joined(separator: "\n")]
            .filter { !$0.isEmpty }.joined(separator: "\n\n")
    }

    private var configurationLine: String {
        guard case .object(let config) = parsed(source.configuration) else { return "none" }
        let keys = [
            "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "head_dim", "vocab_size", "rope_theta", "tie_word_embeddings", "sliding_window", "rank", "cola_activation",
            "only_lr_act", "n_embd", "n_layer", "n_head",
        ]
        let text = support.family?.textKey.flatMap { config[$0]?.objectValue } ?? config
        return keys.compactMap { key in text[key].map { "\(key) \($0.text())" } }.joined(separator: ", ")
    }

    /// The linear layers, those that are alike in several layers in one row.
    private var linearTable: String {
        var rows: [(cells: [String], layers: [Int])] = []
        for (layer, _) in linears {
            let shape = "\(layer.inputs) → \(layer.outputs)"
            let cells = [layer.module, shape, layer.rank.map(String.init) ?? "dense", layer.hasBias ? "bias" : ""]
            if let index = rows.firstIndex(where: { $0.cells == cells }) {
                rows[index].layers.append(layer.block)
            } else {
                rows.append((cells, [layer.block]))
            }
        }
        guard !rows.isEmpty else { return "" }
        var table = TextTable([
            ("linear layer", .left), ("in → out", .left), ("rank", .right), ("", .left), ("layers", .left),
        ])
        for row in rows { table.append(row.cells + [Self.ranges(row.layers)]) }
        return table.text
    }

    /// "0-4, 7".
    private static func ranges(_ numbers: [Int]) -> String {
        var ranges: [ClosedRange<Int>] = []
        for number in numbers {
            if let last = ranges.last, last.upperBound + 1 == number {
                ranges[ranges.count - 1] = last.lowerBound...number
            } else {
                ranges.append(number...number)
            }
        }
        return ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
            .joined(separator: ", ")
    }

    private var tensorTable: String {
        var table = TextTable([("tensor", .left), ("shape", .left), ("type", .left), ("bytes", .right)])
        for tensor in source.tensors {
            table.append([tensor.name, "\(tensor.shape)", tensor.storedType, grouped(tensor.storedBytes)])
        }
        return table.text
    }
}
