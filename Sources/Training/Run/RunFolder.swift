import Checkpoints
import Files
import Glibc

/// The folder of a training run: checkpoints named by their step, `step-00001000.h5`, and the metrics files.
public struct RunFolder {
    public let path: String
    /// Takes the folder away again if nothing was put into it.
    private let output: OutputFolder?

    /// The tables that a run writes into its folder.
    public static let tableNames = MetricsLog.fileNames + [RankHistory.fileName]

    /// Makes the folder of a new run, or takes one that is there and holds none.
    ///
    /// Throws `CheckpointError.cannotWrite` if it holds a run already – one that another process is at, or one that has
    /// ended –, or if there is no such folder and none can be made.
    /// A new folder in which nothing is written goes with the last copy of this value.
    public init(creating path: String) throws(CheckpointError) {
        let output = try OutputFolder(path)
        // Whatever it has saved so far, a run that is alive is not to be advised about.
        try FolderClaim.requireNone(on: path)
        let names = try Self.names(in: path)
        guard !names.contains(where: { Self.step(of: $0) != nil }) else {
            throw .cannotWrite(path: path, reason: "it holds a run already; resume that one, or choose another name")
        }
        guard !names.contains(where: Self.tableNames.contains) else {
            throw .cannotWrite(
                path: path,
                reason: "it holds the metrics of a run that left no checkpoint; remove it, or choose another name")
        }
        self.path = path
        self.output = output
    }

    /// The folder of a run that is to be resumed. Throws `CheckpointError.missing`, or `unreadable` for what is no folder.
    public init(existing path: String) throws(CheckpointError) {
        _ = try Self.names(in: path)
        self.path = path
        output = nil
    }

    /// Throws `CheckpointError.cannotWrite` while a process trains in the folder.
    public func requireNobodyTrains() throws(CheckpointError) { try FolderClaim.requireNone(on: path) }

    /// Where the checkpoint of a step is, or is to be.
    public func checkpointPath(step: Int) -> String { "\(path)/\(Self.name(step: step))" }

    /// All checkpoints in the order of their steps. Other names than those of `checkpointPath` are not looked at.
    public func checkpoints() throws(CheckpointError) -> [(step: Int, path: String)] {
        try Self.names(in: path).compactMap(Self.step(of:)).sorted().map { ($0, checkpointPath(step: $0)) }
    }

    /// The checkpoint of the latest step. Throws `CheckpointError.unreadable` if there is none.
    public func newestCheckpoint() throws(CheckpointError) -> String {
        guard let newest = try checkpoints().last else {
            throw .unreadable(path: path, reason: "holds no checkpoint (\(Self.name(step: 1000)) or the like)")
        }
        return newest.path
    }

    /// Removes all checkpoints but the newest `count`, and says which. To be called after a new one was written.
    ///
    /// Only those count that open and carry training state; as long as there are fewer of them, nothing is removed.
    /// Throws `CheckpointError.cannotWrite` if one cannot be removed.
    @discardableResult
    public func removeCheckpoints(keeping count: Int) throws(CheckpointError) -> [String] {
        precondition(count > 0, "a run keeps one checkpoint at least")
        var complete = 0
        var removed: [String] = []
        for checkpoint in try checkpoints().reversed() {
            guard complete == count else {
                if Self.isComplete(checkpoint.path) { complete += 1 }
                if complete == count { try synchronize() }
                continue
            }
            guard unlink(checkpoint.path) == 0 || errno == ENOENT else {
                throw .cannotWrite(path: checkpoint.path, reason: "it cannot be removed: \(systemReason())")
            }
            removed.append(checkpoint.path)
        }
        return removed
    }

    private static func isComplete(_ path: String) -> Bool {
        do { return try HDF5Checkpoint.carriesTraining(path: path) } catch { return false }
    }

    /// A new name is on the disk before an old one goes.
    private func synchronize() throws(CheckpointError) {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .cannotWrite(path: path, reason: systemReason()) }
        defer { close(descriptor) }
        // Some file systems do not know this of folders.
        guard fsync(descriptor) == 0 || errno == EINVAL else {
            throw .cannotWrite(path: path, reason: systemReason())
        }
    }

    /// Removes what processes that were killed left half-written. Only for the one that holds the claim.
    func removeLeftovers() throws(CheckpointError) {
        for name in try Self.names(in: path)
        where name.hasSuffix(".partial") && [".step-", ".metrics.", ".rank-history."].contains(where: name.hasPrefix) {
            unlink("\(path)/\(name)")
        }
    }

    // MARK: - Names

    /// Zeros in front make the order of the names that of the steps, for a hundred million steps.
    private static func name(step: Int) -> String {
        precondition(step >= 0, "step \(step)")
        let digits = String(step)
        return "step-" + String(repeating: "0", count: max(0, 8 - digits.utf8.count)) + digits + ".h5"
    }

    /// The step of a checkpoint's name, which is exactly as `name(step:)` has it.
    private static func step(of fileName: String) -> Int? {
        guard fileName.hasPrefix("step-"), fileName.hasSuffix(".h5"),
            let step = Int(fileName.dropFirst("step-".count).dropLast(".h5".count)), step >= 0,
            name(step: step) == fileName
        else { return nil }
        return step
    }

    private static func names(in path: String) throws(CheckpointError) -> [String] {
        guard let folder = opendir(path) else {
            throw errno == ENOENT ? .missing(path: path) : .unreadable(path: path, reason: systemReason())
        }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let capacity = MemoryLayout.size(ofValue: entry.pointee.d_name)
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: capacity) { String(cString: $0) }
            }
            names.append(name)
        }
        return names
    }
}

/// The right to write into a run's folder, which one process has at a time. It ends with the object or the process.
final class FolderClaim {
    private let descriptor: Int32

    /// Throws `CheckpointError.cannotWrite` while another one is held.
    convenience init(_ folder: RunFolder) throws(CheckpointError) {
        // Who only looks whether there is one holds it for a moment.
        try self.init(path: folder.path, attempts: 10)
    }

    /// Throws `CheckpointError.cannotWrite` while somebody has this right.
    static func requireNone(on path: String) throws(CheckpointError) { _ = try FolderClaim(path: path, attempts: 1) }

    private init(path: String, attempts: Int) throws(CheckpointError) {
        descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .cannotWrite(path: path, reason: systemReason()) }
        var isTaken = true
        for attempt in 0..<attempts where isTaken {
            if attempt > 0 { usleep(10_000) }
            // Some network file systems know no locks; there is nothing to hold there.
            isTaken = flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK
        }
        guard !isTaken else {
            close(descriptor)
            throw .cannotWrite(path: path, reason: "another process is training in this folder")
        }
    }

    deinit {
        // By itself, closing leaves the lock to a child that another thread is about to start: until it is another
        // program, it has this descriptor, too.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }
}

/// The operating system's words for what just failed.
func systemReason() -> String { String(cString: strerror(errno)) }
