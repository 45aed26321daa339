import Glibc

/// What the control groups that this process is in leave it of the machine: containers and batch systems set such limits.
/// The smallest of a group and of those it lies in holds.
public struct ControlGroup: Sendable {
    /// Processors' worth of time, such as 1.5; nil without a limit.
    public private(set) var processors: Double?
    /// Bytes that may still be taken; what the system keeps of files in memory and would give back counts as free. Nil
    /// without a limit.
    public private(set) var freeMemory: Int?

    /// - Parameters:
    ///   - membership: the system's list of the groups that this process is in.
    ///   - root: where the system shows groups as folders, of the second version or of both.
    public init(membership: String = "/proc/self/cgroup", root: String = "/sys/fs/cgroup") {
        for line in systemFile(membership, separator: ":") {
            // number:controllers:path; the second version has the number 0 and no controllers.
            guard let path = line.last, path.hasPrefix("/") else { continue }
            let controllers = line.count > 2 ? line[1].split(separator: ",") : []
            if controllers.isEmpty {
                for folder in Self.folders(from: root, to: path) { addUnified(folder) }
            }
            if controllers.contains("memory") {
                for folder in Self.folders(from: "\(root)/memory", to: path) { addMemory(folder) }
            }
            if controllers.contains("cpu") {
                for folder in Self.folders(from: "\(root)/\(line[1])", to: path) { addProcessors(folder) }
            }
        }
    }

    /// The folder of a group and of each that it lies in, from the outermost.
    private static func folders(from root: String, to path: Substring) -> [String] {
        path.split(separator: "/").reduce(into: [root]) { $0.append("\($0.last!)/\($1)") }
    }

    private mutating func addUnified(_ folder: String) {
        // "200000 100000": microseconds in each such period; or "max 100000".
        if let words = systemFile("\(folder)/cpu.max").first, words.count == 2 {
            limit(quota: Int(words[0]), period: Int(words[1]))
        }
        let used = Self.number("\(folder)/memory.current"), most = Self.number("\(folder)/memory.max")
        if let used, let most { limit(memory: most, used: used, statistics: "\(folder)/memory.stat") }
    }

    private mutating func addMemory(_ folder: String) {
        let used = Self.number("\(folder)/memory.usage_in_bytes"), most = Self.number("\(folder)/memory.limit_in_bytes")
        // Without a limit it is a number beyond every memory.
        if let used, let most, most < 1 << 60 { limit(memory: most, used: used, statistics: "\(folder)/memory.stat") }
    }

    private mutating func addProcessors(_ folder: String) {
        limit(
            quota: Self.number("\(folder)/cpu.cfs_quota_us"), period: Self.number("\(folder)/cpu.cfs_period_us"))
    }

    private mutating func limit(quota: Int?, period: Int?) {
        guard let quota, let period, quota > 0, period > 0 else { return }
        processors = min(processors ?? .infinity, Double(quota) / Double(period))
    }

    private mutating func limit(memory most: Int, used: Int, statistics: String) {
        let inactive = systemFile(statistics).first { $0.first == "inactive_file" }?.last.flatMap { Int($0) } ?? 0
        freeMemory = min(freeMemory ?? .max, max(0, most - max(0, used - inactive)))
    }

    private static func number(_ path: String) -> Int? { systemFile(path).first?.first.flatMap { Int($0) } }
}

/// The words of each line of a file that the system makes; none where there is no such file.
func systemFile(_ path: String, separator: Character = " ") -> [[Substring]] {
    let text = (try? readText(path)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    return text.split(separator: "\n").map {
        $0.split(separator: separator, omittingEmptySubsequences: separator == " ")
    }
}
