import Foundation
import Testing

@Suite(
    "What a terminal shows",
    .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/script"), "needs /usr/bin/script, of bsdutils"))
struct TerminalTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace(textBytes: 1500) }

    private static let escape: Character = "\u{1B}"

    /// What a command line of cola-analyze writes to a terminal, with these settings of the environment.
    private func onTerminal(_ arguments: String, environment: String = "TERM=xterm", columns: Int = 80) throws -> String
    {
        try workplace.write(
            "stty columns \(columns); env -u NO_COLOR \(environment) \(Tool.analyze.path) \(arguments)", "line.sh")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/script")
        process.arguments = ["-qec", "sh line.sh", "/dev/null"]
        process.currentDirectoryURL = URL(fileURLWithPath: workplace.path)
        process.standardInput = FileHandle.nullDevice
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let bytes = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: bytes, as: UTF8.self).replacing("\r\n", with: "\n")
    }

    private func withoutStyles(_ text: String) -> String { text.replacing(/\u{1B}\[[0-9]*m/, with: "") }

    private let spectrum = "spectrum own.h5 --text text.txt --out s --quiet 2>/dev/null"

    @Test("Colours on a terminal, which change nothing else; none in a file, with NO_COLOR, or on a dumb terminal")
    func colors() throws {
        let shown = try onTerminal(spectrum)
        #expect(shown.contains("\u{1B}[1mlayer") && shown.contains("\u{1B}[34m█"))
        let plain = try workplace.succeed(.analyze, "spectrum", "own.h5", "--text", "text.txt", "--out", "s", "--quiet")
        #expect(!plain.contains(Self.escape))
        #expect(withoutStyles(shown) == plain)
        for environment in ["TERM=xterm NO_COLOR=1", "TERM=dumb"] {
            #expect(try onTerminal(spectrum, environment: environment) == plain, "\(environment)")
        }
        // An empty NO_COLOR asks for nothing.
        #expect(try onTerminal(spectrum, environment: "TERM=xterm NO_COLOR=").contains(Self.escape))
        #expect(try !onTerminal(spectrum + " --json").contains(Self.escape))
    }

    @Test("Errors and warnings are marked on a terminal only")
    func errors() throws {
        let shown = try onTerminal("perplexity gone.h5 --text text.txt --quiet")
        #expect(shown == "cola-analyze: \u{1B}[31merror:\u{1B}[0m gone.h5: no such file\n")
        try workplace.refuse(
            66, .analyze, ["perplexity", "gone.h5", "--text", "text.txt", "--quiet"],
            mentions: ["cola-analyze: error: gone.h5: no such file"])
        let warned = try onTerminal("spectrum own.h5 --text text.txt --max-tokens 20 --out s --quiet")
        #expect(warned.contains("\u{1B}[33mwarning:\u{1B}[0m 20 tokens"))
    }

    @Test("Progress overwrites itself and never wraps")
    func progress() throws {
        try workplace.write(TinyModel.text(400_000), "text.txt")
        let shown = try onTerminal("perplexity own.h5 --text text.txt", columns: 40)
        let lines = shown.split(separator: "\r").filter { $0.contains("░") }.map { $0.replacing("\u{1B}[K", with: "") }
        #expect(!lines.isEmpty && lines.allSatisfy { $0.count == 39 })
        #expect(shown.contains("\r\u{1B}[K"))
    }
}
