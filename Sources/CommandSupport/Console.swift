import Checkpoints
import Glibc

/// Standard error for people: messages, and progress that overwrites itself on a terminal and is a line now and then
/// elsewhere. Results go to standard output.
public struct Console: Sendable {
    public let isQuiet: Bool

    public init(isQuiet: Bool) { self.isQuiet = isQuiet }

    public static let errorIsTerminal = isatty(STDERR_FILENO) == 1
    public static let outputIsTerminal = isatty(STDOUT_FILENO) == 1
    /// Colours only where a person looks, and not where NO_COLOR asks for none.
    public static let usesColor = outputIsTerminal && getenv("NO_COLOR") == nil

    public func note(_ text: String) {
        if !isQuiet { Self.writeError(text + "\n") }
    }

    public func warn(_ text: String) { Self.writeError("warning: \(text)\n") }

    public static func writeError(_ text: String) { _ = write(text, to: STDERR_FILENO) }

    /// Writes the result, and a line's end, to standard output.
    public static func output(_ text: String) throws(CheckpointError) {
        guard write(text + "\n", to: STDOUT_FILENO) else {
            throw .cannotWrite(path: "standard output", reason: String(cString: strerror(errno)))
        }
    }

    private static func write(_ text: String, to descriptor: Int32) -> Bool {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return false }
            bytes = bytes.dropFirst(count)
        }
        return true
    }

    public func progress(_ title: String, unit: String, total: Int) -> Progress {
        Progress(title: title, unit: unit, total: total, isQuiet: isQuiet)
    }
}

/// Seconds since some fixed moment.
public func monotonicSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

/// Largest resident set of this process so far, in bytes.
public func peakMemory() -> Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
}

/// A progress line with rate and time left.
public final class Progress {
    private let title: String
    private let unit: String
    private let total: Int
    private let isQuiet: Bool
    private let start = monotonicSeconds()
    private var lastShown = 0.0

    init(title: String, unit: String, total: Int, isQuiet: Bool) {
        self.title = title
        self.unit = unit
        self.total = total
        self.isQuiet = isQuiet
        lastShown = start
    }

    public var seconds: Double { monotonicSeconds() - start }

    /// Shows that `done` of the total are done, if the last time was long enough ago.
    public func update(_ done: Int) {
        guard !isQuiet, total > 0 else { return }
        let now = monotonicSeconds()
        guard now - lastShown >= (Console.errorIsTerminal ? 0.1 : 10) else { return }
        lastShown = now
        let rate = Double(done) / (now - start)
        let left = rate > 0 ? Double(total - done) / rate : 0
        let line =
            "\(title)  \(bar(done))  \(done)/\(total) \(unit)  \(Int(rate)) \(unit)/s  \(fixed(left, 0)) s left"
        Console.writeError(Console.errorIsTerminal ? "\r\u{1B}[K\(line)" : line + "\n")
    }

    /// Ends the line; returns the seconds it took.
    @discardableResult
    public func finish() -> Double {
        let seconds = seconds
        guard !isQuiet else { return seconds }
        let rate = total > 0 && seconds > 0 ? "  \(Int(Double(total) / seconds)) \(unit)/s" : ""
        Console.writeError(
            (Console.errorIsTerminal ? "\r\u{1B}[K" : "")
                + "\(title)  \(total) \(unit)  \(fixed(seconds, 2)) s\(rate)\n")
        return seconds
    }

    private func bar(_ done: Int) -> String {
        let width = 24
        let filled = min(width, width * done / total)
        return String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
    }
}
