import Checkpoints
import Files
import Tensors

/// A checkpoint whose tensors have the names and the layouts of their family, seen under canonical names as everything else
/// expects them: renamed, fused ones in parts, transposed ones turned round.
///
/// As lazy as the source. Of a matrix that is stored transposed all is read, and the last one is kept.
final class FamilySource: TensorSource {
    let tensors: [TensorInfo]
    let contradictions: [Contradiction]
    /// The unusual beginnings that names have in the file.
    let beginnings: [FamilyNames.Beginning]
    var path: String { source.path }
    var formatName: String { source.formatName }
    var configuration: String? { source.configuration }
    var provenance: String? { source.provenance }
    var warnings: [String] { source.warnings }

    private let source: any TensorSource
    private let names: FamilyNames
    private let index: [String: Int]
    private let places: [Place]
    private let transposition = Transposition()

    /// Where a tensor is in the source.
    private struct Place {
        let stored: TensorInfo
        var isTransposed = false
        /// The first of the rows – of the columns, if the matrix is stored transposed –, for a part of a fused tensor.
        var first: Int?
    }

    /// The source itself if its names are canonical, its family has no others, or its configuration describes no model – then
    /// nobody knows how its tensors are divided.
    ///
    /// Throws `CheckpointError.tensors` for a file with names of both kinds or with two tensors that are the same one.
    static func resolving(_ source: any TensorSource) throws(CheckpointError) -> any TensorSource {
        guard let family = Family.named(source.modelType), !family.names.areCanonical,
            let description = ModelDescription.described(by: source),
            try family.names.areOwn(source.tensors.map(\.name), family: family.name, path: source.path)
        else { return source }
        return try FamilySource(source, family.names, description)
    }

    /// - Parameter description: says how many rows each part of a fused tensor has.
    init(
        _ source: any TensorSource, _ names: FamilyNames, _ description: ModelDescription
    ) throws(CheckpointError) {
        let outputs = Dictionary(uniqueKeysWithValues: description.linears.map { ($0.id.path, $0.outputs) })
        var (tensors, places): ([TensorInfo], [Place]) = ([], [])
        var index: [String: Int] = [:]
        var beginnings: [FamilyNames.Beginning] = []
        var (problems, contradictions): ([String], [Contradiction]) = ([], [])
        for contradiction in source.contradictions {
            for name in Self.canonical(contradiction.name, names) {
                contradictions.append(Contradiction(name: name, problem: contradiction.problem))
            }
        }
        for stored in source.tensors {
            let (name, beginning) = names.usual(stored.name)
            if let beginning, !beginnings.contains(beginning) { beginnings.append(beginning) }
            if names.ignored.contains(where: name.hasSuffix) { continue }
            for (info, place) in Self.parts(of: stored, name, names, outputs: outputs) {
                if let other = index.updateValue(tensors.count, forKey: info.name) {
                    problems.append("\(stored.name): also there as \(places[other].stored.name)")
                }
                if let obstacle = info.obstacle, stored.obstacle == nil {
                    contradictions.append(Contradiction(name: info.name, problem: obstacle))
                }
                tensors.append(info)
                places.append(place)
            }
        }
        guard problems.isEmpty else { throw .tensors(path: source.path, problems: problems) }
        (self.source, self.names, self.beginnings) = (source, names, beginnings)
        (self.tensors, self.places, self.index, self.contradictions) = (tensors, places, index, contradictions)
    }

    func info(_ name: String) -> TensorInfo? { index[name].map { tensors[$0] } }

    func tokenizer() throws -> TokenizerBlob? { try source.tokenizer() }

    func originalName(of name: String) -> String {
        guard let (path, kind) = FamilyNames.split(name), let module = names.module(canonical: path) else {
            return source.originalName(of: FamilyNames.stored(name, beginnings))
        }
        let own = source.originalName(of: FamilyNames.stored("\(module.own).\(kind)", beginnings))
        let part = module.canonical.count > 1 ? "#" + LinearLayer.shortName(of: String(path)) : ""
        return own + part + (module.isTransposed && kind == "weight" ? ", transposed" : "")
    }

    func read(_ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>) throws {
        guard let place = index[name].map({ places[$0] }), let info = info(name) else {
            throw CheckpointError.tensors(path: path, problems: ["\(name): missing"])
        }
        if let obstacle = info.obstacle, place.stored.obstacle == nil {
            throw CheckpointError.tensors(path: path, problems: [obstacle])
        }
        guard place.isTransposed else {
            var range = rows
            if let first = place.first {
                let rows = rows ?? 0..<info.shape[0]
                range = first + rows.lowerBound..<first + rows.upperBound
            }
            return try source.read(place.stored.name, rows: range, into: destination)
        }
        let stored = place.stored
        let matrix = try transposition.matrix(stored.name, rows: stored.shape[0], columns: stored.shape[1]) {
            try source.read(stored.name, rows: nil, into: $0)
        }
        matrix.copyRows(rows ?? 0..<info.shape[0], from: place.first ?? 0, to: destination)
    }

    // MARK: - Directory

    /// What a tensor of the source becomes. `name` is its name with the usual beginning.
    private static func parts(
        of stored: TensorInfo, _ name: String, _ names: FamilyNames, outputs: [String: Int]
    ) -> [(TensorInfo, Place)] {
        guard let (path, kind) = FamilyNames.split(name), let module = names.module(own: path) else {
            return [(stored.with(name: name), Place(stored: stored))]
        }
        let isTransposed = module.isTransposed && kind == "weight" && stored.shape.count == 2
        let shape = isTransposed ? stored.shape.reversed() : stored.shape
        guard module.canonical.count > 1 else {
            let info = stored.with(name: "\(module.canonical[0]).\(kind)", shape: shape)
            return [(info, Place(stored: stored, isTransposed: isTransposed))]
        }
        let sizes = module.canonical.compactMap { outputs[$0] }
        // Of a block that the model does not have.
        guard sizes.count == module.canonical.count else { return [(stored.with(name: name), Place(stored: stored))] }
        let total = sizes.reduce(0, +)
        var obstacle = stored.obstacle
        if obstacle == nil, shape.first != total {
            let expected = isTransposed ? [stored.shape[0], total] : [total] + shape.dropFirst()
            obstacle = "\(stored.name): found \(stored.shape), expected \(expected)"
        }
        // What a file says may be any number.
        func bytes(before row: Int) -> Int {
            total.dividingFullWidth(stored.storedBytes.multipliedFullWidth(by: row)).quotient
        }
        var first = 0
        return zip(module.canonical, sizes).map { canonical, size in
            defer { first += size }
            let info = TensorInfo(
                name: "\(canonical).\(kind)", shape: obstacle == nil ? [size] + shape.dropFirst() : [],
                storedType: stored.storedType, storedBytes: bytes(before: first + size) - bytes(before: first),
                obstacle: obstacle)
            return (info, Place(stored: stored, isTransposed: isTransposed, first: first))
        }
    }

    /// The canonical names of what a name of the source stands for.
    private static func canonical(_ stored: String, _ names: FamilyNames) -> [String] {
        let name = names.usual(stored).name
        guard let (path, kind) = FamilyNames.split(name), let module = names.module(own: path) else { return [name] }
        return module.canonical.map { "\($0).\(kind)" }
    }
}

extension TensorInfo {
    fileprivate func with(name: String, shape: [Int]? = nil) -> TensorInfo {
        TensorInfo(
            name: name, shape: shape ?? self.shape, storedType: storedType, storedBytes: storedBytes,
            obstacle: obstacle)
    }
}
