import Foundation
import TestSupport
import Testing

@Suite("Outputs that cannot be written, and interruptions", .serialized)
struct OutputTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace(textBytes: 2000) }

    /// Commands with one output each, which comes last.
    private static let commands: [(tool: Tool, arguments: [String])] = [
        (.convert, ["import", "own.h5"]), (.convert, ["export", "own.h5"]),
        (.convert, ["tokenize", "text.txt", "--tokenizer", "own.h5", "--out"]),
        (.analyze, ["spectrum", "own.h5", "--text", "text.txt", "--out"]),
        (.analyze, ["logits", "own.h5", "--text", "text.txt", "--out"]),
    ]

    private func suffix(_ arguments: [String]) -> String {
        ["import": ".h5", "tokenize": ".npy", "logits": ".npy"][arguments[0]] ?? ""
    }

    @Test("An output below a file, or where no file can be", arguments: 0..<5)
    func places(_ index: Int) throws {
        let (tool, arguments) = Self.commands[index]
        for folder in ["text.txt", "text.txt/deep", "/proc", "/proc/self"] {
            let output = "\(folder)/out\(suffix(arguments))"
            try workplace.refuse(
                73, tool, arguments + [output, "--quiet"], mentions: ["\(folder)/out", "cannot write"])
        }
    }

    @Test("A folder in the place of an output file, and a file in the place of an output folder")
    func wrongKinds() throws {
        for (tool, arguments) in Self.commands {
            let isFile = !suffix(arguments).isEmpty
            let output = "taken-\(arguments[0])\(suffix(arguments))"
            if isFile { try workplace.makeFolder(output) } else { try workplace.write("kept", output) }
            try workplace.refuse(73, tool, arguments + [output, "--quiet"], mentions: [output, "cannot write"])
            if !isFile { #expect(try workplace.text(output) == "kept") }
        }
    }

    @Test("A limit on the size of files", arguments: 0..<5)
    func limited(_ index: Int) throws {
        let (tool, arguments) = Self.commands[index]
        let output = "out\(suffix(arguments))"
        // In blocks of 512 bytes; the tokens take less than the others.
        let limit = arguments[0] == "tokenize" ? 1 : 8
        try workplace.refuse(
            73, tool, arguments + [output, "--quiet"], mentions: ["out", "cannot write: File too large"],
            before: "ulimit -f \(limit)")
    }

    @Test("A full disk", .needsSmallDisk, arguments: 0..<5)
    func fullDisk(_ index: Int) throws {
        let (tool, arguments) = Self.commands[index]
        let disk = try #require(SmallDisk("disk", in: workplace, kibibytes: arguments[0] == "tokenize" ? 0 : 16))
        // The tokens would fit the smallest of disks.
        if arguments[0] == "tokenize" {
            try Data(count: disk.freeBytes).write(to: URL(fileURLWithPath: disk.path + "/full"))
        }
        let output = "disk/out\(suffix(arguments))"
        try workplace.refuse(
            73, tool, arguments + [output, "--quiet"], mentions: ["disk/out", "No space left on device"])
    }

    @Test("A disk that can only be read", .needsSmallDisk)
    func readOnly() throws {
        let disk = try #require(SmallDisk("disk", in: workplace, kibibytes: 64, isReadOnly: true))
        for (tool, arguments) in Self.commands {
            let output = "disk/out\(suffix(arguments))"
            try workplace.refuse(73, tool, arguments + [output, "--quiet"], mentions: ["Read-only file system"])
        }
        withExtendedLifetime(disk) {}
    }

    @Test("Standard output that is closed or full", arguments: [">&-", "> /dev/full"])
    func standardOutput(_ redirection: String) throws {
        for (tool, arguments) in [
            (Tool.convert, ["inspect", "own.h5"]),
            (.analyze, ["perplexity", "own.h5", "--text", "text.txt", "--quiet"]),
            (.convert, ["inspect", "own.h5", "--json"]),
        ] {
            try workplace.refuse(
                73, tool, arguments, mentions: ["standard output: cannot write"], after: redirection)
        }
    }

    // MARK: - Interruptions

    private func expectInterrupted(_ tool: RunningTool, contents: [String]) throws {
        let outcome = try tool.finish()
        #expect(outcome.status == 130 && !outcome.isKilled, "\(outcome)")
        #expect(outcome.errors.split(separator: "\n").last == "interrupted: unfinished output was removed")
        #expect(outcome.output == "" && workplace.contents == contents)
    }

    @Test("An import that is interrupted while it writes", arguments: [SIGINT, SIGTERM, SIGHUP])
    func importing(_ signal: Int32) throws {
        try workplace.write(Large.configuration, "config.json")
        try Large.write(workplace.file("large.safetensors"))
        let contents = workplace.contents
        let arguments = ["import", "large.safetensors", "out.h5", "--deflate", "9", "--config", "config.json"]
        let tool = try workplace.start(.convert, arguments)
        #expect(tool.wait { workplace.contents.contains { $0.hasSuffix(".partial") } })
        tool.send(signal)
        try expectInterrupted(tool, contents: contents)
    }

    @Test("A signal that is ignored by whoever starts the tool stays ignored, as with nohup")
    func ignored() throws {
        try workplace.write(Large.configuration, "config.json")
        try Large.write(workplace.file("large.safetensors"))
        let contents = workplace.contents
        let arguments = ["import", "large.safetensors", "out.h5", "--deflate", "9", "--config", "config.json"]
        let tool = try workplace.start(.convert, arguments, before: "trap '' HUP")
        #expect(tool.wait { workplace.contents.contains { $0.hasSuffix(".partial") } })
        tool.send(SIGHUP)
        usleep(50_000)
        #expect(tool.isRunning)
        tool.send(SIGINT)
        try expectInterrupted(tool, contents: contents)
    }

    @Test("Commands that are interrupted while they wait for a text", arguments: 2..<5, [SIGINT, SIGTERM])
    func waiting(_ index: Int, _ signal: Int32) throws {
        let (tool, arguments) = Self.commands[index]
        try #require(mkfifo(workplace.file("pipe"), 0o600) == 0)
        let contents = workplace.contents
        let output = "out\(suffix(arguments))"
        let running = try workplace.start(tool, arguments.map { $0 == "text.txt" ? "pipe" : $0 } + [output])
        // Once its reader is there, the pipe opens for writing.
        var writer: Int32 = -1
        #expect(
            running.wait {
                writer = open(workplace.file("pipe"), O_WRONLY | O_NONBLOCK)
                return writer >= 0
            })
        defer { close(writer) }
        running.send(signal)
        try expectInterrupted(running, contents: contents)
    }

    @Test("A spectrum that is interrupted in the forward pass")
    func forward() throws {
        try workplace.write([UInt8](repeating: 1, count: 6_000_000), "long.u16")
        // 1 · 256 + 1 is an id of the model.
        let contents = workplace.contents
        let tool = try workplace.start(
            .analyze, ["spectrum", "own.h5", "--tokens", "long.u16", "--out", "out", "--accumulation", "qr"])
        #expect(tool.wait { workplace.contents.contains("out") })
        usleep(200_000)
        #expect(tool.isRunning)
        tool.send(SIGINT)
        try expectInterrupted(tool, contents: contents)
    }
}
