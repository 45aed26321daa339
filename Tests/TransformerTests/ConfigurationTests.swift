import Testing

@testable import Tensors
@testable import Transformer

@Suite("Configurations")
struct ConfigurationTests {
    /// The text of a valid configuration with some values replaced; nil takes a key out.
    static func text(_ changes: [String: String?] = [:]) -> String {
        var values: [String: String?] = [
            "model_type": #""llama""#, "hidden_size": "24", "intermediate_size": "56", "num_hidden_layers": "3",
            "num_attention_heads": "6", "num_key_value_heads": "2", "vocab_size": "61", "rms_norm_eps": "1e-5",
        ]
        values.merge(changes) { $1 }
        let members = values.compactMap { key, value in value.map { "\"\(key)\": \($0)" } }
        return "{" + members.sorted().joined(separator: ", ") + "}"
    }

    private func rotary(_ changes: [String: String?]) throws -> RotaryConfiguration {
        try #require(try read(changes).blocks[0].attention.rotary)
    }

    private func read(_ changes: [String: String?] = [:]) throws(TransformerError) -> ModelDescription {
        try ModelDescription(json: Self.text(changes), path: "some/config.json")
    }

    @Test("Reads every value")
    func values() throws {
        let model = try read([
            "head_dim": "10", "rope_theta": "5000", "tie_word_embeddings": "true", "max_position_embeddings": "2048",
            "only_lr_act": "true", "hidden_act": #""silu""#,
        ])
        let norm = NormDescription(.rms, epsilon: 1e-5)
        #expect(model.hiddenSize == 24 && model.vocabularySize == 61 && model.blocks.count == 3)
        #expect(model.tiesEmbedding && model.maximumPositions == 2048 && model.finalNorm == norm)
        #expect(model.placement == .inner && model.modelType == "llama" && model.family == "llama")
        #expect(model.embeddingScale == 1 && model.positionRows == nil)
        var attention = AttentionDescription(heads: 6, keyValueHeads: 2, headSize: 10)
        attention.rotary = RotaryConfiguration(base: 5000)
        for (index, block) in model.blocks.enumerated() {
            #expect(block.attention == attention)
            #expect(block.norms == .init(attentionInput: norm, feedForwardInput: norm))
            #expect(block.feedForward == FeedForwardDescription(width: 56, isGated: true, activation: .identity))
            #expect(
                block.linears == [
                    LinearLayer(block: index, .query, inputs: 24, outputs: 60),
                    LinearLayer(block: index, .key, inputs: 24, outputs: 20),
                    LinearLayer(block: index, .value, inputs: 24, outputs: 20),
                    LinearLayer(block: index, .output, inputs: 60, outputs: 24),
                    LinearLayer(block: index, .gate, inputs: 24, outputs: 56),
                    LinearLayer(block: index, .up, inputs: 24, outputs: 56),
                    LinearLayer(block: index, .down, inputs: 56, outputs: 24),
                ])
        }
    }

    @Test("Missing and null values have the defaults of the model family")
    func defaults() throws {
        let model = try read([
            "model_type": nil, "num_key_value_heads": "null", "rms_norm_eps": nil, "sliding_window": "null",
            "rope_scaling": "null", "max_position_embeddings": nil,
        ])
        var attention = AttentionDescription(heads: 6, keyValueHeads: 6, headSize: 4)
        attention.rotary = RotaryConfiguration(base: 10000)
        #expect(model.modelType == "llama" && model.blocks.allSatisfy { $0.attention == attention })
        #expect(model.finalNorm.epsilon == 1e-6 && !model.tiesEmbedding && model.placement == .both)
        #expect(model.maximumPositions == nil && model.blocks[0].feedForward.activation == .silu)
    }

    @Test("Placements of σ by their own key and by the paper's", arguments: ActivationPlacement.allCases)
    func placements(placement: ActivationPlacement) throws {
        let text = "\"\(placement.rawValue)\""
        let model = try read(["cola_activation": text, "only_lr_act": "true"])
        #expect(model.placement == placement)
        #expect(try read(["only_lr_act": "false"]).placement == .both)
        let plain = try ModelDescription(
            json: RandomModel(name: "", modelType: "gpt2", placement: placement).json, path: "")
        for (model, act, first) in [(model, Activation.silu, LinearRole.gate), (plain, .geluTanh, .up)] {
            let outer = model.blocks[0].feedForward.activation
            #expect(model.linears.allSatisfy { !$0.isLowRank })
            let inner = model.with(rank: 5).blocks[0].linears.filter { $0.bottleneck!.isActivated }.map(\.role)
            switch placement {
            case .both: #expect(outer == act && inner == model.blocks[0].linears.map(\.role))
            case .inner: #expect(outer == .identity && inner == model.blocks[0].linears.map(\.role))
            case .reduced: #expect(outer == .identity && inner == [first])
            case .original: #expect(outer == act && inner.isEmpty)
            }
        }
    }

    @Test("Scalings of rotation, old and new spelling")
    func scalings() throws {
        let linear = #"{"type": "linear", "factor": 4}"#
        #expect(try rotary(["rope_scaling": linear]).scaling == .linear(factor: 4))
        let llama3 = """
            {"rope_type": "llama3", "rope_theta": 500000, "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
             "original_max_position_embeddings": 32}
            """
        let expected = RotaryConfiguration.Scaling.llama3(factor: 8, low: 1, high: 4, originalPositions: 32)
        for place in ["rope_parameters", "rope_scaling"] {
            for outside in [nil, "null", "5e5"] {
                let read = try rotary([place: llama3, "rope_theta": outside])
                #expect(read.scaling == expected && read.base == 500000, "\(place)")
            }
        }
        #expect(try rotary(["rope_parameters": llama3, "rope_scaling": llama3]).scaling == expected)
        let positions = llama3.replacing(#""original_max_position_embeddings": 32"#, with: #""x": null"#)
        let fallback = try rotary(["rope_scaling": positions, "max_position_embeddings": "64"])
        #expect(fallback.scaling == .llama3(factor: 8, low: 1, high: 4, originalPositions: 64))
    }

    @Test("Parameters of the rotation by kind of layer, and the share of a head that is rotated")
    func rotaryPlaces() throws {
        let nested =
            #"{"full_attention": {"rope_theta": 8, "rope_type": "linear", "factor": 2},"#
            + #" "sliding_attention": {"rope_theta": 9, "rope_type": "default"}}"#
        let read = try rotary(["rope_parameters": nested, "layer_types": #"["full_attention"]"#])
        #expect(read.base == 8 && read.scaling == .linear(factor: 2) && read.share == 1)
        for changes in [
            ["partial_rotary_factor": "0.5"], ["rope_parameters": #"{"partial_rotary_factor": 0.5}"#],
            ["rope_scaling": #"{"partial_rotary_factor": 0.5, "rope_type": "default"}"#],
            ["rope_parameters": #"{"full_attention": {"partial_rotary_factor": 0.5}}"#],
        ] {
            let rotary = try rotary(changes)
            #expect(rotary.share == 0.5 && rotary.rotatedSize(of: 4) == 2 && rotary.base == 10000)
        }
    }

    struct Wrong: CustomTestStringConvertible, Sendable {
        let changes: [String: String?]
        let key: String
        let found: String
        let expected: String

        init(_ changes: [String: String?], _ key: String, _ found: String, _ expected: String) {
            (self.changes, self.key, self.found, self.expected) = (changes, key, found, expected)
        }

        var testDescription: String { "\(key): \(found)" }
    }

    static let sizes = [
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
    ]

    static let wrong: [Wrong] =
        sizes.map { Wrong([$0: nil], $0, "nothing", "a positive whole number") }
        + (sizes + ["num_key_value_heads", "head_dim"]).flatMap { key in
            ["0", "-4", "2.5", #""8""#, "[8]", "3000000000"].map {
                Wrong([key: $0], key, $0, "a positive whole number below 2147483648")
            }
        } + [
            Wrong(["model_type": "3"], "model_type", "3", "a text"),
            Wrong(["num_key_value_heads": "4"], "num_key_value_heads", "4", "a divisor of num_attention_heads 6"),
            Wrong(["num_key_value_heads": "12"], "num_key_value_heads", "12", "a divisor of num_attention_heads 6"),
            Wrong(["head_dim": "5"], "head_dim", "5", "an even number"),
            Wrong(["hidden_size": "18"], "head_dim", "3", "an even number"),
            Wrong(["hidden_size": "25"], "head_dim", "nothing", "a positive whole number"),
            Wrong(["rms_norm_eps": "-1e-6"], "rms_norm_eps", "-1e-06", "a small number"),
            Wrong(["rms_norm_eps": "1"], "rms_norm_eps", "1.0", "a small number"),
            Wrong(["rms_norm_eps": #""1e-6""#], "rms_norm_eps", #""1e-6""#, "a number"),
            Wrong(["hidden_act": #""gelu""#], "hidden_act", "gelu", "silu"),
            Wrong(["sliding_window": "128"], "sliding_window", "128.0", "none: attention here sees all earlier tokens"),
            Wrong(["partial_rotary_factor": "1.5"], "partial_rotary_factor", "1.5", "above 0, at most 1"),
            Wrong(["partial_rotary_factor": "0"], "partial_rotary_factor", "0.0", "above 0, at most 1"),
            Wrong(
                ["partial_rotary_factor": "0.75"], "partial_rotary_factor", "0.75",
                "a share of the head size 4 that is an even number of at least 2, not 3.0"),
            Wrong(
                ["partial_rotary_factor": "0.5", "rope_parameters": #"{"partial_rotary_factor": 1}"#],
                "partial_rotary_factor", "0.5", "1.0, as rope_parameters.partial_rotary_factor says"),
            Wrong(
                ["rope_theta": "7", "rope_scaling": #"{"rope_theta": 8, "rope_type": "default"}"#], "rope_theta", "7.0",
                "8.0, as rope_scaling.rope_theta says"),
            Wrong(
                ["rope_parameters": #"{"rope_theta": 7, "full_attention": {"rope_theta": 8}}"#],
                "rope_parameters.rope_theta", "7.0", "8.0, as rope_parameters.full_attention.rope_theta says"),
            Wrong(
                ["rope_parameters": #"{"sliding_attention": {"rope_theta": 8}}"#], "rope_parameters.full_attention",
                "nothing beside sliding_attention", "the parameters of all layers"),
            Wrong(
                ["rope_parameters": #"{"rope_type": "linear", "factor": 2}"#, "rope_scaling": #"{"type": "llama3"}"#],
                "rope_scaling.type", "llama3", "linear, as rope_parameters.rope_type says"),
            Wrong(
                ["rope_parameters": #"{"rope_type": "default", "factor": 2}"#], "rope_parameters.factor", "2",
                "nothing: default scaling has no such value"),
            Wrong(
                ["rope_scaling": #"{"type": "linear", "factor": 2, "attention_factor": 1.2}"#],
                "rope_scaling.attention_factor", "1.2", "nothing: linear scaling has no such value"),
            Wrong(
                ["layer_types": #"["full_attention", "sliding_attention", "full_attention"]"#], "layer_types",
                "sliding_attention", "full_attention in all layers"),
            Wrong(["rope_theta": "0"], "rope_theta", "0.0", "a positive number"),
            Wrong(["rope_theta": "true"], "rope_theta", "true", "a number"),
            Wrong(["rope_scaling": "7"], "rope_scaling", "7", "an object"),
            Wrong(
                ["rope_scaling": #"{"rope_type": "longrope"}"#], "rope_scaling.rope_type", "longrope",
                "default, linear, dynamic, yarn or llama3"),
            Wrong(
                ["rope_scaling": #"{"rope_type": "yarn", "factor": 2}"#],
                "rope_scaling.original_max_position_embeddings", "nothing", "a positive number"),
            Wrong(
                ["rope_scaling": #"{"rope_type": "dynamic"}"#, "max_position_embeddings": "9"], "rope_scaling.factor",
                "nothing", "a positive number"),
            Wrong(
                ["rope_scaling": #"{"rope_type": "dynamic", "factor": 2, "beta_fast": 3}"#], "rope_scaling.beta_fast",
                "3", "nothing: dynamic scaling has no such value"),
            Wrong(["rope_scaling": #"{"type": "linear"}"#], "rope_scaling.factor", "nothing", "a positive number"),
            Wrong(
                ["rope_parameters": #"{"rope_type": "linear", "factor": -2}"#], "rope_parameters.factor", "-2.0",
                "a positive number"),
            Wrong(
                ["rope_parameters": #"{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1}"#],
                "rope_parameters.high_freq_factor", "nothing", "a positive number"),
            Wrong(["tie_word_embeddings": "1"], "tie_word_embeddings", "1", "true or false"),
            Wrong(["only_lr_act": #""yes""#], "only_lr_act", #""yes""#, "true or false"),
            Wrong(["max_position_embeddings": #""long""#], "max_position_embeddings", #""long""#, "a number"),
            Wrong(["cola_activation": #""none""#], "cola_activation", "none", "one of both, inner, reduced, original"),
        ]

    @Test("A wrong value is named with its key, what was found and what was expected", arguments: wrong)
    func wrongValue(wrong: Wrong) {
        let error = TransformerError.configuration(
            path: "some/config.json", key: wrong.key, found: wrong.found, expected: wrong.expected)
        #expect(throws: error) { try read(wrong.changes) }
        #expect(
            error.description
                == "some/config.json: configuration: \(wrong.key): found \(wrong.found), expected \(wrong.expected)")
    }

    @Test("Windows block by block, and where they are switched off")
    func windows() throws {
        func windows(_ changes: [String: String?]) throws -> [Int?] {
            try read(changes).blocks.map(\.attention.window)
        }
        #expect(try windows(["sliding_window": "128", "use_sliding_window": "false"]) == [nil, nil, nil])
        #expect(try windows(["sliding_window": "128", "model_type": #""qwen2""#]) == [nil, nil, nil])
        for family in [#""qwen2""#, #""qwen3""#] {
            let used = ["sliding_window": "9", "model_type": family, "use_sliding_window": "true"]
            #expect(try windows(used.merging(["max_window_layers": "1"]) { $1 }) == [nil, 9, 9])
            #expect(try windows(used.merging(["max_window_layers": "3"]) { $1 }) == [nil, nil, nil])
            let kinds = #"["sliding_attention", "full_attention", "sliding_attention"]"#
            #expect(try windows(used.merging(["layer_types": kinds]) { $1 }) == [9, nil, 9])
        }
        let mistral = #""mistral""#
        #expect(try windows(["sliding_window": "9", "model_type": mistral]) == [9, 9, 9])
        #expect(try windows(["sliding_window": "null", "model_type": mistral]) == [nil, nil, nil])
        #expect(try windows(["model_type": mistral]) == [4096, 4096, 4096])
    }

    @Test("Another family is named, with those that are known", arguments: ["olmo2", "mixtral", "Llama", ""])
    func architecture(name: String) {
        let error = TransformerError.architecture(path: "some/config.json", found: name)
        #expect(throws: error) { try read(["model_type": "\"\(name)\""]) }
        #expect(Family.supportedModelTypes.allSatisfy { error.description.contains($0) })
    }

    @Test("Text that is no JSON, and JSON that is no object", arguments: ["", "{", "nonsense", "[1, 2]", "3", "null"])
    func noObject(text: String) {
        do throws(TransformerError) {
            _ = try ModelDescription(json: text, path: "c.json")
            Issue.record("read \(text)")
        } catch {
            guard case .configuration("c.json", "config", let found, let expected) = error else {
                Issue.record("\(error)")
                return
            }
            #expect(!found.isEmpty && ["JSON text", "an object"].contains(expected))
        }
    }
}
