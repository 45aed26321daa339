import Foundation
import JSON
import Testing

@Suite("Texts: their encoding, standard input, folders")
struct TextInputTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace(textBytes: 2000) }

    /// The ids that `tokenize` makes of some texts.
    private func ids(
        _ texts: [String], before: String = "", after: String = "", warns: String? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> [UInt16] {
        let outcome = try workplace.run(
            .convert, ["tokenize"] + texts + ["--tokenizer", "own.h5", "--out", "ids.npy"], before: before, after: after
        )
        try #require(outcome.status == 0, "\(outcome)", sourceLocation: sourceLocation)
        let warnings = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("warning: ") }
        if let warns {
            #expect(warnings.count == 1, "\(warnings)", sourceLocation: sourceLocation)
            #expect(warnings.first?.contains(warns) == true, "\(warnings)", sourceLocation: sourceLocation)
        } else {
            #expect(warnings == [], sourceLocation: sourceLocation)
        }
        return try NumpyArray(try workplace.bytes("ids.npy")).shorts
    }

    // MARK: - Encodings

    /// All commands that read texts refuse one.
    private func refuse(
        _ text: String, _ mentions: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let train = ["--steps", "1", "--sequence-length", "8", "--batch", "1", "--precision", "f32"]
        let commands: [(Tool, [String])] = [
            (.analyze, ["perplexity", "own.h5", "--text", text]),
            (.analyze, ["logits", "own.h5", "--text", text, "--out", "out.npy"]),
            (.analyze, ["spectrum", "own.h5", "--text", text, "--out", "out"]),
            (.analyze, ["ranks", "own.h5", "--keep", "0.5", "--text", text, "--out", "plan.json"]),
            (.convert, ["tokenize", text, "--tokenizer", "own.h5", "--out", "out.npy"]),
            (.convert, ["dense-to-lowrank", "own.h5", "out.h5", "--keep", "0.5", "--text", text]),
            (
                .convert,
                ["dense-to-lowrank", "own.h5", "out.h5", "--rank", "4", "--text", "text.txt", "--evaluate", text]
            ),
            (.train, ["gradients", "own.h5", "--text", text, "--out", "out.h5", "--precision", "f32"]),
            (.train, ["continue", "own.h5", "--text", text, "--out", "run"] + train),
            (.train, ["pretrain", "--like", "own.h5", "--text", text, "--out", "run"] + train),
        ]
        for (tool, arguments) in commands {
            try workplace.refuse(
                65, tool, arguments + ["--quiet"], mentions: mentions, sourceLocation: sourceLocation)
        }
    }

    @Test("UTF-16 with its mark is refused by every command, with file and place")
    func wide() throws {
        try workplace.write([0xFF, 0xFE] + TinyModel.text(200).utf16.flatMap(littleEndian), "wide.txt")
        try refuse("wide.txt", "wide.txt: byte 0 (line 1, column 1)", "UTF-16")
    }

    @Test("Texts in other encodings, with what they look like and the place of the first byte that says so")
    func encodings() throws {
        func swapped(_ text: String) -> [UInt8] { text.utf16.flatMap { littleEndian($0.byteSwapped) } }
        func points(_ text: String, _ mark: Bool = false) -> [UInt8] {
            text.unicodeScalars.flatMap { littleEndian(mark ? $0.value.byteSwapped : $0.value) }
        }
        let ascii = "The band and the rank.\nMore of it.\n"
        let cyrillic = "Привет мир и всё остальное\n"
        let texts: [(bytes: [UInt8], mentions: [String])] = [
            ([0xFE, 0xFF] + swapped(ascii), ["byte 0 ", "UTF-16 in big-endian"]),
            (ascii.utf16.flatMap(littleEndian), ["byte 1 (line 1, column 2)", "UTF-16 in little-endian"]),
            (swapped(ascii), ["byte 0 ", "UTF-16 in big-endian"]),
            (cyrillic.utf16.flatMap(littleEndian), ["UTF-16 in little-endian"]),
            (swapped(cyrillic), ["UTF-16 in big-endian"]),
            ([0xFF, 0xFE, 0, 0] + points(ascii), ["byte 0 ", "UTF-32 in little-endian"]),
            ([0, 0, 0xFE, 0xFF] + points(ascii, true), ["UTF-32 in big-endian"]),
            (points(ascii), ["UTF-32 in little-endian"]), (points(ascii, true), ["UTF-32 in big-endian"]),
            (
                Array("one\ntwo\nthr\u{65}e caf".utf8) + [0xE9, 0x0A],
                ["byte 17 (line 3, column 10)", "E9 0A", "Latin-1"]
            ),
            (Array("größe ".utf8) + [0xC3, 0x28], ["byte 8 (line 1, column 7)", "damaged"]),
            (Array("cut größ".utf8).dropLast(), ["byte 8 ", "C3", "ends within a character"]),
            (Array("half ".utf8) + [0xED, 0xA0, 0x80], ["byte 5 ", "ED A0 80"]),
            (Array("long ".utf8) + [0xC0, 0x80, 0x41], ["byte 5 "]),
            (Array("far ".utf8) + [0xF4, 0x90, 0x80, 0x80], ["byte 4 "]),
            ([0x93] + Array("NUMPY".utf8) + [1, 0], ["NumPy", "--tokens"]), ([0x1F, 0x8B, 8, 0], ["gzip"]),
        ]
        for (bytes, mentions) in texts {
            try workplace.write(bytes, "odd.txt")
            try workplace.refuse(
                65, .convert,
                ["tokenize", "text.txt", "odd.txt", "--tokenizer", "own.h5", "--out", "out.npy", "--quiet"],
                mentions: ["odd.txt: "] + mentions)
        }
    }

    @Test("A byte order mark is dropped with a word; NUL and ends of lines stay")
    func marks() throws {
        let plain = try ids(["text.txt"])
        try workplace.write([0xEF, 0xBB, 0xBF] + workplace.bytes("text.txt"), "marked.txt")
        #expect(try ids(["marked.txt"], warns: "marked.txt: begins with a byte order mark") == plain)
        // Only the first one, and only at the start.
        try workplace.write("a\u{FEFF}b", "inside.txt")
        let mark = Array("\u{FEFF}".utf8).map { UInt16($0) }
        #expect(try ids(["inside.txt"]) == [97] + mark + [98])
        try workplace.write("a\r\nb\rc\n", "lines.txt")
        #expect(try ids(["lines.txt"]) == [97, 13, 10, 98, 13, 99, 10])
        try workplace.write("ab\0c\nd\0", "null.txt")
        #expect(
            try ids(["null.txt"], warns: "null.txt: byte 2 (line 1, column 3): a NUL, the first of 2")
                == [97, 98, 0, 99, 10, 100, 0])
    }

    // MARK: - Standard input and pipes

    @Test("- is standard input, which may be a file or a pipe", arguments: ["-", "/dev/stdin"])
    func standardInput(name: String) throws {
        let plain = try ids(["text.txt"])
        #expect(try ids([name], after: "< text.txt") == plain)
        try workplace.write("head ", "head.txt")
        #expect(try ids(["head.txt", name], after: "< text.txt") == (try ids(["head.txt", "text.txt"])))
        let expected = try workplace.json(.analyze, "perplexity", "own.h5", "--text", "text.txt")
        let outcome = try workplace.run(
            .analyze, ["perplexity", "own.h5", "--text", name, "--json", "--quiet"], after: "< text.txt")
        #expect(try JSONValue(parsing: outcome.output)["nats_per_token"] == expected["nats_per_token"], "\(outcome)")
    }

    @Test("What came through a pipe is in the record by its hash")
    func record() throws {
        let script = "cat text.txt | (exec \"$@\"); exit $?; true"
        let outcome = try workplace.run(
            .analyze, ["spectrum", "own.h5", "--text", "-", "--out", "spectra", "--quiet"],
            before: "set -- \"$@\"\n\(script)")
        #expect(outcome.status == 0, "\(outcome)")
        try workplace.succeed(.analyze, "spectrum", "own.h5", "--text", "text.txt", "--out", "other", "--quiet")
        let (piped, read) = (
            try JSONValue(parsing: workplace.bytes("spectra/run.json"))["inputs"]?[0],
            try JSONValue(parsing: workplace.bytes("other/run.json"))["inputs"]?[0]
        )
        #expect(piped?["path"] == "standard input")
        #expect(piped?["sha256"] == read?["sha256"] && piped?["bytes"] == read?["bytes"])
        #expect(try workplace.text("spectra/ranks.csv") == workplace.text("other/ranks.csv"))
    }

    @Test("A named pipe is read once")
    func namedPipe() throws {
        let plain = try ids(["text.txt"])
        #expect(mkfifo(workplace.file("pipe"), 0o600) == 0)
        #expect(try ids(["pipe"], before: "cat text.txt > pipe &") == plain)
    }

    @Test("Messages call it standard input, and it is read once only")
    func misuse() throws {
        try workplace.write([UInt8]("caf".utf8) + [0xE9], "latin.txt")
        try workplace.refuse(
            65, .analyze, ["perplexity", "own.h5", "--text", "-", "--quiet"],
            mentions: ["standard input: byte 3 (line 1, column 4)"], after: "< latin.txt")
        try workplace.refuse(
            65, .analyze, ["perplexity", "own.h5", "--text", "-", "--quiet"],
            mentions: ["standard input: the text is empty"])
        for arguments in [
            ["perplexity", "own.h5", "--text", "-", "-"], ["perplexity", "own.h5", "--text", "-", "/dev/stdin"],
            ["ranks", "own.h5", "--keep", "0.5", "--text", "-", "-", "--out", "plan.json"],
        ] {
            try workplace.refuse(64, .analyze, arguments, mentions: ["standard input"])
        }
        try workplace.refuse(
            64, .convert,
            ["dense-to-lowrank", "own.h5", "out.h5", "--rank", "4", "--text", "-", "--evaluate", "-"],
            mentions: ["standard input"])
    }

    @Test("The file behind standard input is no output, and a stand-in for a file is no text")
    func standIns() throws {
        #expect(link(workplace.file("text.txt"), workplace.file("text.u16")) == 0)
        try workplace.refuse(
            73, .convert, ["tokenize", "-", "--tokenizer", "own.h5", "--out", "text.u16", "--quiet"],
            mentions: ["text.u16", "read from"], after: "< text.txt")
        try workplace.write("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "lfs.txt")
        try workplace.refuse(
            65, .analyze, ["perplexity", "own.h5", "--text", "lfs.txt", "--quiet"], mentions: ["lfs.txt: ", "git-lfs"])
        symlink("nowhere", workplace.file("link.txt"))
        try workplace.refuse(
            66, .analyze, ["perplexity", "own.h5", "--text", "link.txt", "--quiet"],
            mentions: ["link.txt: ", "nowhere"])
    }

    @Test("Training on standard input warns, and goes on only with the same text")
    func training() throws {
        let options = ["--steps", "2", "--sequence-length", "8", "--batch", "1", "--precision", "f32", "--out", "run"]
        let outcome = try workplace.run(
            .train, ["continue", "own.h5", "--text", "-"] + options, after: "< text.txt")
        #expect(outcome.status == 0, "\(outcome)")
        #expect(outcome.errors.contains("warning: standard input: "), "\(outcome)")
        #expect(outcome.errors.contains("resume"), "\(outcome)")
        let losses = try workplace.text("run/metrics.csv").split(separator: "\n").map { $0.split(separator: ",")[2] }
        try workplace.succeed(
            .train, "continue", "own.h5", "--text", "text.txt", "--steps", "2", "--sequence-length", "8", "--batch",
            "1",
            "--precision", "f32", "--out", "same", "--quiet")
        let same = try workplace.text("same/metrics.csv").split(separator: "\n").map { $0.split(separator: ",")[2] }
        #expect(losses == same)
        try workplace.refuse(65, .train, ["resume", "run", "--quiet"], mentions: ["standard input", "--text"])
        try workplace.succeed(.train, "resume", "run", "--text", "text.txt", "--quiet")
        try workplace.write("Another text, long enough for a few sequences of it.", "other.txt")
        try workplace.refuse(
            65, .train, ["resume", "run", "--text", "other.txt", "--quiet"], mentions: ["other.txt", "hash"])
    }

    // MARK: - Folders

    @Test("A folder stands for its .txt files in the order of their names, and says how many")
    func folders() throws {
        try workplace.makeFolder("texts")
        try workplace.makeFolder("texts/inner.txt")
        for (name, text) in [
            ("b.txt", "second "), ("a.txt", "first "), ("Z.txt", "capital "), ("c.md", "not "), (".hidden.txt", "not "),
            ("inner.txt/d.txt", "not "),
        ] {
            try workplace.write(text, "texts/\(name)")
        }
        try workplace.write("capital first second ", "all.txt")
        #expect(try ids(["texts"]) == (try ids(["all.txt"])))
        let outcome = try workplace.run(.analyze, "perplexity", "own.h5", "--text", "texts/", "all.txt")
        #expect(outcome.status == 0 && outcome.errors.contains("texts/: 3 texts"), "\(outcome)")
        let names = ["texts/Z.txt", "texts/a.txt", "texts/b.txt", "all.txt"]
        let rows = outcome.output.split(separator: "\n").dropFirst().prefix(4).map {
            $0.split(separator: " ").first ?? ""
        }
        #expect(rows.map(String.init) == names, "\(outcome)")

        try workplace.succeed(
            .analyze, "spectrum", "own.h5", "--text", "texts", "--out", "spectra", "--sequence-length", "8", "--quiet")
        let inputs = try JSONValue(parsing: workplace.bytes("spectra/run.json"))["inputs"]?.arrayValue ?? []
        #expect(inputs.map { $0["path"] } == names.dropLast().map { .string($0) })

        try workplace.makeFolder("none")
        try workplace.write("text", "none/a.text")
        try refuse("none", "none: ", "holds no .txt files")
        try workplace.write([0x61, 0xFF], "texts/bad.txt")
        try refuse("texts", "texts/bad.txt: byte 1 ")
    }

    @Test("Training takes the texts of a folder and goes on with them")
    func folderRun() throws {
        try workplace.makeFolder("texts")
        for (name, seed) in [("b.txt", 3), ("a.txt", 5)] {
            try workplace.write(TinyModel.text(600, seed: UInt64(seed)), "texts/\(name)")
        }
        try workplace.succeed(
            .train, "continue", "own.h5", "--text", "texts", "--steps", "2", "--sequence-length", "8", "--batch", "1",
            "--precision", "f32", "--out", "run", "--quiet")
        try workplace.succeed(.train, "resume", "run", "--quiet")
        try workplace.succeed(.train, "resume", "run", "--text", "texts", "--quiet")
    }
}
