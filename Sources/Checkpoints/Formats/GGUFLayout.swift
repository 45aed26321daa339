/// Which tensors of a model a tensor of a GGUF file holds, and where.
struct GGUFLayout {
    private let architecture: GGUFArchitecture
    private let metadata: GGUFMetadata
    private let names: Set<String>

    /// - Parameter names: of all tensors of the file.
    init(_ architecture: GGUFArchitecture, _ metadata: GGUFMetadata, names: Set<String>) {
        (self.architecture, self.metadata, self.names) = (architecture, metadata, names)
    }

    /// A tensor of the model; one that cannot be read has no place.
    struct Piece {
        let info: TensorInfo
        var place: StoredTensor?
    }

    /// The tensors that one of the file holds: itself, or q, k and v.
    func pieces(of tensor: GGUFTensor, _ problems: inout [String]) -> [Piece] {
        let parts = fused(tensor.name)
        guard !parts.isEmpty, let total = tensor.shape.first else {
            // A tensor that such a model does not have keeps its name; whether it matters is not a question of the format.
            let name = architecture.canonical(tensor.name) ?? tensor.name
            let info = TensorInfo(
                name: name, shape: tensor.shape, storedType: tensor.typeName, storedBytes: tensor.bytes,
                obstacle: tensor.obstacle)
            return [piece(info, tensor, offset: tensor.offset, &problems)].compactMap(\.self)
        }
        let width = tensor.shape.dropFirst().reduce(1, *)
        let rows = parts.reduce(0) { $0 + $1.rows }
        guard rows == total, tensor.type.map({ width % $0.blockElements == 0 }) ?? true else {
            let expected = parts.map { "\($0.rows)" }.joined(separator: " + ")
            problems.append(
                "\(tensor.name): \(tensor.shape) of \(tensor.typeName), expected rows of \(expected) for q, k and v")
            return []
        }
        let rowBytes = tensor.bytes / total
        var first = 0
        return parts.compactMap { part in
            defer { first += part.rows }
            let info = TensorInfo(
                name: part.name, shape: [part.rows] + tensor.shape.dropFirst(), storedType: tensor.typeName,
                storedBytes: part.rows * rowBytes, obstacle: tensor.obstacle)
            return piece(info, tensor, offset: tensor.offset + first * rowBytes, &problems)
        }
    }

    private func piece(
        _ info: TensorInfo, _ tensor: GGUFTensor, offset: Int, _ problems: inout [String]
    ) -> Piece? {
        guard let type = tensor.type else { return Piece(info: info) }
        var place = StoredTensor(info: info, type: type, offset: offset)
        if architecture.interleavesHeads, let heads = rotatedHeads(info.name) {
            guard info.shape[0] % (2 * heads) == 0 else {
                problems.append("\(tensor.name): \(info.shape[0]) rows are not \(heads) heads of even size")
                return nil
            }
            place.interleavedHeads = heads
        }
        if info.name != tensor.name, GGUFArchitecture.isNorm(info.name), info.name.hasSuffix(".weight") {
            place.offsetOfElements = architecture.normOffset
        }
        return Piece(info: info, place: place)
    }

    /// Heads of a tensor whose rows are rotated, nil for all other tensors.
    private func rotatedHeads(_ name: String) -> Int? {
        if name.contains(".self_attn.q_proj.") { return metadata.heads }
        if name.contains(".self_attn.k_proj.") { return metadata.keyValueHeads }
        return nil
    }

    /// The canonical names and the rows of q, k and v in `blk.N.attn_qkv`, unless the file has them one by one as well.
    private func fused(_ name: String) -> [(name: String, rows: Int)] {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[2] == "attn_qkv" else { return [] }
        let single = ["attn_q", "attn_k", "attn_v"].map { "\(parts[0]).\(parts[1]).\($0).\(parts[3])" }
        let canonical = single.compactMap(architecture.canonical)
        guard canonical.count == 3, names.isDisjoint(with: single) else { return [] }
        let (query, other) = (metadata.heads * metadata.headSize, metadata.keyValueHeads * metadata.headSize)
        return zip(canonical, [query, other, other]).map { ($0, $1) }
    }
}
