import Checkpoints
import TestSupport
import Testing

@Suite("HDF5: integer datasets")
struct HDF5IntegerTests {
    @Test(
        "All widths, signs and byte orders",
        arguments: [
            ("i1", Int64(Int8.min), Int64(Int8.max)), ("u1", 0, 255), ("<i2", -32768, 32767), (">u2", 0, 65535),
            ("<i4", Int64(Int32.min), Int64(Int32.max)), ("<u4", 0, Int64(UInt32.max)), (">i8", .min, .max),
            ("<u8", 0, .max),
        ])
    func kinds(kind: String, least: Int64, greatest: Int64) throws {
        let (shape, values) = try HDF5Dataset.readIntegers(path: hdf5Fixture("integers"), dataset: "kinds/" + kind)
        #expect(shape == [2, 3])
        #expect(values == [least, 0, 1, 2, 100, greatest])
    }

    @Test("One dimension")
    func line() throws {
        let (shape, values) = try HDF5Dataset.readIntegers(path: hdf5Fixture("integers"), dataset: "/line")
        #expect(shape == [10])
        #expect(values == Array(0..<10))
    }

    @Test(
        "What is no row of integers is refused by name",
        arguments: [
            ("floats", "found f64, expected integers"), ("cube", "found 3 dimensions"), ("one", "found 0 dimensions"),
            ("huge", "found 9223372036854775808 at 1"), ("gone", "/kinds/<i2"), ("kinds", "/line"), ("", "/line"),
            ("line/deeper", "no such dataset"),
        ])
    func refused(dataset: String, words: String) throws {
        let error = try #require(
            checkpointError { _ = try HDF5Dataset.readIntegers(path: hdf5Fixture("integers"), dataset: dataset) })
        #expect(error.description.contains(words), "\(error)")
        #expect(error.description.contains("integers.h5: /\(dataset): "), "\(error)")
    }

    @Test("Written values come back, also from a group")
    func roundTrip() throws {
        let folder = try TemporaryFolder()
        let values = (0..<600_006).map { UInt32(truncatingIfNeeded: $0 &* 2_654_435_761) }
        let path = folder.file("t.h5")
        for (dataset, shape) in [("tokens", [600_006]), ("/corpus/train/ids", [3, 200_002]), ("none", [0])] {
            let count = shape.reduce(1, *)
            try HDF5Dataset.writeIntegers(
                path: path, dataset: dataset, shape: shape, values: Array(values.prefix(count)))
            let read = try HDF5Dataset.readIntegers(path: path, dataset: dataset)
            #expect(read.shape == shape)
            #expect(read.values == values.prefix(count).map(Int64.init))
            #expect(folder.contents == ["t.h5"])
        }
    }

    @Test("A folder that cannot be made, and a missing file")
    func failures() throws {
        let folder = try TemporaryFolder()
        try folder.write("", "no")
        guard
            case .cannotWrite = checkpointError({
                try HDF5Dataset.writeIntegers(path: folder.file("no/t.h5"), dataset: "t", shape: [1], values: [1])
            })
        else {
            Issue.record("a file was written into no folder")
            return
        }
        let path = folder.file("none.h5")
        #expect(checkpointError { _ = try HDF5Dataset.readIntegers(path: path, dataset: "t") } == .missing(path: path))
    }
}
