import CSignals
import Glibc

/// A folder for results: made, with those that it is in, if it is not there, and removed again if nothing was put into it
/// when the object is thrown away or a signal ends the process.
public final class OutputFolder {
    public let path: String
    /// The folders that were made, outermost first, and where they are remembered.
    private var made: [(path: String, slot: Int32)] = []

    /// Throws `CheckpointError.cannotWrite` if there is no such folder and none can be made.
    public init(_ path: String) throws(CheckpointError) {
        self.path = path
        for folder in Self.missing(path) {
            guard mkdir(folder, 0o777) == 0 else {
                let error = errno
                // Somebody else may have been faster.
                if error == EEXIST, Self.isFolder(folder) { continue }
                let reason = String(cString: strerror(error))
                remove()
                throw .cannotWrite(
                    path: path, reason: folder == path ? reason : "the folder \(folder) cannot be made: \(reason)")
            }
            made.append((folder, csignals_remember(folder)))
        }
        guard Self.isFolder(path) else {
            let reason = errno == 0 ? "there is a file of this name" : String(cString: strerror(errno))
            remove()
            throw .cannotWrite(path: path, reason: reason)
        }
    }

    deinit { remove() }

    /// From now on the folder stays, empty or not, if a signal comes.
    public func keep() {
        for index in made.indices {
            csignals_forget(made[index].slot)
            made[index].slot = -1
        }
    }

    /// Removes those that were made and are empty.
    private func remove() {
        keep()
        for folder in made.reversed() { rmdir(folder.path) }
        made = []
    }

    /// The folders of a path that are not there, outermost first.
    private static func missing(_ path: String) -> [String] {
        var missing: [String] = []
        var current = Substring(path)
        var status = stat()
        while !current.isEmpty, stat(String(current), &status) != 0, errno == ENOENT {
            missing.insert(String(current), at: 0)
            while current.last == "/" { current.removeLast() }
            current = current.lastIndex(of: "/").map { current[...$0] } ?? ""
            while current.count > 1, current.last == "/" { current.removeLast() }
        }
        return missing
    }

    /// Sets `errno`, to 0 for what is there and is no folder.
    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        guard stat(path, &status) == 0 else { return false }
        errno = 0
        return status.st_mode & S_IFMT == S_IFDIR
    }
}
