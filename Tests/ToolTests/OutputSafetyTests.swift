import Foundation
import Glibc
import TestSupport
import Testing

@Suite("Outputs destroy nothing")
struct OutputSafetyTests {
    let workplace: Workplace

    /// own.h5, text.txt, tokens.npy, plan.json, moments.h5 and a folder of the same model with its tokenizer.
    init() throws {
        workplace = try Workplace(textBytes: 600)
        try TinyModel.dense.writeFolder(workplace, "hf")
        try workplace.succeed(
            .convert, "tokenize", "text.txt", "--tokenizer", "own.h5", "--out", "tokens.npy", "--quiet")
    }

    private func link(_ name: String, to destination: String) throws {
        try FileManager.default.createSymbolicLink(atPath: workplace.file(name), withDestinationPath: destination)
    }

    private func type(of name: String) -> mode_t {
        var status = stat()
        return lstat(workplace.file(name), &status) == 0 ? status.st_mode & S_IFMT : 0
    }

    /// All files by name.
    private var files: [String: [UInt8]] {
        Dictionary(
            uniqueKeysWithValues: workplace.contents.filter { type(of: $0) == S_IFREG }
                .map { ($0, (try? workplace.bytes($0)) ?? []) })
    }

    private func refuse(_ tool: Tool, _ line: String, _ mentions: String...) throws {
        let before = files
        try workplace.refuse(
            73, tool, line.split(separator: " ").map(String.init) + ["--quiet"], mentions: mentions + ["cannot write"])
        let changed = before.filter { files[$0.key] != $0.value }.keys.sorted()
        #expect(changed == [], "\(line)")
    }

    @Test("Each command refuses an output that it reads from, and leaves it as it is")
    func ownInput() throws {
        let json = try workplace.text("hf/config.json")
        try workplace.write(json, "other.json")
        try workplace.succeed(
            .analyze, "ranks", "own.h5", "--rank", "5", "--tokens", "tokens.npy", "--out", "plan.json",
            "--save-moments", "moments.h5", "--quiet")
        try workplace.write(try workplace.text("plan.json"), "new.report.json")
        for (tool, line, output) in [
            (.convert, "import own.h5 own.h5", "own.h5"), (.convert, "import hf hf/model.safetensors", "hf/model"),
            (.convert, "import hf/model.safetensors hf/config.json", "hf/config.json"),
            (.convert, "import own.h5 other.json --config other.json", "other.json"),
            (.convert, "import own.h5 hf/tokenizer.json --tokenizer hf/tokenizer.json", "hf/tokenizer.json"),
            (.convert, "export hf hf --replace", "hf"),
            (.convert, "export own.h5 hf --replace --config hf/config.json", "hf"),
            (.convert, "tokenize text.txt --tokenizer own.h5 --out own.h5:/tokens", "own.h5"),
            (.convert, "dense-to-lowrank own.h5 own.h5 --rank 5 --text text.txt", "own.h5"),
            (.convert, "dense-to-lowrank own.h5 new.h5 --plan new.report.json --text text.txt", "new.report.json"),
            (.convert, "dense-to-lowrank own.h5 n.h5 --rank 5 --text text.txt --save-moments text.txt", "text.txt"),
            (
                .convert, "dense-to-lowrank own.h5 tokens.npy --rank 5 --text text.txt --evaluate tokens.npy",
                "tokens.npy"
            ),
            (.analyze, "ranks own.h5 --rank 5 --moments moments.h5 --out moments.h5", "moments.h5"),
            (.analyze, "ranks own.h5 --rank 5 --text text.txt --out p.json --save-moments own.h5", "own.h5"),
            (.analyze, "cost own.h5 --plan plan.json --out plan.json", "plan.json"),
            (.analyze, "logits own.h5 --tokens tokens.npy --out tokens.npy", "tokens.npy"),
            (.analyze, "spectrum own.h5 --text text.txt --out s --save-moments own.h5", "own.h5"),
            (.train, "gradients own.h5 --tokens tokens.npy --out own.h5", "own.h5"),
            (.train, "continue own.h5 --tokens tokens.npy --steps 1 --out own.h5", "own.h5"),
        ] as [(Tool, String, String)] {
            try refuse(tool, line, output)
        }
    }

    @Test("The same file by another path, a symbolic link and a hard link", arguments: 0..<4)
    func otherNames(_ kind: Int) throws {
        let name = ["./own.h5", "soft.h5", "hard.h5", "folder/own.h5"][kind]
        switch kind {
        case 1: try link("soft.h5", to: "own.h5")
        case 2: try #require(Glibc.link(workplace.file("own.h5"), workplace.file("hard.h5")) == 0)
        case 3: try link("folder", to: ".")
        default: break
        }
        try refuse(.convert, "import own.h5 \(name) --dtype bf16", "\(name): ", "the same file as own.h5")
        try refuse(.convert, "import \(name) own.h5 --dtype bf16", "own.h5: ", "the same file as \(name)")
        try refuse(.train, "gradients own.h5 --text text.txt --out \(name)", "the same file as own.h5")
    }

    @Test("A model in a folder of links, as a hub keeps it, is not replaced behind them")
    func linkedFolder() throws {
        try workplace.makeFolder("snapshot")
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            try link("snapshot/\(name)", to: "../hf/\(name)")
        }
        try refuse(.convert, "export snapshot hf --replace", "hf/config.json")
        try refuse(.convert, "import snapshot hf/model.safetensors", "the same file as snapshot/model.safetensors")
    }

    @Test("Two outputs of one name")
    func twice() throws {
        try refuse(
            .analyze, "ranks own.h5 --rank 5 --text text.txt --out p.json --save-moments ./p.json", "another output")
        try refuse(
            .convert, "dense-to-lowrank own.h5 o.h5 --rank 5 --text text.txt --save-moments o.layers.csv",
            "o.layers.csv")
    }

    @Test("A report is none of the files that it is made from, but one that was there is made anew")
    func report() throws {
        try workplace.succeed(.analyze, "spectrum", "own.h5", "--text", "text.txt", "--out", "s", "--quiet")
        try refuse(.analyze, "report s --out s/ranks.csv", "s/ranks.csv")
        for _ in 0..<2 { try workplace.succeed(.analyze, "report", "s", "--out", "s/page.html") }
    }

    @Test("A pipe and standard output take a stream; the result's words then go to standard error")
    func streams() throws {
        try workplace.succeed(
            .analyze, "logits", "own.h5", "--tokens", "tokens.npy", "--max-tokens", "3", "--out", "file.npy", "--quiet")
        try #require(mkfifo(workplace.file("pipe"), 0o600) == 0)
        let reader = open(workplace.file("pipe"), O_RDONLY | O_NONBLOCK)
        defer { close(reader) }
        try workplace.succeed(
            .analyze, "logits", "own.h5", "--tokens", "tokens.npy", "--max-tokens", "3", "--out", "pipe", "--quiet")
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = read(reader, &bytes, bytes.count)
        #expect(try Array(bytes.prefix(max(0, count))) == workplace.bytes("file.npy"))
        #expect(type(of: "pipe") == S_IFIFO)

        let outcome = try workplace.run(
            .analyze, ["cost", "--preset", "60m", "--out", "/dev/stdout", "--quiet"])
        #expect(outcome.status == 0 && outcome.output.hasPrefix("method,parameters,"), "\(outcome)")
        #expect(outcome.output.split(separator: "\r\n").count == 9 && outcome.errors.hasSuffix("/dev/stdout\n"))

        for line in [
            "import own.h5 pipe", "export own.h5 pipe", "dense-to-lowrank own.h5 pipe --rank 5 --text text.txt",
        ] {
            try refuse(.convert, line, "pipe")
        }
        try refuse(.train, "gradients own.h5 --text text.txt --out pipe", "pipe")
        try refuse(.analyze, "ranks own.h5 --rank 5 --text text.txt --out p.json --save-moments pipe", "pipe")
        #expect(type(of: "pipe") == S_IFIFO)
    }

    @Test("A device stays a device")
    func device() throws {
        // A node of the test's own, never the machine's; making one needs rights.
        guard mknod(workplace.file("null"), S_IFCHR | 0o666, dev_t(1 << 8 | 3)) == 0 else { return }
        for line in ["logits own.h5 --tokens tokens.npy --out null", "cost --preset 60m --out null"] {
            let outcome = try workplace.run(.analyze, line.split(separator: " ").map(String.init) + ["--quiet"])
            #expect([0, 73].contains(outcome.status) && !outcome.isKilled, "\(outcome)")
            #expect(type(of: "null") == S_IFCHR)
        }
        try refuse(.convert, "import own.h5 null", "null")
        #expect(type(of: "null") == S_IFCHR)
    }

    @Test("Folders on the way to an output are made, and are gone where nothing came of it")
    func folders() throws {
        try workplace.succeed(.convert, "import", "own.h5", "a/b/c.h5", "--quiet")
        try workplace.succeed(.analyze, "cost", "--preset", "60m", "--out", "d/e.csv", "--quiet")
        try workplace.succeed(.convert, "export", "own.h5", "f/g", "--quiet")
        for name in ["a/b/c.h5", "d/e.csv", "f/g/config.json"] { #expect(type(of: name) == S_IFREG) }
        let contents = workplace.contents
        _ = try workplace.run(
            .analyze, ["logits", "own.h5", "--tokens", "tokens.npy", "--out", "x/y/z.npy"], before: "ulimit -f 1")
        #expect(workplace.contents == contents)
    }

    @Test("Results of an earlier run do not stand beside new ones as if they were theirs")
    func leftovers() throws {
        func measure(_ more: String...) throws -> Outcome {
            try workplace.run(.analyze, ["spectrum", "own.h5", "--text", "text.txt", "--out", "s"] + more)
        }
        #expect(try measure("--weights").status == 0 && type(of: "s/weight_spectra.csv") == S_IFREG)
        #expect(try measure().errors.contains("removed s/weight_spectra.csv") && type(of: "s/weight_spectra.csv") == 0)
        try workplace.write("my own notes", "s/weight_spectra.csv")
        #expect(try measure().errors.contains("warning: s/weight_spectra.csv: not of this run"))
        #expect(try workplace.text("s/weight_spectra.csv") == "my own notes")

        try workplace.succeed(
            .convert, "dense-to-lowrank", "own.h5", "low.h5", "--rank", "5", "--text", "text.txt", "--quiet")
        let imported = try workplace.run(.convert, ["import", "own.h5", "low.h5", "--quiet"])
        #expect(imported.errors.contains("warning: low.report.json, low.layers.csv: not of this run"), "\(imported)")

        try workplace.write("{}", "hf/vocab.json")
        let exported = try workplace.run(.convert, ["export", "own.h5", "hf", "--replace", "--quiet"])
        #expect(exported.status == 0 && exported.errors.contains("warning: hf/vocab.json: not of this run"))
    }

    @Test("Token ids do not take the place of a file that holds more than them")
    func tokenFile() throws {
        func tokenize(_ out: String) throws -> Outcome {
            try workplace.run(.convert, ["tokenize", "text.txt", "--tokenizer", "own.h5", "--out", out, "--quiet"])
        }
        #expect(try tokenize("ids.h5:/train").status == 0)
        #expect(try tokenize("ids.h5:/train").status == 0)
        let before = try workplace.bytes("ids.h5")
        let outcome = try tokenize("ids.h5:/valid")
        #expect(outcome.status == 73 && outcome.errors.contains("ids.h5: cannot write: it holds /train"), "\(outcome)")
        #expect(try workplace.bytes("ids.h5") == before)
    }

    @Test("A second training into the folder of one that is alive is told so, and the first goes on")
    func alive() throws {
        let tokens = learnableIDs(1201, below: 97).flatMap { littleEndian(UInt16($0)) }
        try workplace.write(tokens, "tokens.u16")
        let line = [
            "continue", "own.h5", "--tokens", "tokens.u16", "--sequence-length", "16", "--batch", "2", "--precision",
            "f32",
            "--out", "run", "--quiet", "--steps",
        ]
        let first = try workplace.start(.train, line + ["1000000", "--save-every", "1000000"])
        func size() -> Int { (try? workplace.bytes("run/metrics.csv").count) ?? 0 }
        #expect(first.wait { size() > 200 })
        for arguments in [line + ["2"], ["pretrain", "--tokens", "tokens.u16", "--preset", "tiny", "--out", "run"]] {
            let second = try workplace.run(.train, arguments)
            #expect(second.status == 73, "\(second)")
            #expect(
                second.errors.contains("run: cannot write: another process is training in this folder"), "\(second)")
            #expect(!second.errors.contains("remove"), "\(second)")
        }
        let before = size()
        #expect(first.isRunning && first.wait { size() > before })
        first.send(SIGTERM)
        #expect(try first.finish().status == 130)
    }
}
