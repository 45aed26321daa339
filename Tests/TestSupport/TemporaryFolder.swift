import Foundation
import Glibc

/// A folder that vanishes with the object, with everything in it.
package final class TemporaryFolder {
    package let path: String

    package init() throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("cola-test-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    package func file(_ name: String) -> String { "\(path)/\(name)" }

    package func makeFolder(_ name: String) throws {
        try FileManager.default.createDirectory(atPath: file(name), withIntermediateDirectories: false)
    }

    /// Writes a file; its path.
    @discardableResult
    package func write(_ bytes: some Sequence<UInt8>, _ name: String) throws -> String {
        try Data(Array(bytes)).write(to: URL(fileURLWithPath: file(name)))
        return file(name)
    }

    @discardableResult
    package func write(_ text: String, _ name: String) throws -> String { try write(text.utf8, name) }

    package func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(fileURLWithPath: file(name))))
    }

    package func text(_ name: String) throws -> String { String(decoding: try bytes(name), as: UTF8.self) }

    /// Every file and folder below, hidden ones as well, in order.
    package var contents: [String] {
        (FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []).sorted()
    }
}

/// A file system of a given size on a folder of a temporary folder, if this process may mount one. It is there as long as
/// the object.
package final class SmallDisk {
    private let folder: TemporaryFolder
    package let path: String

    /// On the folder of that name, which is made if need be; "." is the temporary folder itself.
    package init?(_ name: String, in folder: TemporaryFolder, kibibytes: Int, isReadOnly: Bool = false) {
        self.folder = folder
        path = folder.file(name)
        mkdir(path, 0o755)
        let flags = isReadOnly ? UInt(MS_RDONLY) : 0
        // The size 0 would be no limit.
        guard mount("tmpfs", path, "tmpfs", flags, "size=\(max(4, kibibytes))k") == 0 else { return nil }
    }

    deinit { umount2(path, Int32(MNT_DETACH)) }

    private var status: statvfs? {
        var status = statvfs()
        return statvfs(path, &status) == 0 ? status : nil
    }

    package var freeBytes: Int { status.map { Int($0.f_bavail) * Int($0.f_bsize) } ?? 0 }

    package var isEmpty: Bool { status.map { $0.f_blocks == $0.f_bavail } ?? false }

    package static let canMount = (try? TemporaryFolder()).map { SmallDisk(".", in: $0, kibibytes: 64) != nil } ?? false
}
