import Files
import Glibc

/// Files of an earlier run that a new one does not renew: beside its results they would be taken for its own.
public enum Leftover {
    /// Removes such a file if its beginning shows that it is one of ours, and says so; warns of any other.
    public static func clear(_ path: String, startingWith beginning: String, console: Console) {
        guard access(path, F_OK) == 0 else { return }
        if isFile(path), begins(path, with: beginning), unlink(path) == 0 {
            console.note("removed \(path), which was of an earlier run")
        } else {
            warn([path], console: console)
        }
    }

    /// Names files that are there and were not written by this run.
    public static func warn(_ paths: [String], console: Console) {
        let present = paths.filter { access($0, F_OK) == 0 }
        guard !present.isEmpty else { return }
        console.warn(
            "\(present.joined(separator: ", ")): not of this run; what was there before stays beside its files")
    }

    /// Whether there is a regular file itself, no link to one.
    public static func isFile(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    private static func begins(_ path: String, with text: String) -> Bool {
        do throws(CheckpointError) {
            let file = try MappedFile(path)
            return file.bytes.starts(with: text.utf8)
        } catch { return false }
    }
}
