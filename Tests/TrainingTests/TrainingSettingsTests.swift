import JSON
import Testing
import Transformer

@testable import Training

@Suite("Settings of a training run")
struct TrainingSettingsTests {
    /// No value is that of a fresh one.
    private func unusual() throws -> TrainingSettings {
        var settings = TrainingSettings(
            schedule: try LearningRateSchedule(
                peak: 1.0 / 3, warmupSteps: 17, totalSteps: 1234, shape: .linear, floor: 1e-17),
            optimizer: .init(
                learningRate: 1.0 / 3, beta1: 0.7, beta2: 1 - 1e-7, epsilon: 3e-9, weightDecay: 1e-300,
                groups: [
                    .init(pattern: "*größer\"*", learningRateFactor: 0, weightDecay: nil),
                    .init(pattern: "*", learningRateFactor: 1e22, weightDecay: 0, unit: 0.1),
                ]))
        settings.sequenceLength = 1000
        settings.batch = 3
        settings.accumulation = 1 << 30
        settings.packing = .documents
        settings.evaluationFraction = 0.99999999999
        settings.evaluationInterval = 7
        settings.evaluationSequences = 1
        settings.seed = .max
        settings.clip = 0
        settings.memory = .colaM
        settings.precision = .bf16
        settings.skipLimit = 1
        settings.teacherShare = 0.25
        settings.rankTracking = RankTracking(
            interval: 3, modules: [.residual], blocks: [1, 4], sides: [.input, .bottleneck], alphas: ["0.50"])
        return settings
    }

    @Test("They come back from their JSON text as they were")
    func roundTrip() throws {
        let usual = TrainingSettings(
            schedule: try LearningRateSchedule(peak: 6e-3, warmupSteps: 2000, totalSteps: 10_000),
            optimizer: .init(learningRate: 6e-3))
        for settings in [try unusual(), usual] {
            let text = JSONValue.object(settings.json).text()
            let read = try #require(try JSONValue(parsing: text).objectValue)
            #expect(try TrainingSettings(read, path: "run.h5") == settings)
        }
        // Each of them is told apart from a usual one.
        let (some, others) = (try unusual().json, usual.json)
        #expect(some.members.map(\.key) == others.members.map(\.key) + ["rank_tracking"])
        for (a, b) in zip(some.members, others.members) { #expect(a.value != b.value, "\(a.key)") }
    }

    @Test("A setting that is missing, of another kind or without meaning is named")
    func wrong() throws {
        let whole = try unusual().json
        for name in whole.members.map(\.key) {
            for (value, found) in [
                (nil, "nothing"), (.null, "null"), (true, "true"), (["a": 1], "an object of 1 member"),
            ] as [(JSONValue?, String)] {
                if name == "rank_tracking", value == nil || value == .null || found.hasPrefix("an object") { continue }
                var json = whole
                json[name] = value
                let error = runError { _ = try TrainingSettings(json, path: "run.h5") }
                guard case .invalid("run.h5", "/training, settings, \(name)", found, _) = error else {
                    Issue.record("\(name): \(String(describing: error))")
                    continue
                }
            }
        }
        // Of a group too; a run file older than units has none.
        let group: JSONObject = ["pattern": "*", "learning_rate_factor": 2, "weight_decay": 0.5, "unit": 3]
        func read(_ group: JSONObject) throws -> ParameterGroup {
            var json = whole
            json["groups"] = .array([.object(group)])
            return try #require(TrainingSettings(json, path: "run.h5").optimizer.groups.first)
        }
        #expect(try read(group) == .init(pattern: "*", learningRateFactor: 2, weightDecay: 0.5, unit: 3))
        for name in group.members.map(\.key) {
            for value in ["x", true, ["a": 1], nil, .null] as [JSONValue?] where name != "pattern" || value != "x" {
                var other = group
                other[name] = value
                if value.map(\.isNull) ?? true, ["weight_decay", "unit"].contains(name) {
                    let found = try read(other)
                    #expect((name == "unit" ? found.unit : found.weightDecay) == nil)
                    continue
                }
                guard
                    case .invalid("run.h5", "/training, settings, groups[0].\(name)", _, _) = runError({
                        _ = try read(other)
                    })
                else {
                    Issue.record("\(name): \(value?.text() ?? "nothing") was read")
                    continue
                }
            }
        }
        // Of a later version, whose meaning nobody here knows.
        var later = whole
        later["format_version"] = 2
        let error = runError { _ = try TrainingSettings(later, path: "run.h5") }
        #expect(
            error == .invalid(path: "run.h5", place: "/training, settings, format_version", found: "2", expected: "1"))
        later["format_version"] = 1
        #expect(try TrainingSettings(later, path: "run.h5") == unusual())
        for (name, value) in [
            ("batch", 0), ("accumulation", -1), ("sequence_length", 0), ("evaluation_interval", -1),
            ("evaluation_sequences", 0), ("skip_limit", 0), ("steps", 0), ("warmup_steps", 1235), ("learning_rate", 0),
            ("learning_rate_floor", 2), ("beta1", 1), ("epsilon", 0), ("weight_decay", -1), ("clip", -1),
            ("evaluation_fraction", 1), ("batch", .integer(1 << 31)),
        ] as [(String, JSONValue)] {
            var json = whole
            json[name] = value
            #expect(throws: TrainingError.self, "\(name)") { try TrainingSettings(json, path: "run.h5") }
        }
    }
}
