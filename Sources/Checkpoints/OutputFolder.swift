import CSignals
import Glibc

/// A folder for results: made if it is not there – its parent must be –, and removed again if nothing was put into it
/// when the object is thrown away or a signal ends the process.
public final class OutputFolder {
    public let path: String
    private var slot: Int32 = -1
    private var isNew = false

    /// Throws `CheckpointError.cannotWrite` if there is no such folder and none can be made.
    public init(_ path: String) throws(CheckpointError) {
        self.path = path
        if mkdir(path, 0o777) == 0 {
            isNew = true
            slot = csignals_remember(path)
            return
        }
        let reason = errno
        var status = stat()
        guard reason == EEXIST, stat(path, &status) == 0 else {
            throw .cannotWrite(path: path, reason: String(cString: strerror(reason)))
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw .cannotWrite(path: path, reason: "there is a file of this name")
        }
    }

    deinit {
        keep()
        if isNew { rmdir(path) }
    }

    /// From now on the folder stays, empty or not, if a signal comes.
    public func keep() {
        csignals_forget(slot)
        slot = -1
    }
}
