import Files
import Glibc

/// Token ids of a `.u16`, `.u32` or `.npy` file, left where they lie: opening it reads the header only, and memory is
/// that of the pages the system keeps. Readable from several threads at once.
///
/// The numbers are not looked at before they are asked for: what `TokenFile.read` refuses – a negative number, or one
/// beyond 2³² − 1 – is found by `firstIndex(in:above:)`. If the file is cut short while it is in use, see `MappedFile`.
// Unchecked: all is constant, and the mapping is only read.
public final class MappedTokens: @unchecked Sendable {
    /// Ids in the file.
    public let count: Int
    /// The columns of a two-dimensional array, of which each row is a sequence; `nil`: one running text.
    public let rowLength: Int?
    /// Held, because the numbers go with it.
    private let file: MappedFile
    private let numbers: UnsafeRawBufferPointer
    private let element: StoredInteger

    /// The path given.
    public var path: String { file.path }

    /// Maps a token file, or returns `nil` if its format has no place where the ids of a text lie one after the other: an
    /// HDF5 dataset, a two-dimensional array in column order. `TokenFile.read` reads these as a whole.
    ///
    /// - Throws: `CheckpointError` as `TokenFile.read` does, except for numbers that are no ids.
    public init?(_ specification: String) throws(CheckpointError) {
        let (path, format) = try TokenFile.resolve(specification)
        switch format {
        case .hdf5: return nil
        case .raw(let bytes):
            file = try TokenFile.mappedRaw(path, bytes: bytes)
            element = StoredInteger(size: bytes)
            count = file.bytes.count / bytes
            rowLength = nil
            numbers = file.bytes
        case .numpy:
            file = try TokenFile.mapped(path)
            let layout = try NumpyTokens.Layout(of: file)
            if layout.isTransposed { return nil }
            element = layout.element
            count = layout.count
            guard count > 0 else { throw TokenFile.holdsNothing(path) }
            rowLength = layout.rowLength
            numbers = UnsafeRawBufferPointer(rebasing: file.bytes[layout.offset...])
        }
    }

    /// Copies the ids at some positions. A number that is no id loses its sign and the bits beyond 32.
    ///
    /// - Precondition: the positions are in `0..<count`, and `destination` has as many elements.
    public func copy(_ positions: Range<Int>, into destination: UnsafeMutableBufferPointer<UInt32>) {
        requireInside(positions)
        precondition(
            destination.count == positions.count, "\(positions.count) ids into a buffer of \(destination.count)")
        guard let out = destination.baseAddress else { return }
        switch element.size {
        case 1: convert(stretch(positions, UInt8.self), into: out)
        case 2: convert(stretch(positions, UInt16.self), into: out)
        case 4: convert(stretch(positions, UInt32.self), into: out)
        default: convert(stretch(positions, UInt64.self), into: out)
        }
    }

    /// The first of some positions whose number is negative or larger than `largest`; `nil` if there is none. Nothing is
    /// read if the file's type holds no such number.
    public func firstIndex(in positions: Range<Int>, above largest: UInt32) -> Int? {
        requireInside(positions)
        let place =
            switch element.size {
            case 1: first(stretch(positions, UInt8.self), above: largest)
            case 2: first(stretch(positions, UInt16.self), above: largest)
            case 4: first(stretch(positions, UInt32.self), above: largest)
            default: first(stretch(positions, UInt64.self), above: largest)
            }
        return place.map { positions.lowerBound + $0 }
    }

    /// Those of some positions that hold an id, in ascending order.
    public func indices(in positions: Range<Int>, of id: UInt32) -> [Int] {
        requireInside(positions)
        let places =
            switch element.size {
            case 1: occurrences(stretch(positions, UInt8.self), of: id)
            case 2: occurrences(stretch(positions, UInt16.self), of: id)
            case 4: occurrences(stretch(positions, UInt32.self), of: id)
            default: occurrences(stretch(positions, UInt64.self), of: id)
            }
        return places.map { positions.lowerBound + $0 }
    }

    /// The number at a position as the file has it, sign included, for people.
    public func number(at position: Int) -> String {
        requireInside(position..<position + 1)
        return NumpyTokens.number(numbers, position, element)
    }

    /// Gives the memory back that holds these positions. Who reads them again has them read from the file again: worth it
    /// after a pass over a file that is larger than memory should be.
    public func release(_ positions: Range<Int>) {
        requireInside(positions)
        guard let start = numbers.baseAddress else { return }
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let first = (Int(bitPattern: start + positions.lowerBound * element.size) + page - 1) / page * page
        let end = Int(bitPattern: start + positions.upperBound * element.size) / page * page
        guard first < end else { return }
        // It is only advice: a failure changes nothing but the memory in use.
        _ = madvise(UnsafeMutableRawPointer(bitPattern: first), end - first, MADV_DONTNEED)
    }

    private func requireInside(_ positions: Range<Int>) {
        precondition(
            positions.lowerBound >= 0 && positions.upperBound <= count, "ids \(positions) of \(count) in \(path)")
    }

    // MARK: - One stored type

    private func stretch<Stored>(_ positions: Range<Int>, _: Stored.Type) -> Stretch<Stored> {
        Stretch(
            start: numbers.baseAddress.map { $0 + positions.lowerBound * MemoryLayout<Stored>.size },
            count: positions.count, isBigEndian: element.isBigEndian)
    }

    private func convert<Stored: StoredID>(_ stretch: Stretch<Stored>, into out: UnsafeMutablePointer<UInt32>) {
        for index in 0..<stretch.count { out[index] = UInt32(truncatingIfNeeded: stretch[index]) }
    }

    private func first<Stored: StoredID>(_ stretch: Stretch<Stored>, above largest: UInt32) -> Int? {
        // Unsigned, negative numbers are larger than all others.
        let bound = min(Stored(clamping: largest), element.isSigned ? .max >> 1 : .max)
        guard bound < .max else { return nil }
        // The largest of a block is found without a branch for every number.
        let block = 4096
        for start in Swift.stride(from: 0, to: stretch.count, by: block) {
            let end = min(start + block, stretch.count)
            var seen: Stored = 0
            for index in start..<end { seen = max(seen, stretch[index]) }
            if seen > bound { return (start..<end).first { stretch[$0] > bound } }
        }
        return nil
    }

    private func occurrences<Stored: StoredID>(_ stretch: Stretch<Stored>, of id: UInt32) -> [Int] {
        guard let wanted = Stored(exactly: id) else { return [] }
        var result: [Int] = []
        for index in 0..<stretch.count where stretch[index] == wanted { result.append(index) }
        return result
    }
}

private typealias StoredID = FixedWidthInteger & UnsignedInteger & BitwiseCopyable

/// Numbers of one type in a row, of any alignment; the sign bit counts as a bit like the others.
private struct Stretch<Stored: StoredID> {
    let start: UnsafeRawPointer?
    let count: Int
    let isBigEndian: Bool

    @inline(__always) subscript(index: Int) -> Stored {
        // A stretch of a file that is not empty has a start.
        let stored = start.unsafelyUnwrapped.loadUnaligned(
            fromByteOffset: index &* MemoryLayout<Stored>.size, as: Stored.self)
        return isBigEndian ? Stored(bigEndian: stored) : Stored(littleEndian: stored)
    }
}
