import CHDF5
import Files
import Glibc
import Tensors

/// What opening a checkpoint finds out: where the tensors are, how they are stored, and the texts that go with them.
struct HDF5Directory {
    struct Entry {
        let info: TensorInfo
        let location: [String]
        let type: HDF5StoredType
    }

    let file: HDF5Group
    let formatName: String
    let configuration: String?
    let provenance: String?
    let entries: [Entry]

    private struct Found {
        let path: [String]
        let type: HDF5StoredType
        let shape: [Int]
        let storedBytes: Int
        var obstacle: String?

        var isLink: Bool { if case .elsewhere = type { true } else { false } }
    }

    init(path: String, configurationPath: String?) throws(CheckpointError) {
        let file = try HDF5Group.openFile(path)
        self = try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: $0) }) {
            try Self(file, path: path, configurationPath: configurationPath)
        }
    }

    private init(_ file: HDF5Group, path: String, configurationPath: String?) throws {
        self.file = file
        let isOwn = try file.handle.attributeTextIfText("format") == HDF5Names.format
        if isOwn { try Self.checkVersion(of: file, path: path) }
        var walk = Walk()
        try walk.collect(file, below: isOwn ? ["model"] : [])
        let layout = try Self.layout(of: walk.found, isOwn: isOwn, path: path)
        formatName = isOwn ? "cola checkpoint (HDF5)" : "HDF5, tensors in /" + layout.base.joined(separator: "/")
        configuration = try Self.configuration(of: file, base: layout.base, path: path, override: configurationPath)
        provenance = try file.handle.attributeTextIfText("provenance")
        entries = try Self.entries(of: layout, walk.found, path: path)
    }

    private static func checkVersion(of file: HDF5Group, path: String) throws {
        let version = try file.handle.attributeInteger("format_version")
        guard version == HDF5Names.version else {
            throw CheckpointError.invalid(
                path: path, place: "attribute format_version", found: version.map { "\($0)" } ?? "nothing",
                expected: "\(HDF5Names.version); a newer file needs a newer version of this tool")
        }
    }

    /// Finds all datasets of a file, and links that are not followed.
    private struct Walk {
        var found: [Found] = []
        private var ancestors: [[UInt8]] = []
        private static let greatestDepth = 32
        private static let greatestCount = 1 << 20

        mutating func collect(_ file: HDF5Group, below path: [String]) throws {
            do {
                guard let group = try file.openGroup(path) else { return }
                try visit(group, path: path)
            } catch let failure as HDF5Failure where !failure.reason.hasPrefix("/") {
                throw HDF5Failure(reason: "/\(path.joined(separator: "/")): \(failure.reason)")
            }
        }

        private mutating func append(_ dataset: Found) throws {
            guard found.count < Self.greatestCount else {
                throw HDF5Failure(reason: "more than \(Self.greatestCount) datasets")
            }
            found.append(dataset)
        }

        private mutating func visit(_ group: HDF5Group, path: [String]) throws {
            // Links may lead back up.
            var identity = [UInt8](repeating: 0, count: 16)
            try HDF5Library.check(chdf5_identity(group.id, &identity))
            guard !ancestors.contains(identity), path.count < Self.greatestDepth else { return }
            ancestors.append(identity)
            defer { ancestors.removeLast() }
            for name in try group.links() {
                let place = path + [name]
                do {
                    switch try group.target(of: [name]) {
                    case .nothing: continue
                    case .elsewhere(let reason):
                        try append(
                            Found(path: place, type: .elsewhere(reason), shape: [], storedBytes: 0, obstacle: reason))
                    case .object(let object) where H5Iget_type(object.id) == H5I_GROUP:
                        try visit(HDF5Group(handle: object), path: place)
                    case .object(let object) where H5Iget_type(object.id) == H5I_DATASET:
                        let (type, shape) = try object.describeDataset()
                        try append(
                            Found(
                                path: place, type: type, shape: shape,
                                storedBytes: Int(clamping: H5Dget_storage_size(object.id)),
                                obstacle: object.obstacle(shape: shape)))
                    case .object: break
                    }
                } catch let failure as HDF5Failure where !failure.reason.hasPrefix("/") {
                    throw HDF5Failure(reason: "/\(place.joined(separator: "/")): \(failure.reason)")
                }
            }
        }
    }

    /// Paths of all datasets in a file, without links that are not followed.
    static func datasets(of file: HDF5Group) throws -> [String] {
        var walk = Walk()
        try walk.collect(file, below: [])
        return walk.found.filter { !$0.isLink }.map { "/" + $0.path.joined(separator: "/") }
    }

    private static func layout(of found: [Found], isOwn: Bool, path: String) throws -> HDF5Layout {
        let candidates = found.map {
            HDF5Layout.Candidate(path: $0.path, isFloat: $0.type.isFloat, isLink: $0.isLink)
        }
        if isOwn { return HDF5Layout.of(base: ["model"], candidates) }
        let (layout, contenders) = HDF5Layout.find(candidates)
        if let layout { return layout }
        let present = found.prefix(8).map {
            "/" + $0.path.joined(separator: "/") + ($0.isLink ? " (\($0.obstacle ?? "a link"))" : "")
        }.joined(separator: ", ")
        let words =
            if !contenders.isEmpty {
                "weights in each of the groups \(contenders.joined(separator: ", "))"
            } else if found.isEmpty {
                "no datasets"
            } else {
                "no weights among the datasets \(present)\(found.count > 8 ? ", …" : "")"
            }
        throw CheckpointError.invalid(
            path: path, place: "layout", found: words,
            expected: "one model's tensors at the root or in one group, such as /model")
    }

    private static func entries(of layout: HDF5Layout, _ found: [Found], path: String) throws -> [Entry] {
        // A damaged group can have two links of one name; they come out as stored twice below.
        let byPath = Dictionary(found.map { ($0.path, $0) }) { first, _ in first }
        var entries: [Entry] = []
        var problems: [String] = []
        for place in layout.places {
            guard let dataset = byPath[place.path] else { continue }
            if let last = entries.last, last.info.name == place.name {
                let (one, other) = (last.location.joined(separator: "/"), place.path.joined(separator: "/"))
                problems.append("\(place.name): stored twice, as /\(one) and as /\(other)")
                continue
            }
            let info = TensorInfo(
                name: place.name, shape: dataset.shape, storedType: dataset.type.name, storedBytes: dataset.storedBytes,
                obstacle: dataset.obstacle)
            entries.append(Entry(info: info, location: place.path, type: dataset.type))
        }
        guard problems.isEmpty else { throw CheckpointError.tensors(path: path, problems: problems) }
        return entries
    }

    /// The text of config.json from the first place that has one.
    private static func configuration(
        of file: HDF5Group, base: [String], path: String, override: String?
    ) throws -> String? {
        if let override { return try readText(override, limit: 1 << 26) }
        let holders = base.isEmpty ? [[]] : [[], base]
        for holder in holders {
            guard let group = try file.openGroup(holder) else { continue }
            for name in ["config", "config.json"] {
                if let text = try group.handle.attributeText(name) { return text }
            }
        }
        for holder in holders {
            for name in ["config", "config.json"] {
                let place = "/" + (holder + [name]).joined(separator: "/")
                do {
                    guard let object = try file.open(holder + [name]), H5Iget_type(object.id) == H5I_DATASET else {
                        continue
                    }
                    guard let bytes = try object.textBytes(isAttribute: false),
                        let text = String(validating: bytes, as: UTF8.self)
                    else {
                        throw CheckpointError.invalid(
                            path: path, place: place, found: "no UTF-8 text", expected: "the text of config.json")
                    }
                    return text
                } catch let failure as HDF5Failure {
                    throw HDF5Failure(reason: "\(place): \(failure.reason)")
                }
            }
        }
        let beside = (path.lastIndex(of: "/").map { String(path[...$0]) } ?? "") + "config.json"
        return access(beside, F_OK) == 0 ? try readText(beside, limit: 1 << 26) : nil
    }

    /// A small text file.
    private static func readText(_ path: String, limit: Int) throws(CheckpointError) -> String {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT || errno == ENOTDIR { throw .missing(path: path) }
            throw .unreadable(path: path, reason: String(cString: strerror(errno)))
        }
        defer { Glibc.close(descriptor) }
        var bytes: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Glibc.read(descriptor, &block, block.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw .unreadable(path: path, reason: String(cString: strerror(errno))) }
            if count == 0 { break }
            bytes.append(contentsOf: block[..<count])
            guard bytes.count <= limit else {
                throw .unreadable(path: path, reason: "longer than \(limit) bytes, which no config.json is")
            }
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw .unreadable(path: path, reason: "not UTF-8 text")
        }
        return text
    }
}
