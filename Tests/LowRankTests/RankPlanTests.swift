import JSON
import TestSupport
import Testing
import Transformer

@testable import LowRank

@Suite struct RankPlanTests {
    static func plan(hasBias: Bool = false) throws -> (RankPlan, LanguageModel, [LayerEnergies]) {
        let model = try TinyModel.make(hasBias: hasBias)
        let moments = CalibrationMoments(
            model, fingerprint: model.weights.fingerprint, labelSeed: 1, sequenceLength: 30)
        try moments.add(TinyModel.sequences([30, 30]))
        let layers = try LayerEnergies.all(of: model, .fisher, moments)
        let plan = try RankPlan(
            layers, .keep(share: 0.6), modelParameters: model.weights.parameterCount, multiple: 2,
            by: .init(
                fingerprint: moments.record.fingerprint, weighting: .fisher, calibration: moments.record))
        return (plan, model, layers)
    }

    private func read(_ text: String, _ model: LanguageModel) throws -> RankPlan {
        try RankPlan(text, path: "plan.json", of: model.description, fingerprint: model.weights.fingerprint)
    }

    @Test("what is written is read", arguments: [false, true])
    func whatIsWrittenIsRead(hasBias: Bool) throws {
        let (plan, model, layers) = try Self.plan(hasBias: hasBias)
        #expect(plan.entries.contains { $0.rank == nil } && plan.entries.contains { $0.rank != nil })
        let text = JSONValue.object(plan.json).text(indent: 2)
        expectIdentical(try read(text, model), plan)
        #expect(plan.keptShare <= 0.6 && plan.keptShare > 0.5)
        for (entry, layer) in zip(plan.entries, layers) {
            let tail = entry.rank.map { layer.energies.dropFirst($0).reduce(0, +) } ?? 0
            #expect(abs(entry.lossIncrease! - tail / 2) <= 1e-12 * (1 + tail))
            #expect((entry.reason != nil) == (entry.rank == nil))
        }
    }

    @Test func anEditedRankCounts() throws {
        let (plan, model, _) = try Self.plan()
        var json = plan.json
        var rows = json["layers"]!.arrayValue!
        var row = rows[3].objectValue!
        row["rank"] = 7
        rows[3] = .object(row)
        json["layers"] = .array(rows)
        #expect(try read(JSONValue.object(json).text(), model).entries[3].rank == 7)
    }

    @Test(
        "plans that are none",
        arguments: [
            (
                "layers[0].rank of layer 0 self_attn.q_proj: found 0, expected 1 to 20, or null for a layer that stays "
                    + "dense", "rank", "0"
            ),
            ("layers[0].rank of layer 0 self_attn.q_proj: found 21, expected 1 to 20", "rank", "21"),
            ("layers[0].rank: found \"8\", expected a whole number", "rank", "\"8\""),
            ("layers[0].layer: found 2, expected 0 to 1", "layer", "2"),
            ("layers[0].layer: found -1, expected 0 to 1", "layer", "-1"),
            ("layers[0].module: found \"mlp.c_fc\", expected self_attn.q_proj, self", "module", "\"mlp.c_fc\""),
            ("layers[1]: found layer 0 self_attn.k_proj again, expected each", "module", "\"self_attn.k_proj\""),
            ("fingerprint: found \"0\", expected \"", "fingerprint", "\"0\""),
            ("weighting: found \"entropy\", expected one of weight, output, fisher", "weighting", "\"entropy\""),
            ("format: found \"plan\", expected \"cola-rank-plan\"", "format", "\"plan\""),
            ("format_version: found 2, expected 1", "format_version", "2"),
            ("layers: found 3, expected a list", "layers", "3"),
        ])
    func badPlans(place: String, key: String, value: String) throws {
        let (plan, model, _) = try Self.plan()
        var json = plan.json
        let value = try JSONValue(parsing: value)
        if json[key] != nil {
            json[key] = value
        } else {
            var rows = json["layers"]!.arrayValue!
            var row = rows[0].objectValue!
            row[key] = value
            rows[0] = .object(row)
            json["layers"] = .array(rows)
        }
        let error = #expect(throws: LowRankError.self) { try read(JSONValue.object(json).text(), model) }
        #expect("\(error!)".hasPrefix("plan.json: \(place)"), "\(error!)")
    }

    @Test func aLayerIsMissing() throws {
        let (plan, model, _) = try Self.plan()
        var json = plan.json
        json["layers"] = .array(Array(json["layers"]!.arrayValue!.dropLast()))
        let error = #expect(throws: LowRankError.self) { try read(JSONValue.object(json).text(), model) }
        #expect("\(error!)".contains("layer 1 mlp.down_proj"))
    }

    @Test("what is not needed may be missing, and what is not known is passed over")
    func leastPlan() throws {
        let (plan, model, _) = try Self.plan()
        let layers = plan.entries.map { entry -> JSONValue in
            [
                "layer": .integer(entry.block), "module": .string(entry.module),
                "rank": entry.rank.map { .integer($0) } ?? .null, "later": true,
            ]
        }
        let least = JSONObject([
            ("format", "cola-rank-plan"), ("format_version", 1), ("later", [1]),
            ("fingerprint", .string(plan.fingerprint)), ("weighting", "output"), ("layers", .array(layers.reversed())),
        ])
        let found = try read(JSONValue.object(least).text(), model)
        #expect(found.entries.map(\.id) == model.description.linears.map(\.id))
        #expect(found.entries.map(\.rank) == plan.entries.map(\.rank))
        #expect(found.weighting == .output && found.policy == [:] && found.calibration == nil)
        #expect(found.parameters == plan.parameters && found.denseParameters == plan.denseParameters)
        #expect(found.entries.allSatisfy { $0.keptEnergy.isNaN && $0.lossIncrease == nil && $0.reason == nil })
    }

    @Test("members stand in the order that files have always had")
    func order() throws {
        let json = try Self.plan().0.json
        #expect(
            json.members.map(\.key) == [
                "format", "format_version", "fingerprint", "weighting", "policy", "calibration", "dense_parameters",
                "parameters", "kept_share", "predicted_loss_increase", "layers",
            ])
        let low = try #require(json["layers"]?.arrayValue?.first { $0["rank"]?.isNull == false }?.objectValue)
        #expect(
            low.members.map(\.key) == [
                "layer", "module", "rank", "kept_energy", "relative_error", "loss_increase",
            ])
    }

    @Test func textThatIsNotJSON() throws {
        let model = try TinyModel.make()
        for text in ["ranks: 8", "[]"] {
            let error = #expect(throws: LowRankError.self) { try read(text, model) }
            #expect("\(error!)".hasPrefix("plan.json: plan: found"), "\(error!)")
        }
    }

    @Test("policies that no ranks meet")
    func impossiblePolicies() throws {
        let (plan, model, layers) = try Self.plan()
        for policy in [RankPolicy.uniform(rank: 100), .uniform(rank: 0), .keep(share: 0.01), .parameters(100)] {
            #expect(throws: LowRankError.self) {
                try RankPlan(
                    layers, policy, modelParameters: model.weights.parameterCount, multiple: 8,
                    by: .init(fingerprint: plan.fingerprint, weighting: .fisher, calibration: nil))
            }
        }
    }

    @Test("the whole model has at most the parameters that were asked for")
    func parameterBudget() throws {
        let (plan, model, layers) = try Self.plan()
        let all = model.weights.parameterCount
        for budget in [all * 3 / 4, all * 9 / 10] {
            let other = try RankPlan(
                layers, .parameters(budget), modelParameters: all, multiple: 1,
                by: .init(fingerprint: plan.fingerprint, weighting: .fisher, calibration: nil))
            let recipe = ConversionRecipe()
            let size = all - other.denseParameters + other.parameters
            #expect(size <= budget && size > budget - 200 && recipe.weighting == .fisher)
        }
    }

    // MARK: - config.json

    private static func mixedPlan(_ model: LanguageModel) -> RankPlan {
        TinyModel.plan(model) { linear in
            linear.block == 1 && linear.role == .up ? nil : linear.role == .key ? 3 : 5
        }
    }

    @Test("config.json says the ranks, and which layers stay dense")
    func configuration() throws {
        let plan = Self.mixedPlan(try TinyModel.make())
        let values = plan.configuration(of: ["model_type": "qwen2", "sliding_window": 99, "hidden_size": 20], .silu)
        #expect(
            values.members.map(\.key) == [
                "model_type", "hidden_size", "architectures", "rank", "ranks", "only_lr_act", "cola_activation",
                "cola_converted",
            ])
        #expect(values["rank"] == 5 && values["model_type"] == "cola" && values["hidden_size"] == 20)
        #expect(values["ranks"] == ["0.self_attn.k_proj": 3, "1.self_attn.k_proj": 3, "1.mlp.up_proj": nil])
        #expect(values["cola_activation"] == "both" && values["only_lr_act"] == false)
        #expect(values["cola_converted"] == true)
        let identity = plan.configuration(of: [:], .identity)
        #expect(identity["cola_activation"] == "original" && identity["model_type"] == "cola")
    }

    @Test(
        "another family keeps its type and all its keys",
        arguments: ["gpt2", "qwen3", "mistral", "gemma3_text", "gemma3", "unheard-of"])
    func otherFamilies(modelType: String) throws {
        let plan = Self.mixedPlan(try TinyModel.make())
        let values = JSONObject([
            ("architectures", ["Own"]), ("model_type", .string(modelType)), ("sliding_window", 99),
            ("use_sliding_window", true),
        ])
        let found = plan.configuration(of: values, .identity)
        #expect(Array(found.members.map(\.key).prefix(4)) == values.members.map(\.key))
        for (key, value) in values.members { #expect(found[key] == value) }
        #expect(found.members.dropFirst(4).map(\.key) == ["rank", "ranks", "cola_activation", "cola_converted"])
        #expect(found["rank"] == 5 && found["cola_activation"] == "original" && found["cola_converted"] == true)
    }

    @Test("a window that Qwen2 uses stays in its configuration")
    func usedWindow() throws {
        let plan = Self.mixedPlan(try TinyModel.make())
        let values = JSONObject([("model_type", "qwen2"), ("sliding_window", 99), ("use_sliding_window", true)])
        let found = plan.configuration(of: values, .silu)
        #expect(found["model_type"] == "qwen2" && found["sliding_window"] == 99 && found["use_sliding_window"] == true)
        #expect(found["rank"] == 5 && found["only_lr_act"] == nil)
    }

    @Test("where the text model has an object of its own, the ranks stand in it")
    func nestedConfiguration() throws {
        let plan = Self.mixedPlan(try TinyModel.make())
        let values = JSONObject([
            ("model_type", "gemma3"), ("text_config", ["hidden_size": 20]), ("vision_config", [:]),
        ])
        let found = plan.configuration(of: values, .silu)
        #expect(found.members.map(\.key) == values.members.map(\.key))
        let text = try #require(found["text_config"]?.objectValue)
        #expect(text.members.map(\.key) == ["hidden_size", "rank", "ranks", "cola_activation", "cola_converted"])
        #expect(text["rank"] == 5 && text["cola_activation"] == "both")
    }

    @Test("the configuration describes what the conversion makes", arguments: ConversionRecipe.Activation.allCases)
    func configurationIsTheTarget(activation: ConversionRecipe.Activation) throws {
        let gpt2 = JSONObject([
            ("model_type", "gpt2"), ("n_embd", 20), ("n_layer", 2), ("n_head", 2), ("vocab_size", 41),
            ("n_positions", 50),
        ])
        let gemma3 = JSONObject([
            ("model_type", "gemma3"),
            (
                "text_config",
                [
                    "hidden_size": 20, "intermediate_size": 33, "num_hidden_layers": 2, "num_attention_heads": 2,
                    "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 41, "sliding_window": 7,
                ]
            ),
        ])
        for values in [gpt2, gemma3] {
            let model = TinyModel.random(try ModelDescription(json: JSONValue.object(values).text(), path: "dense"))
            let plan = Self.mixedPlan(model)
            var recipe = ConversionRecipe()
            recipe.activation = activation
            let target = try Conversion(model, plan: plan, recipe: recipe, statistics: nil).target()
            let text = JSONValue.object(plan.configuration(of: values, activation)).text()
            let read = try ModelDescription(json: text, path: "converted")
            #expect(read.blocks.map(\.feedForward) == model.description.blocks.map(\.feedForward))
            // Ranks and their biases are read off the tensors.
            let layouts = Dictionary(uniqueKeysWithValues: target.linears.map { ($0.id, $0) })
            let stored = read.with { LinearLayout(rank: layouts[$0.id]?.rank, hasBias: layouts[$0.id]!.hasBias) }
            #expect(stored == target)
        }
    }
}
