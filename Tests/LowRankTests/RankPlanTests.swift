import JSON
import Testing
import Transformer

@testable import LowRank

@Suite struct RankPlanTests {
    static func plan() throws -> (RankPlan, Decoder, [LayerEnergies]) {
        let decoder = try TinyDecoder.make()
        let moments = CalibrationMoments(
            decoder, fingerprint: decoder.weights.fingerprint, labelSeed: 1, sequenceLength: 30)
        try moments.add(TinyDecoder.sequences([30, 30]))
        let layers = try LayerEnergies.all(of: decoder, .fisher, moments)
        let plan = try RankPlan(
            layers, .keep(share: 0.6), modelParameters: decoder.weights.parameterCount, multiple: 2,
            fingerprint: moments.record.fingerprint, weighting: .fisher, calibration: moments.record)
        return (plan, decoder, layers)
    }

    private func read(_ text: String, _ decoder: Decoder) throws -> RankPlan {
        try RankPlan(text, path: "plan.json", of: decoder.configuration, fingerprint: decoder.weights.fingerprint)
    }

    @Test func whatIsWrittenIsRead() throws {
        let (plan, decoder, layers) = try Self.plan()
        let copy = try read(JSONValue.object(plan.json).text(indent: 2), decoder)
        #expect(copy.entries.map(\.rank) == plan.entries.map(\.rank))
        #expect(copy.entries.map(\.keptEnergy) == plan.entries.map(\.keptEnergy))
        #expect(copy.calibration == plan.calibration && copy.weighting == plan.weighting)
        #expect(plan.keptShare <= 0.6 && plan.keptShare > 0.5)
        for (entry, layer) in zip(plan.entries, layers) {
            let tail = entry.rank.map { layer.energies.dropFirst($0).reduce(0, +) } ?? 0
            #expect(abs(entry.lossIncrease! - tail / 2) <= 1e-12 * (1 + tail))
            #expect((entry.reason != nil) == (entry.rank == nil))
        }
    }

    @Test func anEditedRankCounts() throws {
        let (plan, decoder, _) = try Self.plan()
        var json = plan.json
        var rows = json["layers"]!.arrayValue!
        var row = rows[3].objectValue!
        row["rank"] = 7
        rows[3] = .object(row)
        json["layers"] = .array(rows)
        #expect(try read(JSONValue.object(json).text(), decoder).entries[3].rank == 7)
    }

    @Test(
        "plans that are none",
        arguments: [
            ("layers[0], rank", "rank", "0"), ("layers[0], rank", "rank", "21"), ("layers[0], rank", "rank", "\"8\""),
            ("layers[0], layer", "layer", "2"), ("layers[0], module", "module", "\"mlp.c_fc\""),
            ("each layer once", "module", "\"self_attn.k_proj\""), ("fingerprint", "fingerprint", "\"0\""),
            ("weighting", "weighting", "\"entropy\""), ("format", "format", "\"plan\""), ("layers", "layers", "3"),
        ])
    func badPlans(place: String, key: String, value: String) throws {
        let (plan, decoder, _) = try Self.plan()
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
        let error = #expect(throws: LowRankError.self) { try read(JSONValue.object(json).text(), decoder) }
        #expect("\(error!)".hasPrefix("plan.json: ") && "\(error!)".contains(place), "\(error!)")
    }

    @Test func aLayerIsMissing() throws {
        let (plan, decoder, _) = try Self.plan()
        var json = plan.json
        json["layers"] = .array(Array(json["layers"]!.arrayValue!.dropLast()))
        let error = #expect(throws: LowRankError.self) { try read(JSONValue.object(json).text(), decoder) }
        #expect("\(error!)".contains("layer 1 mlp.down_proj"))
    }

    @Test func textThatIsNoJSON() throws {
        let decoder = try TinyDecoder.make()
        #expect(throws: LowRankError.self) { try read("ranks: 8", decoder) }
    }

    @Test("policies that no ranks meet")
    func impossiblePolicies() throws {
        let (plan, decoder, layers) = try Self.plan()
        for policy in [RankPolicy.uniform(rank: 100), .uniform(rank: 0), .keep(share: 0.01), .parameters(100)] {
            #expect(throws: LowRankError.self) {
                try RankPlan(
                    layers, policy, modelParameters: decoder.weights.parameterCount, multiple: 8,
                    fingerprint: plan.fingerprint, weighting: .fisher, calibration: nil)
            }
        }
    }

    @Test("the whole model has at most the parameters that were asked for")
    func parameterBudget() throws {
        let (plan, decoder, layers) = try Self.plan()
        let all = decoder.weights.parameterCount
        for budget in [all * 3 / 4, all * 9 / 10] {
            let other = try RankPlan(
                layers, .parameters(budget), modelParameters: all, multiple: 1, fingerprint: plan.fingerprint,
                weighting: .fisher, calibration: nil)
            let recipe = ConversionRecipe()
            let size = all - other.denseParameters + other.parameters
            #expect(size <= budget && size > budget - 200 && recipe.weighting == .fisher)
        }
    }

    @Test("config.json says the ranks, and which layers stay dense")
    func configuration() throws {
        let decoder = try TinyDecoder.make()
        let plan = TinyDecoder.plan(decoder) { layer, module in
            layer == 1 && module == .up ? nil : module == .key ? 3 : 5
        }
        let values = plan.configuration(of: ["model_type": "qwen2", "sliding_window": 99, "hidden_size": 20], .silu)
        #expect(values["rank"]?.intValue == 5 && values["model_type"]?.stringValue == "cola")
        #expect(values["sliding_window"] == nil && values["hidden_size"]?.intValue == 20)
        #expect(values["ranks"]?["0.self_attn.k_proj"]?.intValue == 3)
        #expect(values["ranks"]?["1.mlp.up_proj"]?.isNull == true)
        #expect(values["cola_activation"]?.stringValue == "both")
        #expect(plan.configuration(of: [:], .identity)["cola_activation"]?.stringValue == "original")
    }
}
