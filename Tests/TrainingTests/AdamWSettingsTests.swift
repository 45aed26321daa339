import Tensors
import Testing
import Transformer

@testable import Training

extension ModelWeights {
    /// Sets one element, counted row by row, of one parameter.
    fileprivate func set(_ name: String, _ index: Int, _ value: Float) throws {
        let view = try named(name).view
        view[index / view.columns, index % view.columns] = value
    }
}

@Suite("Gradient norm and clipping")
struct GradientNormTests {
    @Test("Clipping shortens what is too long only, and does not hide what is not a number")
    func clipping() {
        #expect(AdamW.clippingScale(norm: 0, limit: 1) == 1)
        #expect(AdamW.clippingScale(norm: 0.99, limit: 1) == 1)
        #expect(AdamW.clippingScale(norm: 4, limit: 1) == 1 / 4.000001)
        #expect(AdamW.clippingScale(norm: .infinity, limit: 1) == 0)
        #expect(AdamW.clippingScale(norm: .nan, limit: 1).isNaN)
    }

    @Test("The first parameter that is not finite is named", arguments: [Float.nan, .infinity])
    func notFinite(value: Float) throws {
        let gradients = try optimizerModel()
        for parameter in gradients.parameters { parameter.weight.fillNormal(deviation: 1e30, seed: 3) }
        #expect(AdamW.firstNotFinite(gradients) == nil && AdamW.gradientNorm(gradients).isFinite)
        try gradients.set("lm_head.weight", 68_101, value)
        #expect(AdamW.firstNotFinite(gradients) == "lm_head.weight" && !AdamW.gradientNorm(gradients).isFinite)
        try gradients.set("model.layers.1.mlp.up_proj.cola_a", 17, value)
        #expect(AdamW.firstNotFinite(gradients) == "model.layers.1.mlp.up_proj.cola_a")
    }
}

@Suite("Settings of AdamW")
struct AdamWSettingsTests {
    @Test("A star stands for any characters, the rest for itself")
    func patterns() {
        func matches(_ pattern: String, _ name: String) -> Bool { ParameterGroup(pattern: pattern).contains(name) }
        for pattern in ["a.b.a.b", "*", "**", "a*", "*b", "a*b", "a.*.b", "*.b.*", "a.b*a.b", "*a.b", "a*b*a*b"] {
            #expect(matches(pattern, "a.b.a.b"), "\(pattern)")
        }
        for pattern in [
            "", "a", "b", "a.b.a", "b*", "*a", "a.b.a*a.b", "a.b.a.b*b", "*c*", "a*a*a*b", "A*", "a.b.a.b.",
        ] {
            #expect(!matches(pattern, "a.b.a.b"), "\(pattern)")
        }
        #expect(matches("*", "") && matches("", ""))
    }

    @Test("A group without parameters is an error that names its pattern")
    func uselessGroup() throws {
        let masters = try optimizerModel()
        let settings = AdamW.Settings(
            learningRate: 1, groups: [.init(pattern: "*.bias"), .init(pattern: "*.bais", weightDecay: 0)])
        #expect {
            try AdamW(settings, for: masters)
        } throws: { error in
            guard case .setting("parameter group", "\"*.bais\"", _) = error as? TrainingError else { return false }
            return true
        }
    }

    @Test("The exception of vectors names norms, and biases where there are any")
    func vectors() throws {
        let masters = try optimizerModel()
        let groups = ParameterGroup.withoutDecayOfVectors(in: masters)
        let rules = try AdamW.Settings(learningRate: 1, weightDecay: 0.2, groups: groups)
            .rules(for: masters.parameters.map(\.name))
        for (parameter, rule) in zip(masters.parameters, rules) {
            #expect(rule.weightDecay == (parameter.weight.shape.count == 1 ? 0 : 0.2), "\(parameter.name)")
            #expect(rule.learningRateFactor == 1)
        }
        let json = """
            {"hidden_size": 2, "intermediate_size": 3, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 5}
            """
        var description = try ModelDescription(json: json, path: "test")
        func patterns() -> [String] {
            ParameterGroup.withoutDecayOfVectors(in: ModelWeights(description, precision: nil)).map(\.pattern)
        }
        #expect(patterns() == ["*norm.weight"])
        // Norms of other families, and their biases.
        let norm = NormDescription(.layer, epsilon: 1e-5, hasBias: true)
        description.blocks[0].norms.feedForwardOutput = norm
        description.blocks[0].attention.headNorm = norm
        let other = ModelWeights(description, precision: nil)
        #expect(patterns() == ["*norm.weight", "*.norms.*.weight", "*.bias"])
        let otherRules = try AdamW.Settings(
            learningRate: 1, weightDecay: 0.2, groups: ParameterGroup.withoutDecayOfVectors(in: other)
        ).rules(for: other.parameters.map(\.name))
        for (parameter, rule) in zip(other.parameters, otherRules) {
            #expect(rule.weightDecay == (parameter.weight.shape.count == 1 ? 0 : 0.2), "\(parameter.name)")
        }
    }

    @Test("Of several groups the last one holds, but a unit stays unless another is given")
    func laterGroups() throws {
        let settings = AdamW.Settings(
            learningRate: 1, weightDecay: 0.2,
            groups: [
                .init(pattern: "*a", learningRateFactor: 3, weightDecay: 0.1, unit: 8), .init(pattern: "*a*"),
                .init(pattern: "ba", learningRateFactor: 5, unit: 4),
            ])
        #expect(
            try settings.rules(for: ["aa", "ba", "ab", "bb"]) == [
                .init(learningRateFactor: 1, weightDecay: 0.2, unit: 8),
                .init(learningRateFactor: 5, weightDecay: 0.2, unit: 4),
                .init(learningRateFactor: 1, weightDecay: 0.2, unit: 1),
                .init(learningRateFactor: 1, weightDecay: 0.2, unit: 1),
            ])
    }

    @Test("Invalid values are refused by name")
    func badValues() {
        func name(_ change: (inout AdamW.Settings) -> Void) -> String? {
            var settings = AdamW.Settings(learningRate: 1e-3, groups: [.init(pattern: "x", weightDecay: 0)])
            change(&settings)
            do throws(TrainingError) { try settings.validate() } catch {
                if case .setting(let name, _, _) = error { return name }
            }
            return nil
        }
        #expect(name { _ in } == nil)
        for bad in [-1, Double.nan, .infinity] {
            #expect(name { $0.learningRate = bad } == "learning rate")
            #expect(name { $0.beta1 = bad } == "beta1")
            #expect(name { $0.beta2 = bad } == "beta2")
            #expect(name { $0.epsilon = bad } == "epsilon")
            #expect(name { $0.weightDecay = bad } == "weight decay")
            #expect(name { $0.groups[0].learningRateFactor = bad } == "learning-rate factor of x")
            #expect(name { $0.groups[0].weightDecay = bad } == "weight decay of x")
            #expect(name { $0.groups[0].unit = bad } == "unit of x")
        }
        #expect(name { $0.learningRate = 0 } == "learning rate")
        #expect(name { $0.beta1 = 0 } == nil && name { $0.beta2 = 1 } == "beta2")
        #expect(name { $0.beta2 = 1 - 1e-9 } == "beta2")
        #expect(name { $0.epsilon = 0 } == "epsilon")
        #expect(name { $0.groups[0].unit = 0 } == "unit of x")
    }
}
