import Checkpoints
import Files
import Tensors

/// A model with canonical names, seen under the names and in the layouts of its family's own files: the inverse of what
/// `openModel` does. Fused tensors are put together of their parts.
public final class OwnSource: TensorSource {
    public let tensors: [TensorInfo]
    public var path: String { source.path }
    public var formatName: String { source.formatName }
    public var configuration: String? { source.configuration }
    public var provenance: String? { source.provenance }
    public var warnings: [String] { source.warnings }

    private let source: any TensorSource
    private let index: [String: Int]
    private let places: [Place]
    private let transposition = Transposition()

    /// Canonical tensors whose rows one after the other are a tensor, or its transpose.
    private struct Place {
        let pieces: [TensorInfo]
        let isTransposed: Bool
    }

    /// - Parameters:
    ///   - source: tensors under canonical names, with the configuration of their model.
    ///   - kept: which of them there are; nil for all.
    ///   - opened: a checkpoint that `openModel` opened, whose names are taken. Without one, or if its own names are
    ///     canonical, names are those with which the transformers library saves such a model.
    ///
    /// Throws `CheckpointError.tensors` if a part of a fused tensor is missing, and for factors of low-rank layers where the
    /// family's layout is not the canonical one: they cannot be fused.
    public init(
        _ source: any TensorSource, kept: [TensorInfo]? = nil, namedAs opened: (any TensorSource)? = nil
    ) throws(CheckpointError) {
        let family = Family.named(source.modelType)
        let names = family?.names ?? FamilyNames()
        let saved = names.beginnings.filter { $0.savedBy.contains(source.modelType) }
        let beginnings = opened?.familySource?.beginnings ?? saved
        let all = kept ?? source.tensors
        let canonical = Dictionary(all.map { ($0.name, $0) }) { first, _ in first }
        var (tensors, places): ([TensorInfo], [Place]) = ([], [])
        var index: [String: Int] = [:]
        var problems: [String] = []
        for info in all {
            guard let (path, kind) = FamilyNames.split(info.name), let module = names.module(canonical: path) else {
                if info.isFactor, names.block != FamilyNames.canonicalBlock {
                    problems.append(
                        "\(info.name): a low-rank factor, for which the layout of \(family?.name ?? "") has no place")
                }
                let name = FamilyNames.stored(info.name, beginnings)
                index[name] = tensors.count
                tensors.append(info.combined(name, info.shape, [info]))
                places.append(Place(pieces: [info], isTransposed: false))
                continue
            }
            let name = FamilyNames.stored("\(module.own).\(kind)", beginnings)
            // All parts came with the first one.
            if index[name] != nil { continue }
            index[name] = tensors.count
            let parts = module.canonical.map { "\($0).\(kind)" }
            let pieces = parts.compactMap { canonical[$0] }
            let isTransposed = module.isTransposed && kind == "weight" && info.shape.count == 2
            for part in parts where canonical[part]?.shape.dropFirst() != info.shape.dropFirst() {
                let found = canonical[part].map { "found \($0.shape)" } ?? "missing"
                problems.append("\(part): \(found), expected it as a part of \(name) beside \(info.name) \(info.shape)")
            }
            let rows = pieces.reduce(0) { $0 + ($1.shape.first ?? 0) }
            let shape = [rows] + info.shape.dropFirst()
            tensors.append(info.combined(name, isTransposed ? shape.reversed() : shape, pieces))
            places.append(Place(pieces: pieces, isTransposed: isTransposed))
        }
        guard problems.isEmpty else { throw .tensors(path: source.path, problems: problems) }
        (self.source, self.tensors, self.places, self.index) = (source, tensors, places, index)
    }

    public func info(_ name: String) -> TensorInfo? { index[name].map { tensors[$0] } }

    public func tokenizer() throws -> TokenizerBlob? { try source.tokenizer() }

    public func read(
        _ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>
    ) throws {
        guard let number = index[name] else {
            throw CheckpointError.tensors(path: path, problems: ["\(name): missing"])
        }
        let (info, place) = (tensors[number], places[number])
        guard place.isTransposed else {
            if place.pieces.count == 1 { return try source.read(place.pieces[0].name, rows: rows, into: destination) }
            return try read(place, rows ?? 0..<info.shape[0], into: destination)
        }
        let matrix = try transposition.matrix(name, rows: info.shape[1], columns: info.shape[0]) {
            try read(place, 0..<info.shape[1], into: $0)
        }
        matrix.copyRows(rows ?? 0..<info.shape[0], from: 0, to: destination)
    }

    /// Reads rows of the pieces one after the other.
    private func read(_ place: Place, _ rows: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>) throws {
        let width = place.pieces[0].shape.dropFirst().reduce(1, *)
        var (first, done) = (0, 0)
        for piece in place.pieces {
            let range = rows.clamped(to: first..<first + piece.shape[0])
            if !range.isEmpty {
                let part = UnsafeMutableBufferPointer(rebasing: destination[done..<done + range.count * width])
                try source.read(piece.name, rows: range.lowerBound - first..<range.upperBound - first, into: part)
                done += part.count
            }
            first += piece.shape[0]
        }
        precondition(done == destination.count, "rows \(rows) of \(first) to \(destination.count) elements")
    }
}

extension TensorInfo {
    fileprivate var isFactor: Bool { name.hasSuffix(".cola_a") || name.hasSuffix(".cola_b") }

    /// What tensors of one type are together.
    fileprivate func combined(_ name: String, _ shape: [Int], _ pieces: [TensorInfo]) -> TensorInfo {
        TensorInfo(
            name: name, shape: shape, storedType: storedType,
            storedBytes: pieces.reduce(0) { $0 + $1.storedBytes }, obstacle: pieces.compactMap(\.obstacle).first)
    }
}
