import Files

/// The files of a GGUF model that llama.cpp's gguf-split has divided: `NAME-00001-of-00003.gguf` and so on. The first one
/// has the metadata of the model, all have tensors.
struct GGUFParts {
    /// In their order.
    private(set) var files: [MappedFile]
    private(set) var readers: [GGUFReader]

    /// A file that is whole, or one part of several, the others of which are opened as well.
    ///
    /// - Throws: `CheckpointError.missing` naming the part that is not there; `.invalid` for parts that do not belong
    ///   together, or of which there are not all tensors.
    init(_ file: MappedFile) throws(CheckpointError) {
        let reader = try GGUFReader(file)
        files = [file]
        readers = [reader]
        guard let count = try reader.count("split.count"), count > 1 else { return }
        let number = try Self.number(reader, file.path, count: count)
        guard let name = PartName(file.path), name.number == number, name.count == count else {
            throw .invalid(
                path: file.path, place: "metadata split.no", found: "part \(number) of \(count)",
                expected:
                    "a file named NAME\(PartName.ending(number, of: count)), from which the other parts' names follow"
            )
        }
        for other in 1...count where other != number {
            let part = try MappedFile(name.path(of: other))
            let reader = try GGUFReader(part)
            let (found, total) = (try Self.number(reader, part.path, count: count), try reader.count("split.count"))
            guard found == other, total == count else {
                throw .invalid(
                    path: part.path, place: "metadata split.no",
                    found: "part \(found) of \(total.map { "\($0)" } ?? "nothing")",
                    expected: "part \(other) of \(count), as its name says")
            }
            files.insert(part, at: other < number ? other - 1 : files.count)
            readers.insert(reader, at: other < number ? other - 1 : readers.count)
        }
        let tensors = readers.reduce(0) { $0 + $1.tensors.count }
        if let expected = try readers[0].count("split.tensors.count"), expected != tensors {
            throw .invalid(
                path: files[0].path, place: "metadata split.tensors.count", found: "\(tensors) tensors in all parts",
                expected: "\(expected)")
        }
    }

    /// Which part a file is by its metadata, counted from 1.
    private static func number(_ reader: GGUFReader, _ path: String, count: Int) throws(CheckpointError) -> Int {
        guard let index = try reader.count("split.no"), index < count, count <= PartName.largest else {
            throw .invalid(
                path: path, place: "metadata split.no",
                found: try reader.count("split.no").map { "\($0)" } ?? "nothing",
                expected: "the number of a part, 0 to \(count - 1)")
        }
        return index + 1
    }

    /// All files of the model that a path is a part of, by its name, those that are there; nil for another name.
    static func paths(of path: String) -> [String]? {
        guard let name = PartName(path), name.count > 1 else { return nil }
        return (1...name.count).map(name.path).filter(MappedFile.exists)
    }
}

/// The name of a part: `STEM-00002-of-00003.gguf`.
private struct PartName {
    let stem: Substring
    let number: Int
    let count: Int

    static let largest = 99999

    static func ending(_ number: Int, of count: Int) -> String { "-\(five(number))-of-\(five(count)).gguf" }

    private static func five(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }

    init?(_ path: String) {
        let length = Self.ending(1, of: 1).count
        guard path.count > length, path.hasSuffix(".gguf") else { return nil }
        let end = path.suffix(length)
        guard let number = Int(end.dropFirst().prefix(5)), let count = Int(end.dropFirst(10).prefix(5)),
            (1...Self.largest).contains(count), (1...count).contains(number),
            end == Self.ending(number, of: count)[...]
        else { return nil }
        (stem, self.number, self.count) = (path.dropLast(length), number, count)
    }

    func path(of number: Int) -> String { stem + Self.ending(number, of: count) }
}
