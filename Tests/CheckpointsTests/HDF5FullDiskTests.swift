import Checkpoints
import Glibc
import Tensors
import TestSupport
import Testing

@Suite("HDF5: a full disk", .serialized, .needsSmallDisk)
struct HDF5FullDiskTests {
    @Test("A disk that fills up is an error at whatever point, and gives all its space back")
    func fills() throws {
        var (failures, successes) = (0, 0)
        for size in [8, 40, 200, 1000, 2000, 2096, 2100, 2104, 2108, 2112, 2116, 2120, 2124, 2128, 2132, 2136, 2400] {
            let disk = try #require(SmallDisk(".", in: try TemporaryFolder(), kibibytes: size))
            for _ in 0..<2 {
                let path = disk.path + "/a.h5"
                let error = checkpointError {
                    let writer = try CheckpointWriter(
                        path: path, configuration: "{}", provenance: "{}", tokenizer: .tokenizerJSON([123, 125]))
                    for name in ["a", "b"] { try writer.write(name, Matrix(rows: 512, columns: 513)) }
                    try writer.finish()
                }
                switch error {
                case nil:
                    successes += 1
                    #expect(try HDF5Checkpoint(path: path).values("b").count == 512 * 513)
                    unlink(path)
                case .cannotWrite(path, let reason):
                    failures += 1
                    #expect(reason == "No space left on device", "\(size) KiB")
                default: Issue.record("\(size) KiB: \(String(describing: error))")
                }
                // A process that another test is just starting holds the file for a moment.
                for _ in 0..<200 where !disk.isEmpty { usleep(5000) }
                #expect(disk.isEmpty, "\(size) KiB")
            }
        }
        #expect(failures >= 10 && successes >= 2)
    }
}
