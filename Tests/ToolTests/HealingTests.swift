import Checkpoints
import Foundation
import Testing

@Suite("cola-train continue with a teacher")
struct HealingTests {
    let workplace: Workplace

    init() throws {
        workplace = try .forConversion()
        try workplace.write(learnableIDs(1201, below: 97).flatMap { littleEndian(UInt16($0)) }, "tokens.u16")
        _ = try workplace.convert("cola.h5", "--keep", "0.5")
    }

    @Test("The predictions of the dense model are learnt: the divergence falls, on other text as well")
    func learnsFromTheTeacher() throws {
        let before = try workplace.perplexity("cola.h5")
        try workplace.train(
            "continue cola.h5",
            [
                "teacher": "own.h5", "teacher-share": "1", "tokens": nil, "text": "text.txt", "steps": "40",
                "learning-rate": nil,
            ])
        let losses = try workplace.metrics().column("loss").compactMap { Double($0) }
        #expect(losses.count == 40 && losses.suffix(5).reduce(0, +) < 0.8 * losses.prefix(5).reduce(0, +))
        // The text is noise to the random teacher: what comes closer to it predicts no better, only more alike.
        let dense = try workplace.perplexity("own.h5")
        let after = try workplace.perplexity(Workplace.checkpoint(40))
        #expect(abs(log(after / dense)) <= abs(log(before / dense)) + 0.02, "\(before) → \(after), dense \(dense)")
    }

    @Test("A converted checkpoint's factors are trained in units of their size, unless told otherwise")
    func factorRates() throws {
        func described(_ options: [String]) throws -> String {
            let outcome = try workplace.run(
                .train, workplace.line("continue cola.h5", ["steps": "1", "out": "run\(options.count)"]) + options)
            try #require(outcome.status == 0, "\(outcome)")
            return outcome.errors
        }
        #expect(try described([]).contains("parameters by their size: "))
        #expect(try !described(["--factor-rates", "equal"]).contains("by their size"))
        // A model that was trained as CoLA from the start has no such need.
        try TinyModel.cola.writeCheckpoint(workplace.file("own-cola.h5"))
        let outcome = try workplace.run(.train, workplace.line("continue own-cola.h5", ["steps": "1", "out": "other"]))
        #expect(outcome.status == 0 && !outcome.errors.contains("by their size"), "\(outcome)")
    }

    @Test("pretrain --like: the layout of a converted model, with first weights as any CoLA model has them")
    func trainsTheLayoutFromNothing() throws {
        try workplace.train(
            "pretrain", ["config": nil, "model": nil, "like": "cola.h5", "steps": "1", "save-every": "1"])
        let converted = try HDF5Checkpoint(path: workplace.file("cola.h5"))
        let path = workplace.file(Workplace.checkpoint(1))
        let trained = try HDF5Checkpoint(path: path)
        func shapes(_ source: HDF5Checkpoint) -> [String: [Int]] {
            Dictionary(uniqueKeysWithValues: source.tensors.map { ($0.name, $0.shape) })
        }
        #expect(shapes(trained) == shapes(converted))
        let ranks = Set(trained.tensors.filter { $0.name.hasSuffix("cola_a") }.map { $0.shape[1] })
        #expect(ranks.count > 1, "a plan of one rank would show nothing")
        #expect(try trained.tokenizer() == converted.tokenizer())
        // Nothing of the dense model is left: not its weights, and not the rates by size that its factors need.
        for info in trained.tensors where info.name.hasSuffix("cola_a") || info.name.hasSuffix("embed_tokens.weight") {
            #expect(try trained.read(info.name).elements != converted.read(info.name).elements, "\(info.name)")
        }
        let outcome = try workplace.run(
            .train, workplace.line("continue \(Workplace.checkpoint(1))", ["steps": "1", "out": "further"]))
        #expect(outcome.status == 0 && !outcome.errors.contains("by their size"), "\(outcome)")
    }

    @Test("A run with a teacher that is resumed comes to the same bits, its kept predictions notwithstanding")
    func resumes() throws {
        let options: KeyValuePairs<String, String?> = [
            "teacher": "own.h5", "steps": "30", "out": "whole", "save-every": "1000",
        ]
        try workplace.train("continue cola.h5", options)
        let arguments = workplace.line(
            "continue cola.h5", ["teacher": "own.h5", "steps": "30", "save-every": "1"])
        let tool = try workplace.start(.train, arguments)
        let hasHappened = tool.wait {
            FileManager.default.fileExists(atPath: workplace.file(Workplace.checkpoint(7)))
        }
        tool.send(SIGKILL)
        _ = try tool.finish()
        try #require(hasHappened)
        try workplace.resume()
        expectSame(try workplace.run(at: 30), try workplace.run(at: 30, of: "whole"))
    }

    @Test("A teacher that moved is given again; another one is refused")
    func otherTeachers() throws {
        try workplace.train("continue cola.h5", ["teacher": "own.h5", "steps": "2", "save-every": "1"])
        let first = Workplace.checkpoint(1)
        try FileManager.default.moveItem(atPath: workplace.file("own.h5"), toPath: workplace.file("moved.h5"))
        try FileManager.default.removeItem(atPath: workplace.file(Workplace.checkpoint(2)))
        try workplace.refuse(66, .train, ["resume", "run", "--quiet"], mentions: ["own.h5: no such file"])
        try TinyModel.dense.changing("model.norm.weight") { $0.values[3] += 0.5 }
            .writeCheckpoint(workplace.file("other.h5"))
        try workplace.refuse(
            65, .train, ["resume", "run", "--teacher", "other.h5", "--quiet"],
            mentions: ["other.h5: the teacher of \(first)", "found the SHA-256 "])
        try workplace.succeed(.train, "resume", "run", "--teacher", "moved.h5", "--quiet")
    }

    @Test("Teachers that cannot teach")
    func badTeachers() throws {
        var small = TinyModel.dense.configured([("vocab_size", 299)])
        small.tokenizer = nil
        for index in small.tensors.indices where small.tensors[index].shape.first == 300 {
            small.tensors[index].shape[0] = 299
            small.tensors[index].values.removeLast(TinyModel.hidden)
        }
        try small.writeCheckpoint(workplace.file("small.h5"))
        for (teacher, code, mention) in [
            ("small.h5", 65, "small.h5: a teacher with a vocabulary of 299, expected 300"),
            ("gone.h5", 66, "gone.h5: no such file"), ("text.txt", 65, "text.txt: "),
        ] as [(String, Int32, String)] {
            try workplace.refuse(
                code, .train, workplace.line("continue cola.h5", ["teacher": teacher]) + ["--quiet"],
                mentions: [mention])
        }
        try workplace.refuse(
            64, .train, workplace.line("continue cola.h5", ["teacher": "own.h5", "teacher-share": "1.5"]),
            mentions: ["--teacher-share 1.5"])
    }
}
