import Foundation
import JSON
import Tensors
import TestSupport
import Testing

@testable import Checkpoints

@Suite("cola-train: input and options that cannot be used")
struct TrainBadInputTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace.forTraining() }

    /// The command is refused with one message and leaves nothing.
    private func refuse(
        _ code: Int32, _ command: String, _ changes: KeyValuePairs<String, String?>, _ mentions: String...,
        isUsage: Bool = false, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try workplace.refuse(
            code, .train, workplace.line(command, changes) + ["--quiet"], mentions: mentions, isUsage: isUsage,
            sourceLocation: sourceLocation)
    }

    // MARK: - Data

    @Test("Data shorter than a sequence, or with nothing left to train on")
    func shortData() throws {
        try workplace.write([UInt8](repeating: 0, count: 2 * 16), "short.u16")
        try refuse(65, "pretrain", ["tokens": "short.u16"], "short.u16: found 16 tokens, expected at least 17")
        try workplace.write([UInt8](repeating: 0, count: 2 * 17), "one.u16")
        try refuse(65, "pretrain", ["tokens": "one.u16"], "one.u16: found 1 sequence", "to hold out")
        try workplace.write([7, 0], "single.u16")
        try refuse(
            65, "pretrain", ["tokens": "single.u16", "packing": "documents", "document-end": "9"],
            "single.u16: found 1 token")
        for (text, name) in [("the band", "short.txt"), ("", "empty.txt")] {
            try workplace.write(text, name)
            let changes: KeyValuePairs<String, String?> = [
                "tokens": nil, "text": name, "tokenizer": "tokenizer.json",
            ]
            try refuse(65, "pretrain", changes, "\(name): found ")
        }
    }

    @Test("Ids that the model does not have, with their place")
    func ids() throws {
        var ids = learnableIDs(200, below: 97).map { UInt16($0) }
        ids[140] = 300
        try workplace.write(ids.flatMap { littleEndian($0) }, "big.u16")
        try refuse(65, "pretrain", ["tokens": "big.u16"], "big.u16: found the id 300 at token 140, expected 0 to 299")
        try refuse(65, "pretrain", ["tokens": "tokens.u16 big.u16"], "big.u16: found the id 300 at token 140")
        try workplace.write(NumpyArray.file("<u2", shape: [8, 25], ids), "big.npy")
        try TinyModel.dense.writeCheckpoint(workplace.file("own.h5"))
        try refuse(65, "continue own.h5", ["tokens": "big.npy"], "big.npy: found the id 300 at row 5, column 15")
        let arguments = ["gradients", "own.h5", "--tokens", "big.npy", "--out", "g.h5", "--quiet"]
        try workplace.refuse(65, .train, arguments, mentions: ["big.npy: token 140 is 300"])
    }

    @Test("A tokenizer with more ids than the model, and a text without a tokenizer")
    func tokenizers() throws {
        try workplace.write(TinyModel.dense.configured([("vocab_size", 260)]).configurationText, "small.json")
        try refuse(
            65, "pretrain", ["config": "small.json", "tokenizer": "tokenizer.json"],
            "tokenizer.json: a tokenizer of 264 ids, expected at most vocab_size 260 of small.json")
        try refuse(
            65, "pretrain",
            ["config": nil, "preset": "tiny", "vocabulary": "100", "tokenizer": "tokenizer.json"],
            "tokenizer.json: a tokenizer of 264 ids, expected at most --vocabulary 100")
        try refuse(65, "pretrain", ["tokens": nil, "text": "text.txt"], "no tokenizer", "--tokenizer", "--tokens")
        try refuse(65, "pretrain", ["tokenizer": "text.txt"], "text.txt: ")
        var bare = TinyModel.dense
        bare.tokenizer = nil
        try bare.writeCheckpoint(workplace.file("bare.h5"))
        try refuse(65, "continue bare.h5", ["tokens": nil, "text": "text.txt"], "bare.h5: no tokenizer")
        try refuse(65, "pretrain", ["tokenizer": "bare.h5"], "bare.h5: no tokenizer in this checkpoint")
    }

    @Test("Ranks to follow that are none")
    func ranks() throws {
        for (option, value, words) in [
            ("spectrum-modules", "q,x", "--spectrum-modules: 'x' is none of"),
            ("spectrum-sides", "inside", "--spectrum-sides: 'inside' is none of"),
            ("spectrum-alpha", "0.5,2", "--spectrum-alpha: '2' is no fraction"),
            ("spectrum-layers", "1-", "--spectrum-layers: '1-' is neither"),
            ("spectrum-every", "0", "--spectrum-every 0: expected at least 1"),
        ] {
            try refuse(
                64, "pretrain", option == "spectrum-every" ? [option: value] : ["spectrum-every": "2", option: value],
                words, isUsage: true)
        }
        for (option, value) in [
            ("spectrum-layers", "1"), ("spectrum-modules", "q"), ("spectrum-sides", "input"), ("spectrum-alpha", "0.5"),
        ] {
            try refuse(64, "pretrain", [option: value], "go with --spectrum-every", isUsage: true)
        }
        try refuse(
            65, "pretrain", ["spectrum-every": "2", "spectrum-layers": "0,2"],
            "--spectrum-layers 2: the model has 2 layers, 0 to 1")
    }

    @Test("Files that are missing, or something else")
    func files() throws {
        try TinyModel.dense.writeCheckpoint(workplace.file("own.h5"))
        try refuse(66, "pretrain", ["tokens": "gone.npy"], "gone.npy: no such file")
        try refuse(66, "pretrain", ["config": "gone.json"], "gone.json: no such file")
        try refuse(66, "pretrain", ["tokenizer": "gone.json"], "gone.json: no such file")
        try refuse(66, "pretrain", ["config": nil, "model": nil, "like": "gone.h5"], "gone.h5: no such file")
        try refuse(
            65, "pretrain", ["config": nil, "model": nil, "like": "text.txt"], "text.txt: is of no known format")
        try refuse(
            66, "pretrain", ["tokens": nil, "text": "gone.txt", "tokenizer": "tokenizer.json"],
            "gone.txt: no such file")
        try refuse(66, "continue gone.h5", [:], "gone.h5: no such file")
        try refuse(66, "continue own.h5", ["tokens": "gone.u16"], "gone.u16: no such file")
        try refuse(65, "continue text.txt", [:], "text.txt: is of no known format")
        try refuse(65, "pretrain", ["config": "text.txt"], "text.txt: ")
        try workplace.write(TinyModel.dense.configured([("head_dim", 7)]).configurationText, "odd.json")
        try refuse(
            65, "pretrain", ["config": "odd.json"],
            "odd.json: configuration: head_dim: found 7, expected an even number")
        for (place, code, words) in [
            ("gone", 66, "gone: no such file"), ("gone/step-00000001.h5", 66, "no such file"),
            ("text.txt", 65, "text.txt: "), ("own.h5", 65, "own.h5: carries no training state; use `continue`"),
        ] {
            try workplace.refuse(Int32(code), .train, ["resume", place, "--quiet"], mentions: [words])
        }
        try workplace.makeFolder("empty")
        try workplace.refuse(
            65, .train, ["resume", "empty", "--quiet"], mentions: ["empty: holds no checkpoint (step-00001000.h5"])
        try workplace.refuse(
            66, .train, ["gradients", "own.h5", "--tokens", "gone.npy", "--out", "g.h5", "--quiet"],
            mentions: ["gone.npy"])
    }

    @Test("A run that is there already, and places where no run can be")
    func places() throws {
        try workplace.train("pretrain", [:])
        let before = try workplace.bytes(Workplace.checkpoint(8))
        try refuse(73, "pretrain", [:], "run: cannot write: it holds a run already; resume that one")
        try expectEqual(workplace.bytes(Workplace.checkpoint(8)), before)
        try FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(8)))
        try refuse(73, "pretrain", [:], "run: cannot write: it holds the metrics of a run that left no checkpoint")
        try refuse(73, "pretrain", ["out": "text.txt"], "text.txt: cannot write: there is a file of this name")
        for place in ["/proc/run", "text.txt/run"] {
            try refuse(73, "pretrain", ["out": place], "\(place): cannot write: ")
        }
        try TinyModel.dense.writeCheckpoint(workplace.file("own.h5"))
        for place in ["text.txt/g.h5", "run", "/proc/g.h5"] {
            try workplace.refuse(
                73, .train, ["gradients", "own.h5", "--tokens", "tokens.u16", "--out", place, "--quiet"],
                mentions: ["\(place): cannot write"])
        }
    }

    // MARK: - Options

    @Test(
        "Wrong usage: code 64 and the usage line",
        arguments: [
            ("pretrain --out o", "--text FILE"), ("pretrain --out o --text a --tokens b", "--text FILE"),
            ("pretrain --tokens b", "--out <folder>"), ("continue --tokens b --out o --steps 3", "<checkpoint>"),
            ("continue own.h5 --tokens b --out o", "--steps"), ("continue own.h5 --out o --steps 3", "--text FILE"),
            ("pretrain --tokens b --out o --model dense --rank 3", "--rank and --activation are for --model cola"),
            ("pretrain --tokens b --out o --model dense --activation both", "--activation"),
            ("pretrain --tokens b --out o --rank 0", "--rank 0: expected at least 1"),
            ("pretrain --tokens b --out o --config c.json --vocabulary 30", "--vocabulary"),
            ("pretrain --tokens b --out o --like c.h5 --rank 3", "the checkpoint of --like says them"),
            ("pretrain --tokens b --out o --like c.h5 --model dense", "the checkpoint of --like says them"),
            ("pretrain --tokens b --out o --vocabulary 1", "--vocabulary 1: expected at least 2"),
            ("pretrain --tokens b --out o --preset 2b", "'2b' is invalid"),
            ("pretrain --tokens b --out o --model moe", "'moe' is invalid"),
            ("pretrain --tokens b --out o --memory all", "'all' is invalid"),
            ("pretrain --tokens b --out o --precision f16", "'f16' is invalid"),
            ("pretrain --tokens b --out o --schedule step", "'step' is invalid"),
            ("pretrain --tokens b --out o --packing best", "'best' is invalid"),
            ("pretrain --tokens b --out o --save-every 0", "--save-every 0"),
            ("pretrain --tokens b --out o --save-minutes nan", "--save-minutes nan"),
            ("pretrain --tokens b --out o --keep 0", "--keep 0"), ("pretrain --tokens b --out o --steps x", "'x'"),
            ("resume", "<run>"), ("resume r --text a --tokens b", "--text FILE"), ("resume r --keep 0", "--keep 0"),
            ("gradients own.h5 --tokens b", "--out <file>"), ("gradients own.h5 --out o", "--text FILE"),
            ("bench --batch 0", "--batch 0"), ("bench --sequence-length 1", "--sequence-length 1"),
            ("bench --layers 0", "--layers 0"), ("bench --steps 0", "--steps 0"), ("bench --size big", "'big'"),
            ("learn", "'learn'"),
        ])
    func usage(_ line: String, _ words: String) throws {
        try workplace.refuse(64, .train, line.split(separator: " ").map(String.init), mentions: [words])
    }

    @Test(
        "Settings that are none, or that the model does not have: code 64 and the setting's name",
        arguments: [
            ("memory", "cola-m", "setting memory: found cola-m for a dense model, expected plain or checkpoint"),
            ("warmup", "9", "setting warm-up steps: found 9, expected from 0 to the run's 8 steps"),
            ("steps", "0", "setting steps: found 0, expected 1 to 1073741824"),
            ("learning-rate", "0", "setting learning rate: found 0.0"),
            ("learning-rate", "nan", "setting learning rate: found nan"),
            ("learning-rate", "inf", "setting learning rate: found inf"),
            ("floor", "1.5", "setting learning-rate floor: found 1.5"), ("beta1", "1", "setting beta1: found 1.0"),
            ("beta2", "0.999999999", "setting beta2"), ("weight-decay", "nan", "setting weight decay: found nan"),
            ("clip", "nan", "setting clip: found nan"), ("batch", "0", "setting batch: found 0"),
            ("accumulate", "0", "setting accumulation: found 0"),
            ("sequence-length", "0", "setting sequence length: found 0"),
            ("sequence-length", "16777217", "setting sequence length: found 16777217"),
            ("evaluation-fraction", "1", "setting evaluation fraction: found 1.0"),
            ("evaluation-fraction", "nan", "setting evaluation fraction: found nan"),
            ("evaluation-sequences", "0", "setting evaluation sequences: found 0"),
            ("skip-limit", "0", "setting skip limit: found 0"), ("group", "*norm*", "setting group: found *norm*"),
            ("group", "*=x", "setting group: found *=x"), ("group", "*=1,2,3", "setting group: found *=1,2,3"),
            ("group", "*=1,x", "setting group: found *=1,x"), ("group", "=1", "setting group: found =1"),
            ("group", "*=nan", "setting learning-rate factor of *: found nan"),
            ("group", "*.cola_a=1", "setting parameter group: found \"*.cola_a\", expected a pattern that matches"),
        ])
    func settings(_ name: String, _ value: String, _ words: String) throws {
        try refuse(64, "pretrain", [name: value], words)
    }

    @Test("CoLA-M of a dense checkpoint")
    func denseColaM() throws {
        try TinyModel.dense.writeCheckpoint(workplace.file("own.h5"))
        try refuse(64, "continue own.h5", ["memory": "cola-m"], "setting memory: found cola-m for a dense model")
        for command in ["gradients own.h5 --tokens tokens.u16 --out g.h5", "bench --size tiny --layers 1"] {
            let arguments = command.split(separator: " ").map(String.init) + ["--memory", "cola-m", "--quiet"]
            try workplace.refuse(64, .train, arguments, mentions: ["setting memory"], isUsage: false)
        }
    }

    @Test("A run whose loss is no number any more says so, and keeps the last good weights")
    func divergence() throws {
        let outcome = try workplace.run(
            .train,
            workplace.line("pretrain", ["learning-rate": "1e15", "skip-limit": "3", "schedule": "constant"])
                + ["--quiet"])
        #expect(outcome.status == 65 && outcome.output == "", "\(outcome)")
        expectOneMessage(outcome, from: .train)
        #expect(outcome.errors.contains("is not finite, for 3 steps in a row"), "\(outcome)")
        let losses = try workplace.metrics().column("loss").map { Double($0) ?? .nan }
        let good = losses.prefix { $0.isFinite }.count
        #expect(losses.count == good + 3 && good > 0)
        let contents = try workplace.run(at: good + 3)
        #expect(contents.counters["skipped_steps"] == 3 && contents.counters["optimizer_steps"] == good)
        let lines = try workplace.text("run/metrics.jsonl").split(separator: "\n")
        #expect(try JSONValue(parsing: String(lines[good]))["loss"]?.isNull == true)
    }
}
