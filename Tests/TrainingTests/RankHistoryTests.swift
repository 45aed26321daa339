import Foundation
import JSON
import Spectra
import TestSupport
import Testing
import Transformer

@testable import Training

@Suite("Ranks that a run follows")
struct RankHistoryTests {
    let place: TemporaryFolder

    init() throws { place = try TemporaryFolder() }

    private func folder() throws -> RunFolder { try RunFolder(existing: place.path) }

    private static let query = MeasuredModule(name: "self_attn.q_proj")
    private static let tracking = RankTracking(
        interval: 2, modules: [query, MeasuredModule(name: "mlp.down_proj"), .residual], blocks: [0, 1],
        sides: [.output, .bottleneckActivated], alphas: ["0.5", "0.95"])

    private func sample(_ tracking: RankTracking? = tracking) throws -> TrainerSample {
        var sample = try TrainerSample(steps: 5)
        sample.settings.rankTracking = tracking
        return sample
    }

    /// Trains to the end, or so many steps, measuring as a tool does.
    private func run(_ trainer: Trainer, steps: Int = .max, upTo last: Int = .max) throws {
        let history = try #require(try RankHistory(in: folder(), of: trainer))
        try history.measureIfDue(trainer)
        while !trainer.isFinished && trainer.state.step < last {
            try trainer.steps(1)
            try history.measureIfDue(trainer)
        }
    }

    private func rows() throws -> [[Substring]] {
        try place.text("rank-history.csv").split(separator: "\n").map {
            $0.split(separator: ",", omittingEmptySubsequences: false)
        }
    }

    @Test(
        "A row for each place before the first step, at the interval and after the last, in the columns of ranks.csv"
    )
    func table() throws {
        try run(try sample().trainer())
        let rows = try rows()
        #expect(
            rows[0] == [
                "step", "tokens_seen", "layer", "module", "side", "tokens", "features", "max_rank", "rank_0.5",
                "rank_0.95", "entropy_rank", "entropy_rank_sigma", "participation_ratio", "stable_rank",
                "energy_at_quarter", "relative_error_at_quarter",
            ])
        // Two modules with two sides, the residual stream with one; two layers.
        #expect(rows.count == 1 + 4 * 10)
        for (index, step) in [0, 2, 4, 5].enumerated() {
            let part = rows[(1 + 10 * index)..<(11 + 10 * index)]
            #expect(part.allSatisfy { $0[0] == "\(step)" && $0[1] == "\(step * 66)" }, "step \(step)")
            #expect(
                part.map { "\($0[2]) \($0[3]) \($0[4])" }
                    == (0...1).flatMap { layer in
                        [
                            "self_attn.q_proj output", "self_attn.q_proj bottleneck_activated", "mlp.down_proj output",
                            "mlp.down_proj bottleneck_activated", "residual output",
                        ].map { "\(layer) \($0)" }
                    })
        }
    }

    @Test("The numbers are those of the model after the step, on the tokens that the step learnt from")
    func numbers() throws {
        let sample = try sample()
        try run(try sample.trainer())
        let found = try rows().dropFirst().map { $0.dropFirst(2).joined(separator: ",") }
        let trainer = try sample.trainer()
        for (index, step) in [0, 2, 4, 5].enumerated() {
            while trainer.state.step < step { try trainer.steps(1) }
            let model = LanguageModel(trainer.masters)
            let analysis = try SpectrumAnalysis(Self.tracking.request, of: model)
            let workspace = Workspace(model, maximumTokens: 66, longestSequence: 11)
            // All six sequences: 4 · 18 features are more than their tokens.
            #expect(4 * analysis.widestSite == 72)
            for cursor in [0, 3] {
                let batch = try sample.data.batch(from: max(0, step - 1) * 6 + cursor, count: 3)
                model.forward(batch.tokens, in: workspace, observer: analysis)
            }
            let expected = try analysis.spectra().map {
                MeasuredSpectrum($0, alphas: [0.5, 0.95], quarter: 4).rankFields.joined(separator: ",")
            }
            #expect(Array(found[(10 * index)..<(10 * index + 10)]) == expected, "step \(step)")
            #expect(expected.allSatisfy { $0.contains(",66,") })
        }
        // Ranks move; a table of the first model throughout would not.
        #expect(Set(found.prefix(10)).isDisjoint(with: found.suffix(10)))
    }

    @Test("No more batches than give four tokens for each feature")
    func tokens() throws {
        var sample = try sample(
            RankTracking(interval: 1, modules: [Self.query], blocks: [0], sides: [.bottleneckActivated]))
        sample.settings.batch = 2
        sample.settings.accumulation = 4
        try run(try sample.trainer(), upTo: 1)
        // Five features: twenty tokens, which one batch of 22 has.
        #expect(try rows().dropFirst().map { $0[5] } == ["22", "22"])
    }

    @Test("Following ranks moves no bit of the training", arguments: [Precision.f32, .bf16])
    func withoutEffect(_ precision: Precision) throws {
        var (with, without) = (try sample(), try sample(nil))
        with.settings.precision = precision
        without.settings.precision = precision
        let (one, other) = (try with.trainer(), try without.trainer())
        try run(one)
        try other.steps()
        expectEqual(bits(one.masters), bits(other.masters))
        expectEqual(one.state.history.map(\.loss), other.state.history.map(\.loss))
        #expect(try RankHistory(in: folder(), of: other) == nil)
    }

    @Test("A resumed table is the uninterrupted one's, whatever was torn off or came later", arguments: 0...5)
    func resumed(step: Int) throws {
        let sample = try sample()
        try run(try sample.trainer())
        let whole = try place.text("rank-history.csv")
        unlink(place.file("rank-history.csv"))
        let part = try sample.trainer()
        try run(part, upTo: step)
        let other = try TemporaryFolder()
        try part.save(to: other.file("run.h5"), configuration: "{}", provenance: "{}", tokenizer: nil)
        let left = try place.text("rank-history.csv")
        // As it was, with a torn line, and with all that came later.
        for text in [left, left + "4,264,0,self_a", whole] {
            try place.write(text, "rank-history.csv")
            let (source, state) = try RunFile.read(path: other.file("run.h5"))
            let settings = try TrainingSettings(state.settings, path: "run.h5")
            #expect(settings == sample.settings)
            try run(
                try Trainer(resuming: source, sample.description, data: sample.data, settings: settings, state: state)
            )
            try expectEqual(place.text("rank-history.csv"), whole)
        }
        #expect(place.contents == ["rank-history.csv"])
    }

    @Test("A file that is no such table is named with its line, and stays as it is")
    func otherTable() throws {
        let trainer = try sample().trainer()
        try run(trainer, upTo: 2)
        let whole = try place.text("rank-history.csv")
        for (text, line, found) in [
            ("step,loss\n1,2\n", "line 1", "step,loss"), (whole + "x,1\n", "line 22", "x,1"),
            (whole.replacing("rank_0.95", with: "rank_0.9"), "line 1", "step,tokens_seen,layer"),
        ] {
            try place.write(text, "rank-history.csv")
            guard
                case .invalid(place.file("rank-history.csv"), line, let words, _) = runError({
                    _ = try RankHistory(in: folder(), of: trainer)
                })
            else {
                Issue.record("\(line) was read")
                continue
            }
            #expect(words.hasPrefix(found))
            try expectEqual(place.text("rank-history.csv"), text)
        }
    }

    @Test("What to follow comes back from its JSON text; invalid parts are named")
    func settings() throws {
        let settings = try sample().settings
        let json = try #require(try JSONValue(parsing: JSONValue.object(settings.json).text()).objectValue)
        #expect(try TrainingSettings(json, path: "run.h5") == settings)
        let whole = try #require(json["rank_tracking"]?.objectValue)
        for name in whole.members.map(\.key) {
            for value in [nil, .null, true, ["a": 1], [["a"]]] as [JSONValue?] {
                var (json, other) = (json, whole)
                other[name] = value
                json["rank_tracking"] = .object(other)
                guard
                    case .invalid(_, let place, _, _) = runError({ _ = try TrainingSettings(json, path: "run.h5") }),
                    place.hasPrefix("/training, settings, rank_tracking.\(name)")
                else {
                    Issue.record("\(name): \(value?.text() ?? "nothing") was read")
                    continue
                }
            }
        }
        for (name, change) in [
            ("interval", { $0.interval = 0 }), ("modules", { $0.modules = [] }),
            ("modules", { $0.modules = [MeasuredModule(name: "mlp.q_proj")] }), ("layers", { $0.blocks = [] }),
            ("layers", { $0.blocks = [1, 0] }), ("layers", { $0.blocks = [0, 2] }), ("layers", { $0.blocks = [-1] }),
            ("sides", { $0.sides = [] }), ("alphas", { $0.alphas = ["0.5", "0.5"] }), ("alphas", { $0.alphas = ["0"] }),
            ("alphas", { $0.alphas = ["1.1"] }), ("alphas", { $0.alphas = ["x"] }),
        ] as [(String, (inout RankTracking) -> Void)] {
            var tracking = Self.tracking
            change(&tracking)
            guard case .setting("rank tracking, \(name)", _, _) = trainingError({ _ = try sample(tracking).trainer() })
            else {
                Issue.record("\(name) was taken")
                continue
            }
        }
    }

    @Test("A full disk leaves whole rows", .needsSmallDisk)
    func fullDisk() throws {
        let disk = try #require(SmallDisk(".", in: place, kibibytes: 24))
        var sample = try sample()
        sample.settings.rankTracking?.interval = 1
        sample.settings.schedule = try LearningRateSchedule(peak: 1e-2, warmupSteps: 2, totalSteps: 1000)
        let trainer = try sample.trainer()
        let error = runError { try run(trainer) }
        #expect(error == .cannotWrite(path: place.file("rank-history.csv"), reason: "No space left on device"))
        let rows = try rows()
        #expect(rows.count > 11 && rows.allSatisfy { $0.count == rows[0].count } && (rows.count - 1) % 10 == 0)
        withExtendedLifetime(disk) {}
    }
}
