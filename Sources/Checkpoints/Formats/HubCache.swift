import Files
import Glibc

/// The layout of a hub's cache: `models--org--name` with `refs/main`, `blobs` and `snapshots/<revision>`, whose files are
/// links to blobs.
public enum HubCache {
    /// The folder of the one snapshot that a folder of the cache stands for; any other path as it is.
    ///
    /// Throws `CheckpointError.unreadable` naming the snapshots if there are several and none is the main revision.
    public static func snapshot(of path: String) throws(CheckpointError) -> String {
        let isSnapshots = path.split(separator: "/").last == "snapshots"
        let snapshots = isSnapshots ? path : "\(path)/snapshots"
        guard !MappedFile.exists("\(path)/config.json"), !MappedFile.exists("\(path)/model.safetensors") else {
            return path
        }
        let found = folders(in: snapshots)
        guard !found.isEmpty else { return path }
        if found.count == 1 { return "\(snapshots)/\(found[0])" }
        if let revision = try? MappedFile.contents("\(snapshots)/../refs/main") {
            let name = String(decoding: revision.filter { $0 > 0x20 }, as: UTF8.self)
            if found.contains(name) { return "\(snapshots)/\(name)" }
        }
        throw .unreadable(
            path: path,
            reason:
                "a hub's cache of \(found.count) snapshots, \(found.prefix(5).joined(separator: ", ")), of which none is "
                + "the main revision; give one of the folders in \(snapshots)")
    }

    /// Names of the folders in a folder, sorted; none if it cannot be read.
    static func folders(in path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            var status = stat()
            if !name.hasPrefix("."), stat("\(path)/\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
                names.append(name)
            }
        }
        return names.sorted()
    }
}
