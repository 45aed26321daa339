import Foundation
import JSON
import Testing

@testable import Checkpoints

@Suite("Rows that are filled up")
struct RowPaddingTests {
    private let workplace: Workplace
    private static let pad = 299
    private static let columns = 20

    /// With the dense model in own.h5, the one with a padding token in padded.h5, twelve rows of 16 tokens in plain.npy, and
    /// the same filled up to 20 in filled.npy.
    init() throws {
        workplace = try Workplace()
        try TinyModel.dense.writeCheckpoint(workplace.file("own.h5"))
        try Self.model.writeCheckpoint(workplace.file("padded.h5"))
        try rows("plain.npy", Self.texts)
        try rows("filled.npy", Self.texts.map { Self.filled($0) })
    }

    private static let model = TinyModel.dense.configured([("pad_token_id", .integer(pad))])
    private static let texts: [[Int]] = {
        let ids = learnableIDs(12 * 16, below: 90)
        return (0..<12).map { Array(ids[$0 * 16..<($0 + 1) * 16]) }
    }()

    private static func filled(_ text: [Int], id: Int = pad, isLeft: Bool = false) -> [Int] {
        let padding = [Int](repeating: id, count: columns - text.count)
        return isLeft ? padding + text : text + padding
    }

    private func rows(_ name: String, _ rows: [[Int]]) throws {
        try workplace.write(
            NumpyArray.file("<u2", shape: [rows.count, rows[0].count], rows.flatMap { $0.map { UInt16($0) } }), name)
    }

    /// Model and options that say what is padding, in each way.
    private static let ways = [["padded.h5"], ["own.h5", "--pad", "\(pad)"]]

    private func perplexity(_ arguments: [String]) throws -> JSONValue {
        let outcome = try workplace.run(.analyze, ["perplexity"] + arguments + ["--json", "--quiet"])
        try #require(outcome.status == 0, "\(outcome)")
        return try JSONValue(parsing: outcome.output)
    }

    private func expectSameLoss(
        _ found: JSONValue, _ expected: JSONValue, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(found["nats_per_token"] == expected["nats_per_token"], sourceLocation: sourceLocation)
        #expect(found["tokens"] == expected["tokens"], sourceLocation: sourceLocation)
    }

    // MARK: - Figures

    @Test("Spectra, plans, losses and gradients are those of the text, and its tokens are counted", arguments: ways)
    func figures(_ way: [String]) throws {
        let plain = ["own.h5", "--tokens", "plain.npy"]
        let filled = way + ["--tokens", "filled.npy"]
        let spectrum = try workplace.run(.analyze, ["spectrum"] + filled + ["--out", "filled"])
        #expect(spectrum.status == 0, "\(spectrum)")
        #expect(spectrum.errors.contains("filled.npy: 192 tokens, 48 of padding (id 299) left out"), "\(spectrum)")
        _ = try workplace.run(.analyze, ["spectrum"] + plain + ["--out", "plain"])
        #expect(try workplace.text("filled/ranks.csv") == workplace.text("plain/ranks.csv"))
        #expect(try workplace.table("filled/ranks.csv").column("tokens").allSatisfy { $0 == "192" })
        let record = try JSONValue(parsing: workplace.text("filled/run.json"))
        #expect(record["padding"] == ["id": 299, "tokens": 48] && record["tokens"] == 192)

        expectSameLoss(try perplexity(filled), try perplexity(plain))
        #expect(try perplexity(plain)["tokens"] == 180)
        expectSameLoss(try perplexity(filled + ["--window", "12"]), try perplexity(plain + ["--window", "12"]))
        expectSameLoss(
            try perplexity(filled + ["--max-tokens", "32"]), try perplexity(plain + ["--max-tokens", "32"]))

        for (name, arguments) in [("a", filled), ("b", plain)] {
            for command in [
                ["ranks"] + arguments + ["--keep", "0.5", "--multiple", "1", "--out", "\(name).json", "--quiet"]
            ] {
                let outcome = try workplace.run(.analyze, command)
                #expect(outcome.status == 0, "\(outcome)")
            }
            let gradients = try workplace.run(
                .train, ["gradients"] + arguments + ["--precision", "f32", "--out", "\(name).h5", "--quiet"])
            #expect(gradients.status == 0, "\(gradients)")
        }
        let plans = try ["a.json", "b.json"].map { try JSONValue(parsing: workplace.text($0)) }
        #expect(plans[0]["layers"] == plans[1]["layers"])
        let isSame = try workplace.gradients(in: "a.h5") == workplace.gradients(in: "b.h5")
        #expect(isSame)
    }

    @Test("Logits keep the file's shape, with nothing at the places of padding", arguments: [false, true])
    func logits(isLeft: Bool) throws {
        try rows("filled.npy", Self.texts.map { Self.filled($0, isLeft: isLeft) })
        let filled = try workplace.logits(of: "padded.h5", "--tokens", "filled.npy")
        let plain = try workplace.logits(of: "own.h5", "--tokens", "plain.npy")
        #expect(filled.shape == [12, 20, TinyModel.vocabulary])
        let (found, expected, width) = (filled.floats, plain.floats, TinyModel.vocabulary)
        try #require(found.count == 12 * 20 * width)
        var wrong = 0
        for row in 0..<12 {
            for column in 0..<20 {
                let start = (row * 20 + column) * width
                let place = isLeft ? column - 4 : column
                let values = found[start..<start + width]
                let isText = (0..<16).contains(place)
                let from = (row * 16 + place) * width
                let isRight = isText ? values.elementsEqual(expected[from..<from + width]) : values.allSatisfy(\.isNaN)
                wrong += isRight ? 0 : 1
            }
        }
        #expect(wrong == 0, "\(wrong) of 240 places")
        let whole = try workplace.run(
            .analyze, ["logits", "padded.h5", "--tokens", "filled.npy", "--pad", "none", "--out", "l.npy", "--quiet"])
        #expect(whole.status == 0, "\(whole)")
        #expect(try NumpyArray(workplace.bytes("l.npy")).floats.allSatisfy(\.isFinite))
    }

    @Test("A conversion calibrates, refines and measures without it")
    func conversion() throws {
        var reports: [JSONValue] = []
        for (name, input) in [
            ("a", ["padded.h5", "a.h5", "--tokens", "filled.npy", "--evaluate", "filled.npy"]),
            ("b", ["own.h5", "b.h5", "--tokens", "plain.npy", "--evaluate", "plain.npy"]),
        ] {
            let outcome = try workplace.run(
                .convert, ["dense-to-lowrank"] + input + ["--keep", "0.7", "--anchor", "--json", "--quiet"])
            try #require(outcome.status == 0, "\(name): \(outcome)")
            reports.append(try JSONValue(parsing: outcome.output))
        }
        let sources = try ["a.h5", "b.h5"].map { try Checkpoint.open(workplace.file($0)) }
        for info in sources[1].tensors {
            #expect(try sources[0].read(info.name).elements == sources[1].read(info.name).elements, "\(info.name)")
        }
        let refined = try workplace.run(
            .convert,
            [
                "dense-to-lowrank", "padded.h5", "c.h5", "--tokens", "filled.npy", "--keep", "0.7", "--refine", "1",
                "--quiet",
            ])
        #expect(refined.status == 0, "\(refined)")
    }

    // MARK: - Kinds of padding

    @Test("On the left, of several lengths, and rows of padding only, which are named")
    func kinds() throws {
        let texts = Self.texts.enumerated().map { Array($1.prefix($0 % 5 + 2)) }
        for isLeft in [false, true] {
            try rows("ragged.npy", texts.map { Self.filled($0, isLeft: isLeft) } + [Self.filled([])])
            var (sum, count) = (0.0, 0)
            for text in texts {
                try rows("one.npy", [text])
                let loss = try perplexity(["own.h5", "--tokens", "one.npy"])
                let tokens = try #require(loss["tokens"]?.intValue)
                sum += try #require(loss["nats_per_token"]?.doubleValue) * Double(tokens)
                count += tokens
            }
            let outcome = try workplace.run(
                .analyze, ["perplexity", "padded.h5", "--tokens", "ragged.npy", "--json"])
            try #require(outcome.status == 0, "\(outcome)")
            #expect(outcome.errors.contains("warning: ragged.npy: left out are 1 row"), "\(outcome)")
            #expect(outcome.errors.contains("on the left") == isLeft, "\(outcome)")
            let found = try JSONValue(parsing: outcome.output)
            #expect(found["tokens"] == .integer(count))
            #expect(abs(try #require(found["nats_per_token"]?.doubleValue) - sum / Double(count)) < 1e-6)
        }
    }

    @Test("Where padding is the end token, the first one is the text's own end", arguments: [true, false])
    func endToken(inConfiguration: Bool) throws {
        var model = TinyModel.dense
        // Named by config.json, or by the tokenizer.
        let id = inConfiguration ? Self.pad : TinyModel.pieces.count - 1
        if inConfiguration { model = model.configured([("eos_token_id", [250, .integer(id)])]) }
        model = model.configured([("pad_token_id", .integer(id))])
        try model.writeFolder(workplace, "model")
        try workplace.write(#"{"eos_token": "\#(TinyModel.pieces.last!)"}"#, "model/tokenizer_config.json")
        try rows("plain.npy", Self.texts.map { $0 + [id] })
        try rows("filled.npy", Self.texts.map { Self.filled($0, id: id) })
        expectSameLoss(
            try perplexity(["model", "--tokens", "filled.npy"]), try perplexity(["own.h5", "--tokens", "plain.npy"]))
    }

    @Test("Padding beyond the vocabulary; --pad none takes rows as they are")
    func beyond() throws {
        try rows("filled.npy", Self.texts.map { Self.filled($0, id: 5000) })
        let plain = try perplexity(["own.h5", "--tokens", "plain.npy"])
        expectSameLoss(try perplexity(["own.h5", "--tokens", "filled.npy", "--pad", "5000"]), plain)
        try workplace.refuse(
            65, .analyze, ["perplexity", "own.h5", "--tokens", "filled.npy", "--quiet"], mentions: ["5000"])
        try rows("filled.npy", Self.texts.map { Self.filled($0) })
        #expect(try perplexity(["padded.h5", "--tokens", "filled.npy", "--pad", "none"])["tokens"] == 228)
        #expect(try perplexity(["own.h5", "--tokens", "filled.npy"])["tokens"] == 228)
    }

    @Test("Padding without a text, without rows, without an id is refused by name")
    func refused() throws {
        try workplace.write(TinyModel.text(100), "text.txt")
        try workplace.write(Self.texts.flatMap { $0 }.flatMap { littleEndian(UInt16($0)) }, "stream.u16")
        try workplace.refuse(
            64, .analyze, ["perplexity", "own.h5", "--text", "text.txt", "--pad", "0", "--quiet"], mentions: ["--pad 0"]
        )
        try workplace.refuse(
            65, .analyze, ["perplexity", "own.h5", "--tokens", "stream.u16", "--pad", "0", "--quiet"],
            mentions: ["stream.u16: --pad 0"])
        try workplace.refuse(
            64, .analyze, ["perplexity", "own.h5", "--tokens", "plain.npy", "--pad", "-1", "--quiet"],
            mentions: ["--pad"])
        try rows("empty.npy", [Self.filled([]), Self.filled([])])
        try workplace.refuse(
            65, .analyze, ["perplexity", "padded.h5", "--tokens", "empty.npy", "--quiet"],
            mentions: ["empty.npy: nothing but padding", "299"])
        let settings: [(JSONValue, Bool)] = [("zero", false), (2.5, false), (-1, true), (nil, true)]
        for (value, isRight) in settings {
            try TinyModel.dense.configured([("pad_token_id", value)]).writeCheckpoint(workplace.file("other.h5"))
            let arguments = ["perplexity", "other.h5", "--tokens", "plain.npy", "--quiet"]
            if isRight {
                #expect(try workplace.run(.analyze, arguments).status == 0, "\(value.text())")
            } else {
                try workplace.refuse(65, .analyze, arguments, mentions: ["other.h5", "pad_token_id", value.text()])
            }
            // What needs no padding does not ask for it.
            try workplace.succeed(.analyze, "perplexity", "other.h5", "--text", "text.txt", "--quiet")
        }
    }

    // MARK: - Training

    @Test("Training learns from the text alone, packed and by documents, and goes on to the same bits")
    func training() throws {
        for packing in ["packed", "documents"] {
            let common: KeyValuePairs<String, String?> = [
                "tokens": "filled.npy", "packing": packing, "out": "filled-\(packing)", "save-every": "5",
                "evaluation-fraction": "0.2",
            ]
            try workplace.train("continue padded.h5", common)
            try workplace.train(
                "continue own.h5",
                ["tokens": "plain.npy", "packing": packing, "out": "plain-\(packing)", "evaluation-fraction": "0.2"])
            try workplace.train(
                "continue own.h5",
                [
                    "tokens": "filled.npy", "packing": packing, "pad": "299", "out": "given-\(packing)",
                    "evaluation-fraction": "0.2",
                ])
            for column in ["loss", "evaluation_loss", "tokens"] {
                let found = try ["filled", "plain", "given"].map {
                    try workplace.metrics(of: "\($0)-\(packing)").column(column)
                }
                #expect(found[0] == found[1] && found[2] == found[1], "\(packing), \(column)")
            }
            let whole = try workplace.run(at: 8, of: "filled-\(packing)")
            try FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(8, of: "filled-\(packing)")))
            try workplace.resume("filled-\(packing)")
            expectSame(try workplace.run(at: 8, of: "filled-\(packing)"), whole)
            let rules = try JSONValue(parsing: whole.settings)["text_rules"]
            #expect(rules?["padding"] == 299)
        }
    }
}
