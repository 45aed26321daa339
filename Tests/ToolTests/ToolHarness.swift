import Foundation
import JSON
import TestSupport
import Testing

/// The tools as a user runs them.
enum Tool: String {
    case analyze = "cola-analyze"
    case convert = "cola-convert"
    case train = "cola-train"

    /// The executable, which the build puts beside the test bundle.
    var path: String {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        let folders = [own, CommandLine.arguments[0]].map { URL(fileURLWithPath: $0).deletingLastPathComponent().path }
        let paths = folders.map { "\($0)/\(rawValue)" }
        return paths.first { FileManager.default.isExecutableFile(atPath: $0) } ?? paths[0]
    }
}

/// How a run ended and what it said.
struct Outcome: CustomStringConvertible {
    /// Exit code, or the signal's number where one ended the process.
    let status: Int32
    let isKilled: Bool
    let output: String
    let errors: String

    var description: String { "\(isKilled ? "signal" : "exit") \(status)\n\(errors)\n\(output)" }

    /// What was said on standard error without warnings.
    var errorLines: [Substring] {
        errors.split(whereSeparator: \.isNewline).filter { !$0.hasPrefix("warning: ") }
    }
}

/// A folder in which tools run.
typealias Workplace = TemporaryFolder

extension Workplace {
    /// With the dense model in own.h5 and a text of about so many bytes in text.txt.
    convenience init(textBytes: Int) throws {
        try self.init()
        try TinyModel.dense.writeCheckpoint(file("own.h5"))
        try write(TinyModel.text(textBytes), "text.txt")
    }

    // MARK: - Running

    /// Runs a tool to its end. `before` is shell text in front of it, such as a limit; `after` its redirections.
    func run(
        _ tool: Tool, _ arguments: [String], before: String = "", after: String = "",
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Outcome {
        try start(tool, arguments, before: before, after: after).finish(sourceLocation: sourceLocation)
    }

    func run(_ tool: Tool, _ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) throws -> Outcome
    {
        try run(tool, arguments, sourceLocation: sourceLocation)
    }

    /// Runs a tool that must succeed; returns what it printed.
    @discardableResult
    func succeed(
        _ tool: Tool, _ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> String {
        let outcome = try run(tool, arguments, sourceLocation: sourceLocation)
        try #require(
            outcome.status == 0 && !outcome.isKilled, "\(arguments): \(outcome)", sourceLocation: sourceLocation)
        return outcome.output
    }

    /// The same, with the output as JSON.
    func json(_ tool: Tool, _ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) throws
        -> JSONValue
    {
        let outcome = try run(tool, arguments + ["--json"], sourceLocation: sourceLocation)
        try #require(
            outcome.status == 0 && !outcome.isKilled, "\(arguments): \(outcome)", sourceLocation: sourceLocation)
        return try JSONValue(parsing: outcome.output)
    }

    /// Runs a tool that must refuse with a code, one message that holds all of `mentions`, and no trace in the folder.
    /// `isUsage` says whether the argument parser speaks, which knows what code 64 is about unless the model decides.
    func refuse(
        _ code: Int32, _ tool: Tool, _ arguments: [String], mentions: [String], before: String = "", after: String = "",
        isUsage: Bool? = nil, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let contents = self.contents
        let outcome = try run(tool, arguments, before: before, after: after, sourceLocation: sourceLocation)
        #expect(outcome.status == code && !outcome.isKilled, "\(outcome)", sourceLocation: sourceLocation)
        expectOneMessage(outcome, from: tool, isUsage: isUsage ?? (code == 64), sourceLocation: sourceLocation)
        for mention in mentions {
            #expect(outcome.errors.contains(mention), "\(mention) in: \(outcome)", sourceLocation: sourceLocation)
        }
        let new = self.contents.filter { !contents.contains($0) }
        #expect(new == [], "\(outcome)", sourceLocation: sourceLocation)
    }

    func start(_ tool: Tool, _ arguments: [String], before: String = "", after: String = "") throws -> RunningTool {
        try RunningTool(tool, arguments, folder: path, before: before, after: after)
    }
}

/// One message: a line that starts with the tool's name, and indented lines that belong to it. What the argument parser
/// says about wrong usage has its own form.
func expectOneMessage(
    _ outcome: Outcome, from tool: Tool, isUsage: Bool = false, sourceLocation: SourceLocation = #_sourceLocation
) {
    let lines = outcome.errorLines
    #expect(outcome.output == "", sourceLocation: sourceLocation)
    #expect(
        lines.first?.hasPrefix(isUsage ? "Error: " : "\(tool.rawValue): error: ") == true, "\(outcome)",
        sourceLocation: sourceLocation)
    let isOne =
        isUsage
        ? lines.count { $0.hasPrefix("Error: ") } == 1 && lines.contains { $0.hasPrefix("Usage: ") }
        : lines.dropFirst().allSatisfy { $0.hasPrefix("  ") }
    #expect(isOne, "\(outcome)", sourceLocation: sourceLocation)
    for trace in ["Fatal error", "Stack dump", "Crash", "Swift/"] {
        #expect(!outcome.errors.contains(trace), "\(outcome)", sourceLocation: sourceLocation)
    }
}

/// A tool at work.
final class RunningTool {
    private let process = Process()
    private let ended = DispatchSemaphore(value: 0)
    private let capture: TemporaryFolder
    private let description: String

    init(_ tool: Tool, _ arguments: [String], folder: String, before: String, after: String) throws {
        description = "\(tool.rawValue) \(arguments.joined(separator: " "))"
        capture = try TemporaryFolder()
        if before.isEmpty && after.isEmpty {
            process.executableURL = URL(fileURLWithPath: tool.path)
            process.arguments = arguments
        } else {
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = ["-c", "\(before)\nexec \"$@\" \(after)", "sh", tool.path] + arguments
        }
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try Self.sink(capture.file("output"))
        process.standardError = try Self.sink(capture.file("errors"))
        let ended = ended
        process.terminationHandler = { _ in ended.signal() }
        // Tests may run on threads that block signals, and a child has the mask of the thread that starts it.
        var (none, former) = (sigset_t(), sigset_t())
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, &former)
        defer { pthread_sigmask(SIG_SETMASK, &former, nil) }
        try process.run()
    }

    private static func sink(_ path: String) throws -> FileHandle {
        _ = FileManager.default.createFile(atPath: path, contents: nil)
        return try FileHandle(forWritingTo: URL(fileURLWithPath: path))
    }

    var isRunning: Bool { process.isRunning }

    /// What `ps` calls it; nothing once it has ended.
    var name: String? {
        let text = try? String(contentsOfFile: "/proc/\(process.processIdentifier)/comm", encoding: .utf8)
        return text.map { $0.trimmingCharacters(in: .newlines) }
    }

    func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

    /// Waits for the end; a tool that hangs is killed, and that is a failure.
    func finish(sourceLocation: SourceLocation = #_sourceLocation) throws -> Outcome {
        if ended.wait(timeout: .now() + 180) == .timedOut {
            Issue.record("\(description): still running after three minutes", sourceLocation: sourceLocation)
            send(SIGKILL)
            ended.wait()
        }
        return Outcome(
            status: process.terminationStatus, isKilled: process.terminationReason == .uncaughtSignal,
            output: try capture.text("output"), errors: try capture.text("errors"))
    }

    /// Waits until something has happened, or the tool has ended; returns whether it has happened.
    func wait(until condition: () -> Bool) -> Bool {
        for _ in 0..<60_000 {
            if condition() { return true }
            if !isRunning { return condition() }
            usleep(500)
        }
        return false
    }
}
