import Foundation
import JSON
import Testing

@Suite("cola-analyze: perplexity and logits")
struct PerplexityTests {
    let workplace: Workplace
    /// Ids of the text `text.txt`.
    let ids: [UInt16]

    init() throws {
        workplace = try Workplace(textBytes: 550)
        try workplace.succeed(
            .convert, "tokenize", "text.txt", "--tokenizer", "own.h5", "--out", "text.npy", "--quiet")
        ids = try NumpyArray(try workplace.bytes("text.npy")).shorts
    }

    /// Loss of each token after the first of a window, in double precision from the logits.
    private func losses(of window: ArraySlice<UInt16>) throws -> [Double] {
        let window = Array(window)
        try workplace.write(window.flatMap { littleEndian($0) }, "window.u16")
        let logits = try workplace.logits(of: "own.h5", "--tokens", "window.u16")
        try #require(logits.type == "<f4" && logits.shape == [1, window.count, TinyModel.vocabulary])
        let values = logits.floats.map(Double.init)
        return (1..<window.count).map { index in
            let row = values[(index - 1) * TinyModel.vocabulary..<index * TinyModel.vocabulary]
            let largest = row.max()!
            let sum = row.reduce(0) { $0 + exp($1 - largest) }
            return largest + log(sum) - row[row.startIndex + Int(window[index])]
        }
    }

    @Test("The perplexity is that of the logits, and the text is one table row")
    func perplexity() throws {
        let result = try workplace.json(
            .analyze, "perplexity", "own.h5", "--text", "text.txt", "--quiet")
        let expected = try losses(of: ids[...])
        let mean = expected.reduce(0, +) / Double(expected.count)
        #expect(result["tokens"]?.intValue == ids.count - 1)
        #expect(abs(try #require(result["nats_per_token"]?.doubleValue) - mean) < 1e-6)
        let perplexity = try #require(result["perplexity"]?.doubleValue)
        #expect(abs(perplexity / exp(mean) - 1) < 1e-6)
        // A model of this many ids that knows nothing would say ln 300 = 5.7.
        #expect(mean > 5)
        let table = try workplace.succeed(.analyze, "perplexity", "own.h5", "--text", "text.txt", "--quiet")
        let lines = table.split(separator: "\n")
        #expect(lines.count == 2 && lines[0].hasPrefix("text"))
        #expect(lines.last?.split(separator: " ").prefix(2) == ["text.txt", "\(ids.count - 1)"])
    }

    @Test(
        "Windows that slide score every token but the first exactly once",
        arguments: [(50, 50), (50, 20), (64, 63), (33, 1)])
    func windows(_ window: Int, _ stride: Int) throws {
        let ids = Array(ids.prefix(stride == 1 ? 40 : 173))
        try workplace.write(ids.flatMap { littleEndian($0) }, "part.u16")
        let result = try workplace.json(
            .analyze, "perplexity", "own.h5", "--tokens", "part.u16", "--window", "\(window)", "--stride", "\(stride)",
            "--quiet")
        // Each token at the last place that a window before it had not reached, with that window's context.
        var (sum, count, scored) = (0.0, 0, 1)
        for begin in Swift.stride(from: 0, to: ids.count, by: stride) {
            let end = min(begin + window, ids.count)
            let losses = try losses(of: ids[begin..<end])
            // Without overlap the first token of a window has no context, and no score.
            for place in max(scored, begin + 1)..<max(end, scored, begin + 1) {
                sum += losses[place - begin - 1]
                count += 1
            }
            scored = end
            if end == ids.count { break }
        }
        if stride < window { #expect(count == ids.count - 1) }
        #expect(result["tokens"]?.intValue == count)
        #expect(abs(try #require(result["nats_per_token"]?.doubleValue) - sum / Double(count)) < 1e-6)
    }

    @Test("Several texts are scored each by itself and together; --max-tokens stops")
    func texts() throws {
        try workplace.write(TinyModel.text(300, seed: 8), "other.txt")
        let result = try workplace.json(
            .analyze, "perplexity", "own.h5", "--text", "text.txt", "other.txt", "--quiet")
        let texts = try #require(result["texts"]?.arrayValue)
        #expect(texts.map { $0["text"]?.stringValue } == ["text.txt", "other.txt"])
        var (sum, count) = (0.0, 0)
        for (text, name) in zip(texts, ["text.txt", "other.txt"]) {
            let alone = try workplace.json(.analyze, "perplexity", "own.h5", "--text", name, "--quiet")
            #expect(alone["texts"] == nil)
            for key in ["perplexity", "nats_per_token", "tokens"] { #expect(alone[key] == text[key]) }
            let tokens = try #require(text["tokens"]?.intValue)
            sum += try #require(text["nats_per_token"]?.doubleValue) * Double(tokens)
            count += tokens
        }
        #expect(result["tokens"]?.intValue == count)
        #expect(abs(try #require(result["nats_per_token"]?.doubleValue) - sum / Double(count)) < 1e-9)
        let short = try workplace.json(
            .analyze, "perplexity", "own.h5", "--text", "text.txt", "other.txt", "--max-tokens", "57", "--quiet")
        #expect(short["tokens"]?.intValue == 56)
    }

    @Test("Rows of a 2-D token file are sequences of their own, in logits and in perplexity")
    func rows() throws {
        let shape = [4, 31]
        try workplace.write(NumpyArray.file("<u2", shape: shape, Array(ids.prefix(124))), "rows.npy")
        let logits = try workplace.logits(of: "own.h5", "--tokens", "rows.npy")
        #expect(logits.shape == [4, 31, TinyModel.vocabulary])
        var sum = 0.0
        for row in 0..<4 {
            let part = ids[row * 31..<(row + 1) * 31]
            sum += try losses(of: part).reduce(0, +)
            try workplace.write(part.flatMap { littleEndian($0) }, "row.u16")
            let alone = try workplace.logits(of: "own.h5", "--tokens", "row.u16").data
            #expect(alone.elementsEqual(logits.data[row * alone.count..<(row + 1) * alone.count]))
        }
        let result = try workplace.json(.analyze, "perplexity", "own.h5", "--tokens", "rows.npy", "--quiet")
        #expect(result["tokens"]?.intValue == 120)
        #expect(abs(try #require(result["nats_per_token"]?.doubleValue) - sum / 120) < 1e-6)
    }

    @Test("bf16 products change the perplexity a little; --quiet says nothing, and without it the kernels are named")
    func precision() throws {
        let arguments = ["perplexity", "own.h5", "--text", "text.txt", "--json"]
        let single = try workplace.run(.analyze, arguments)
        #expect(single.errors.contains("kernels: ") && single.errors.contains(" tokens  "))
        let rounded = try workplace.run(.analyze, arguments + ["--precision", "bf16", "--quiet"])
        #expect(rounded.errors == "")
        let (a, b) = (try JSONValue(parsing: single.output), try JSONValue(parsing: rounded.output))
        let difference = abs(a["nats_per_token"]!.doubleValue! - b["nats_per_token"]!.doubleValue!)
        #expect(difference > 0 && difference < 0.2)
    }
}

@Suite("cola-analyze bench")
struct BenchTests {
    @Test("Prints its figures as JSON after its own checks have passed")
    func figures() throws {
        let workplace = try Workplace()
        let output = try workplace.succeed(
            .analyze, "bench", "--size", "60m", "--layers", "1", "--batch", "1", "--sequence-length", "16", "--repeats",
            "1", "--quiet")
        let result = try JSONValue(parsing: output)
        #expect(result["size"]?.stringValue == "60m" && result["rows"]?.intValue == 16)
        for precision in ["f32", "bf16"] {
            #expect(result["gemm_\(precision)"]?.arrayValue?.count == 4)
            let rate = try #require(result["forward_\(precision)"]?["tokens_per_second"]?.doubleValue)
            #expect(rate > 0 && rate.isFinite)
        }
        #expect(result["kernels"]?["openblas"]?.stringValue?.isEmpty == false)
        #expect(result["eigenvalues"]?.arrayValue?.compactMap { $0["n"]?.intValue } == [512, 1376])
        for entry in try #require(result["moments"]?.arrayValue) {
            #expect(try #require(entry["dsyrk_gflops"]?.doubleValue) > 0)
        }
        #expect(try #require(result["gemm_peak_f64_gflops"]?.doubleValue) > 0)
        let limit = try #require(result["spectrum_limit"])
        let parts = try ["forward", "moments", "decomposition"].map {
            try #require(limit["\($0)_seconds"]?.doubleValue)
        }
        #expect(parts.allSatisfy { $0 > 0 && $0.isFinite })
        #expect(limit["seconds"]?.doubleValue == parts[0] + parts[1] + parts[2])
        #expect(limit["layers"]?.intValue == 8 && limit["tokens"]?.intValue == 8192)
    }
}
