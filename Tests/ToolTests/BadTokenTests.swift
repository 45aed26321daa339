import Foundation
import Testing

@Suite("Texts, tokens and options that cannot be used")
struct BadTokenTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace(textBytes: 300) }

    /// All three commands that take tokens refuse them.
    private func refuse(
        _ option: String, _ input: String, _ mentions: String..., code: Int32 = 65,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        for command in [["perplexity"], ["spectrum", "--out", "out"], ["logits", "--out", "out.npy"]] {
            let arguments = [command[0], "own.h5", option, input, "--quiet"] + command.dropFirst()
            try workplace.refuse(code, .analyze, arguments, mentions: mentions, sourceLocation: sourceLocation)
        }
    }

    // MARK: - Texts

    @Test("Texts that are missing, empty, or folders")
    func texts() throws {
        try refuse("--text", "gone.txt", "gone.txt: no such file", code: 66)
        try workplace.write("", "empty.txt")
        try refuse("--text", "empty.txt", "empty.txt: the text is empty")
        try workplace.makeFolder("folder")
        try refuse("--text", "folder", "folder: ", ".txt")
        let arguments = ["tokenize", "empty.txt", "--tokenizer", "own.h5", "--out", "t.npy", "--quiet"]
        try workplace.refuse(65, .convert, arguments, mentions: ["empty.txt: the text is empty"])
        try workplace.refuse(
            66, .convert, ["tokenize", "gone.txt", "--tokenizer", "own.h5", "--out", "t.npy", "--quiet"],
            mentions: ["gone.txt: no such file"])
    }

    @Test("A single token has nothing to predict and no spectrum")
    func oneToken() throws {
        try workplace.write("b", "one.txt")
        for command in [["perplexity"], ["spectrum", "--out", "out"]] {
            let arguments = [command[0], "own.h5", "--text", "one.txt", "--quiet"] + command.dropFirst()
            try workplace.refuse(65, .analyze, arguments, mentions: ["one.txt: "])
        }
        #expect(try workplace.logits(of: "own.h5", "--text", "one.txt").shape == [1, 1, 300])
    }

    @Test("A text shorter than the window, with the way out")
    func shortText() throws {
        try workplace.write("the band", "short.txt")
        try workplace.refuse(
            65, .analyze, ["perplexity", "own.h5", "--text", "short.txt", "--window", "40", "--quiet"],
            mentions: ["short.txt: ", "fewer than one window of 40", "--window "])
    }

    // MARK: - Token files

    @Test("Ids that the model does not have, with their place")
    func ids() throws {
        try workplace.write([5, 299, 4, 300, 7].flatMap { littleEndian(UInt16($0)) }, "a.u16")
        try refuse("--tokens", "a.u16", "a.u16: token 3 is 300, expected less than the vocabulary size 300")
        try workplace.write(NumpyArray.file("<i8", shape: [4], [1, 2, -3, 4] as [Int64]), "b.npy")
        try refuse("--tokens", "b.npy", "b.npy: element 2: found -3, expected a token id")
        try workplace.write(NumpyArray.file("<i8", shape: [2, 2], [1, 2, 3, 1 << 40] as [Int64]), "c.npy")
        try refuse("--tokens", "c.npy", "c.npy: element [1, 1]: found \(1 << 40), expected a token id")
        try workplace.write([UInt8](repeating: 255, count: 8), "d.u32")
        try refuse("--tokens", "d.u32", "d.u32: token 0 is 4294967295")
    }

    @Test("Arrays that hold no ids")
    func arrays() throws {
        try workplace.write(NumpyArray.file("<f4", shape: [3], [1, 2, 3] as [Float]), "float.npy")
        try refuse("--tokens", "float.npy", "float.npy: ", "<f4", "integers")
        try workplace.write(NumpyArray.file("<u2", shape: [1, 2, 2], [1, 2, 3, 4] as [UInt16]), "cube.npy")
        try refuse("--tokens", "cube.npy", "cube.npy: ", "3 dimensions")
        try workplace.write(NumpyArray.file("<u2", shape: [9], [1, 2, 3, 4] as [UInt16]), "short.npy")
        try refuse("--tokens", "short.npy", "short.npy: ", "found 8 bytes, expected 9 elements")
        try workplace.write(NumpyArray.file("<u2", shape: [0], [] as [UInt16]), "none.npy")
        try refuse("--tokens", "none.npy", "none.npy: ")
        try workplace.write([UInt8]("\u{93}NUMPY".utf8), "head.npy")
        try refuse("--tokens", "head.npy", "head.npy: ")
    }

    @Test("Raw files of odd length, empty ones, missing ones, names of no format")
    func files() throws {
        try workplace.write([1, 0, 2], "odd.u16")
        try refuse("--tokens", "odd.u16", "odd.u16: ", "3 bytes", "multiple of 2")
        try workplace.write([], "empty.u32")
        try refuse("--tokens", "empty.u32", "empty.u32: ", "empty")
        try refuse("--tokens", "gone.npy", "gone.npy: no such file", code: 66)
        try workplace.write([1, 0, 2, 0], "tokens.bin")
        try refuse("--tokens", "tokens.bin", "tokens.bin: not the name of a token file", ".npy")
        let arguments = ["tokenize", "text.txt", "--tokenizer", "own.h5", "--out", "t.bin", "--quiet"]
        try workplace.refuse(65, .convert, arguments, mentions: ["t.bin: not the name of a token file", ".npy"])
    }

    @Test("HDF5 token files: no such dataset, one of floating-point numbers, a file that is none")
    func datasets() throws {
        try workplace.succeed(
            .convert, "tokenize", "text.txt", "--tokenizer", "own.h5", "--out", "t.h5:/train/ids", "--quiet")
        try refuse("--tokens", "t.h5", "t.h5: /tokens: found no such dataset, expected one of /train/ids")
        try refuse("--tokens", "t.h5:/test", "t.h5: /test: found no such dataset, expected one of /train/ids")
        try refuse("--tokens", "t.h5:", "t.h5:: ", "no dataset")
        try refuse("--tokens", "gone.h5:/x", "gone.h5: no such file", code: 66)
        try refuse(
            "--tokens", "own.h5:/model/model.norm.weight", "/model/model.norm.weight: found f32, expected integers")
        try workplace.write("no HDF5", "text.h5")
        try refuse("--tokens", "text.h5:/x", "text.h5: not an HDF5 file")
    }

    // MARK: - Options

    @Test(
        "Wrong usage: code 64 and the usage line",
        arguments: [
            ("perplexity own.h5", "--text FILE"), ("perplexity own.h5 --text text.txt --tokens t.npy", "--text FILE"),
            ("perplexity own.h5 --text text.txt --window 1", "--window 1: expected at least 2"),
            ("perplexity own.h5 --text text.txt --window 8 --stride 9", "--stride 9: expected at most the window"),
            ("perplexity own.h5 --text text.txt --stride 0", "--stride 0"),
            ("perplexity own.h5 --text text.txt --window ten", "'ten' is invalid for '--window <count>'"),
            ("perplexity own.h5 --text text.txt --batch 0", "--batch 0"),
            ("perplexity own.h5 --text text.txt --max-tokens 0", "--max-tokens 0"),
            ("perplexity own.h5 --text text.txt --precision f16", "'f16' is invalid"),
            ("perplexity --text text.txt", "<checkpoint>"), ("spectrum own.h5 --text text.txt", "--out <dir>"),
            ("spectrum own.h5 --text text.txt --out o --layers x", "--layers: 'x' is neither"),
            ("spectrum own.h5 --text text.txt --out o --layers 3-1", "--layers: '3-1'"),
            ("spectrum own.h5 --text text.txt --out o --layers ,", "--layers: expected at least one"),
            ("spectrum own.h5 --text text.txt --out o --layers 0-99999999999", "--layers"),
            ("spectrum own.h5 --text text.txt --out o --modules q,x", "--modules: 'x' is none of q, k, v"),
            ("spectrum own.h5 --text text.txt --out o --sides top", "--sides: 'top' is none of"),
            ("spectrum own.h5 --text text.txt --out o --alpha 1.5", "--alpha: '1.5' is no fraction"),
            ("spectrum own.h5 --text text.txt --out o --alpha nan", "--alpha: 'nan'"),
            ("spectrum own.h5 --text text.txt --out o --alpha 0.9,0.9", "stands twice"),
            ("spectrum own.h5 --text text.txt --out o --accumulation sum", "'sum' is invalid"),
            ("spectrum own.h5 --text text.txt --out o --sequence-length 0", "--sequence-length 0"),
            ("logits own.h5 --tokens t.npy", "--out <file>"), ("bench --repeats 0", "--repeats 0"),
            ("bench --size huge", "'huge' is invalid"), ("measure own.h5", "'measure'"), ("bench --wat", "--wat"),
        ])
    func analyzeUsage(_ line: String, _ words: String) throws {
        try workplace.refuse(64, .analyze, line.split(separator: " ").map(String.init), mentions: [words])
    }

    @Test(
        "Wrong usage of cola-convert",
        arguments: [
            ("import own.h5", "<output>"), ("import own.h5 o.h5 --dtype f64", "--dtype f64: expected f32, f16 or bf16"),
            ("import own.h5 o.h5 --dtype int8", "'int8' is invalid"),
            ("import own.h5 o.h5 --deflate 10", "--deflate 10"),
            ("export own.h5 o --layout gpt", "'gpt' is invalid"),
            ("tokenize text.txt --out t.npy", "--tokenizer <file>"),
            ("tokenize --tokenizer own.h5 --out t.npy", "<text>"), ("inspect", "<checkpoint>"),
        ])
    func convertUsage(_ line: String, _ words: String) throws {
        try workplace.refuse(64, .convert, line.split(separator: " ").map(String.init), mentions: [words])
    }

    @Test("Layers and sides that the model does not have; a stride beyond the default window")
    func beyondTheModel() throws {
        func refuse(_ options: String..., mentions: [String]) throws {
            let arguments = ["spectrum", "own.h5", "--text", "text.txt", "--out", "out", "--quiet"] + options
            try workplace.refuse(65, .analyze, arguments, mentions: mentions)
        }
        try refuse("--layers", "2", mentions: ["--layers 2: the model has 2 layers, 0 to 1"])
        try refuse("--layers", "0,1-7", mentions: ["--layers 1-7: the model has 2 layers"])
        try refuse("--sides", "bottleneck", mentions: ["own.h5: nothing to measure", "CoLA"])
        try workplace.refuse(
            65, .analyze, ["perplexity", "own.h5", "--text", "text.txt", "--stride", "513", "--quiet"],
            mentions: ["--stride 513: larger than the window of 512"])
        try workplace.refuse(
            65, .convert, ["export", "own.h5", "hf", "--layout", "cola", "--quiet"],
            mentions: ["own.h5: --layout cola: ", "grouped-query attention"])
        try TinyModel.cola.writeCheckpoint(workplace.file("cola.h5"))
        try workplace.refuse(
            65, .convert, ["export", "cola.h5", "hf", "--layout", "dense", "--quiet"],
            mentions: ["cola.h5: ", "cola_a", "use --layout cola"])
    }
}
