import Checkpoints
import Files
import Foundation
import Glibc
import TestSupport
import Testing

@Suite("Outputs and what is in their place")
struct OutputPlaceTests {
    let place: TemporaryFolder

    init() throws { place = try TemporaryFolder() }

    private func type(of name: String) -> mode_t {
        var status = stat()
        return lstat(place.file(name), &status) == 0 ? status.st_mode & S_IFMT : 0
    }

    private func link(_ name: String, to destination: String) throws {
        try FileManager.default.createSymbolicLink(atPath: place.file(name), withDestinationPath: destination)
    }

    private func reason(_ name: String, needsFile: Bool = false) -> String? {
        guard
            case .cannotWrite(let path, let reason)? = checkpointError({
                try AtomicFile.write("new", to: place.file(name), needsFile: needsFile)
            })
        else { return nil }
        #expect(path == place.file(name))
        return reason
    }

    @Test("Folders that are not there are made, and go again with a file that was not completed")
    func folders() throws {
        let file = try AtomicFile(place.file("a/b/c.txt"))
        try file.write("text")
        #expect(place.contents.filter { !$0.hasSuffix(".partial") } == ["a", "a/b"])
        file.discard()
        #expect(place.contents == [])
        try AtomicFile.write("text", to: place.file("a/b//c.txt"))
        #expect(try place.text("a/b/c.txt") == "text")
        do {
            let folder = try OutputFolder(place.file("x/y/"))
            #expect(type(of: "x/y") == S_IFDIR)
            withExtendedLifetime(folder) {}
        }
        #expect(place.contents == ["a", "a/b", "a/b/c.txt"])
        #expect(reason("a/b/c.txt/d") == "Not a directory")
        #expect(reason("a") == "it is a folder")
        #expect(reason("new/") == "not the name of a file")
    }

    @Test("Behind a link the file is replaced, and the link stays; a link that leads nowhere gets its file")
    func links() throws {
        try place.makeFolder("far")
        try place.write("old", "far/file.txt")
        try link("near.txt", to: "far/file.txt")
        try link("second.txt", to: place.file("near.txt"))
        try link("nowhere.txt", to: "far/none.txt")
        try link("circle.txt", to: "circle.txt")
        for name in ["near.txt", "second.txt", "nowhere.txt"] {
            try AtomicFile.write(name, to: place.file(name))
            #expect(type(of: name) == S_IFLNK)
        }
        #expect(try place.text("far/file.txt") == "second.txt")
        #expect(try place.text("far/none.txt") == "nowhere.txt")
        #expect(reason("circle.txt") == "symbolic links that lead in a circle")
        #expect(place.contents.allSatisfy { !$0.hasSuffix(".partial") })
    }

    @Test("A pipe stays a pipe: what was written comes through, and what needs a file is refused")
    func pipes() throws {
        try #require(mkfifo(place.file("pipe"), 0o600) == 0)
        let reader = open(place.file("pipe"), O_RDONLY | O_NONBLOCK)
        defer { close(reader) }
        try AtomicFile.write("through the pipe", to: place.file("pipe"))
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = read(reader, &bytes, bytes.count)
        #expect(String(decoding: bytes.prefix(max(0, count)), as: UTF8.self) == "through the pipe")
        #expect(reason("pipe", needsFile: true)?.hasPrefix("it is a pipe or a device") == true)
        let writer = checkpointError {
            _ = try CheckpointWriter(path: place.file("pipe"), configuration: "{}", provenance: "{}", tokenizer: nil)
        }
        #expect(writer?.description.contains("it is a pipe or a device") == true)
        #expect(type(of: "pipe") == S_IFIFO && place.contents == ["pipe"])
    }

    @Test("A file that is not completed leaves a pipe that nobody reads alone")
    func untouchedPipe() throws {
        try #require(mkfifo(place.file("pipe"), 0o600) == 0)
        // Opening it would wait for a reader.
        try AtomicFile(place.file("pipe")).discard()
        #expect(type(of: "pipe") == S_IFIFO)
    }

    @Test("A device stays a device, and a socket what it is")
    func devices() throws {
        // A node of the test's own, never the machine's; making one needs rights.
        if mknod(place.file("null"), S_IFCHR | 0o666, dev_t(1 << 8 | 3)) == 0 {
            // Where the file system allows no devices, writing into it is an error of its own.
            _ = checkpointError { try AtomicFile.write("gone", to: place.file("null")) }
            #expect(type(of: "null") == S_IFCHR)
            #expect(reason("null", needsFile: true) != nil)
        }
        if mknod(place.file("disk"), S_IFBLK | 0o600, dev_t(7 << 8 | 99)) == 0 {
            #expect(reason("disk") == "it is a disk, not a file")
            #expect(type(of: "disk") == S_IFBLK)
        }
        try #require(mknod(place.file("socket"), S_IFSOCK | 0o600, 0) == 0)
        #expect(reason("socket") == "it is a socket, not a file")
        #expect(type(of: "socket") == S_IFSOCK)
    }

    @Test("An open file of this process takes what is written where it stands")
    func descriptors() throws {
        try place.write("first ", "file")
        let descriptor = open(place.file("file"), O_WRONLY | O_APPEND)
        defer { close(descriptor) }
        for path in ["/dev/fd/\(descriptor)", "/proc/self/fd/\(descriptor)"] {
            #expect(try OutputPlace(path) == .descriptor(descriptor))
            try AtomicFile.write("then", to: path)
        }
        try link("stdout", to: "/proc/self/fd/\(descriptor)")
        try AtomicFile.write("!", to: place.file("stdout"))
        #expect(try place.text("file") == "first thenthen!" && type(of: "stdout") == S_IFLNK)
    }

    @Test("Numbers in a table are the shortest text, and none where they are not finite")
    func fields() {
        #expect([0.1, -2, 1e300].map(csvField) == ["0.1", "-2.0", "1e+300"])
        #expect([Double.nan, -.nan, .infinity, -.infinity, nil].map(csvField) == ["", "", "", "", ""])
    }
}
