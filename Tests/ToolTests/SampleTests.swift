import Foundation
import TestSupport
import Testing

/// The trained model of notebooks-data: what is only so in models that have learnt.
@Suite("The embedded sample")
struct SampleTests {
    let workplace: Workplace
    private let model = Self.place("state-of-the-union.h5")
    private let heldOut = Self.place("state-of-the-union-heldout.u16")

    init() throws { workplace = try Workplace() }

    private static func place(_ name: String) -> String {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return root.appendingPathComponent("notebooks-data/\(name)").path
    }

    /// Its first tokens, as a file in the workplace.
    private func excerpt(_ count: Int) throws -> String {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: heldOut)).prefix(2 * count)
        try #require(bytes.count == 2 * count)
        try workplace.write([UInt8](bytes), "excerpt.u16")
        return "excerpt.u16"
    }

    @Test("It has learnt: far better on addresses it has not seen than frequencies of tokens are")
    func hasLearnt() throws {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: heldOut))
        var counts: [Int: Int] = [:]
        for i in stride(from: 0, to: bytes.count, by: 2) {
            counts[Int(bytes[i]) + 256 * Int(bytes[i + 1]), default: 0] += 1
        }
        let total = Double(bytes.count / 2)
        let entropy = -counts.values.reduce(0) { $0 + Double($1) / total * log(Double($1) / total) }
        let result = try workplace.json(
            .analyze, "perplexity", model, "--tokens", heldOut, "--window", "256", "--stride", "256", "--quiet")
        let nats = try #require(result["nats_per_token"]?.doubleValue)
        #expect(nats < entropy - 2.5, "\(nats) and \(entropy)")
    }

    @Test("Its spectra are those of the reference method, and steep")
    func spectra() throws {
        let tokens = try excerpt(2048)
        var tables: [[[Substring]]] = []
        for method in ["gram", "qr"] {
            try workplace.succeed(
                .analyze, "spectrum", model, "--tokens", tokens, "--accumulation", method, "--out", method, "--quiet")
            let ranks = try Metrics(try workplace.text("\(method)/ranks.csv"))
            tables.append([try ranks.column("rank_0.90"), try ranks.column("rank_0.95"), try ranks.column("rank_0.99")])
            let share = zip(try ranks.numbers("rank_0.95"), try ranks.numbers("max_rank")).map { $0 / $1 }
            #expect(share.reduce(0, +) / Double(share.count) < 0.6)
        }
        #expect(tables[0] == tables[1] && tables[0][0].count >= 28)
    }

    @Test("Its gradients are the same in every memory mode that it can have")
    func gradients() throws {
        let tokens = try excerpt(600)
        for mode in ["plain", "checkpoint"] {
            try workplace.succeed(
                .train, "gradients", model, "--tokens", tokens, "--memory", mode, "--precision", "f32", "--out",
                "\(mode).h5", "--quiet")
        }
        try expectEqual(workplace.gradients(in: "plain.h5"), workplace.gradients(in: "checkpoint.h5"))
    }

    @Test("Training it on starts from what it knows and goes on from there")
    func trainingOn() throws {
        let tokens = try excerpt(4 * 256 + 1)
        let before = try workplace.json(
            .analyze, "perplexity", model, "--tokens", tokens, "--window", "257", "--stride", "256", "--quiet")
        try workplace.succeed(
            .train, "continue", model, "--tokens", tokens, "--batch", "4", "--evaluation-fraction", "0", "--steps", "8",
            "--learning-rate", "1e-3", "--precision", "f32", "--out", "run", "--quiet")
        let losses = try workplace.metrics().numbers("loss")
        #expect(abs(losses[0] - (try #require(before["nats_per_token"]?.doubleValue))) < 1e-5)
        #expect(losses[7] < losses[0] - 0.3, "\(losses)")
    }

    @Test("Weighed by the loss its conversion is far better than by outputs or weights, and σ hardly costs")
    func converts() throws {
        let calibration = try excerpt(16_384)
        let rest = try Data(contentsOf: URL(fileURLWithPath: heldOut)).suffix(2 * 16_384)
        try workplace.write([UInt8](rest), "rest.u16")
        func loss(_ checkpoint: String) throws -> Double {
            let result = try workplace.json(
                .analyze, "perplexity", checkpoint, "--tokens", "rest.u16", "--window", "256", "--quiet")
            return try #require(result["nats_per_token"]?.doubleValue)
        }
        func converted(_ options: String...) throws -> Double {
            let outcome = try workplace.run(
                .convert,
                [
                    "dense-to-lowrank", model, "out.h5", "--keep", "0.5", "--tokens", calibration, "--sequence-length",
                    "256",
                ]
                    + options + ["--quiet"])
            try #require(outcome.status == 0, "\(outcome)")
            return try loss("out.h5")
        }
        let dense = try loss(model)
        let weights = try converted("--method", "weight", "--activation", "identity")
        let outputs = try converted("--method", "output", "--activation", "identity")
        let fisher = try converted("--activation", "identity")
        let activated = try converted()
        let refined = try converted("--anchor", "--refine", "3")
        let figures = "\(dense): \(weights) \(outputs) \(fisher) \(activated) \(refined)"
        #expect(dense < fisher && fisher < outputs - 0.5 && outputs < weights - 0.2, "\(figures)")
        #expect(activated < fisher + log(1.05) && refined < activated - 0.02, "\(figures)")
    }
}
