import CMalloc
import Files
import Glibc
import Workflows

/// Standard error for people: messages, and progress that overwrites itself on a terminal and is a line now and then
/// elsewhere. Results go to standard output.
public struct Console: Sendable {
    public let isQuiet: Bool

    public init(isQuiet: Bool) { self.isQuiet = isQuiet }

    public static let errorIsTerminal = isatty(STDERR_FILENO) == 1
    public static let outputIsTerminal = isatty(STDOUT_FILENO) == 1
    /// Colours only where a person looks, and not where NO_COLOR asks for none.
    public static let usesColor = outputIsTerminal && colorIsWelcome
    private static let errorUsesColor = errorIsTerminal && colorIsWelcome
    private static let colorIsWelcome =
        (getenv("NO_COLOR").map { $0.pointee == 0 } ?? true)
        && getenv("TERM").map { String(cString: $0) != "dumb" } ?? false

    /// Characters that fit a line of the terminal behind standard error.
    static var errorColumns: Int {
        var size = winsize()
        return ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 1 ? Int(size.ws_col) : 80
    }

    public func note(_ text: String) {
        if !isQuiet { Self.writeError(text + "\n") }
    }

    public func warn(_ text: String) { Self.writeError("\(Self.marked("warning:", .yellow)) \(text)\n") }

    /// The message that ends a tool.
    static func fail(_ tool: String, _ error: any Error) {
        writeError("\(tool): \(marked("error:", .red)) \(error)\n")
    }

    private static func marked(_ word: String, _ style: TextStyle) -> String {
        errorUsesColor ? style.applied(to: word) : word
    }

    public static func writeError(_ text: String) { _ = write(text, to: STDERR_FILENO) }

    /// Writes the result, and a line's end, to standard output; where that is one of the files that were written, to
    /// standard error.
    public static func output(_ text: String, besides files: [String?] = []) throws(CheckpointError) {
        var isTaken = false
        for file in files.compactMap({ $0 }) where try OutputPlace(file) == .descriptor(STDOUT_FILENO) {
            isTaken = true
        }
        guard write(text + "\n", to: isTaken ? STDERR_FILENO : STDOUT_FILENO) else {
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

/// Largest resident set of this process so far, in bytes.
public func peakMemory() -> Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
}

/// Resident set of this process now, in bytes; what has been freed is given back to the system first. Nil where the system
/// does not say.
public func residentMemory() -> Int? {
    malloc_trim(0)
    // Pages: all of them, then the resident ones.
    let pages = systemFile("/proc/self/statm").first.flatMap { Int($0.dropFirst().first ?? "") }
    return pages.map { $0 * sysconf(Int32(_SC_PAGESIZE)) }
}

/// Memory that this process can still have, in bytes: of the machine's, and of what its control group may take. Nil where
/// the system does not say.
public func availableMemory() -> Int? {
    let line = systemFile("/proc/meminfo").first { $0.first == "MemAvailable:" }
    let free = line.flatMap { Int($0.dropFirst().first ?? "") }.map { $0 * 1024 }
    return [free, ControlGroup().freeMemory].compactMap { $0 }.min()
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
        // A line that the terminal wraps could not be overwritten.
        Console.writeError(
            Console.errorIsTerminal ? "\r\u{1B}[K\(line.prefix(Console.errorColumns - 1))" : line + "\n")
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
