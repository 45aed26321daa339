import Files
import Glibc
import JSON

/// Which files of a folder hold its tensors: `model.safetensors`, or what `model.safetensors.index.json` lists.
struct ShardIndex {
    /// The files that are there, sorted.
    let paths: [String]
    /// Names of tensors as the index has them, and paths of their files; empty without an index.
    let weightMap: [(name: String, path: String)]

    init(file: String) { self.init(paths: [file], weightMap: []) }

    private init(paths: [String], weightMap: [(name: String, path: String)]) {
        self.paths = paths
        self.weightMap = weightMap
    }

    /// Looks for the weights in a folder. `configuration` says which of them nobody needs.
    ///
    /// Throws `CheckpointError` if there are none, the index is damaged, or a file is not there that something is in.
    init(folder: String, configuration: JSONValue) throws(CheckpointError) {
        let single = "\(folder)/model.safetensors"
        if try MappedFile.isThere(single) {
            self.init(file: single)
            return
        }
        let index = "\(folder)/model.safetensors.index.json"
        guard try MappedFile.isThere(index) else { throw Self.noWeights(in: folder) }
        guard let members = try MappedFile.json(index)["weight_map"]?.objectValue?.members, !members.isEmpty else {
            throw .invalid(path: index, place: "weight_map", found: "nothing", expected: "tensor names and their files")
        }
        var map: [(name: String, path: String)] = []
        for (name, value) in members {
            guard let file = value.stringValue, !file.contains("/"), file.hasSuffix(".safetensors") else {
                throw .invalid(
                    path: index, place: "weight_map, \(name)", found: value.text(),
                    expected: "the name of a .safetensors file in the same folder")
            }
            map.append((name, "\(folder)/\(file)"))
        }
        let names = TensorNames.canonical(map.map(\.name))
        let isTied = configuration["tie_word_embeddings"]?.boolValue == true
        let needed = Set(
            zip(names, map).filter { name, _ in
                !TensorNames.isRecomputed(name) && !(isTied && name == "lm_head.weight")
                    && TensorNames.beginnings.contains(where: name.hasPrefix)
            }.map(\.1.path))
        var paths: [String] = []
        for path in Set(map.map(\.path)).sorted() {
            if MappedFile.exists(path) {
                paths.append(path)
            } else if needed.contains(path) {
                throw MappedFile.absence(of: path)
            }
        }
        self.init(paths: paths, weightMap: map)
    }

    /// A tensor of one of the files by its canonical name.
    struct Place {
        let name: String
        let stored: String
        let path: String
        /// Whether it is one more name of a tensor, of which an index knows one.
        let isAlias: Bool
    }

    /// What the index and the files say differently. `listed` are the index' entries, each with its canonical name.
    func contradictions(
        _ listed: [(name: String, entry: (name: String, path: String))], stored: [Place]
    ) -> [Contradiction] {
        guard !listed.isEmpty else { return [] }
        var result: [Contradiction] = []
        let places = Dictionary(stored.map { ($0.name, $0.path) }) { first, _ in first }
        for (name, entry) in listed where places[name] != entry.path && !TensorNames.isRecomputed(name) {
            let found = places[name].map { "but in \($0)" } ?? "nor in another file"
            result.append(
                Contradiction(
                    name: name, problem: "\(entry.name): not in \(entry.path), where the index has it, \(found)"))
        }
        let known = Set(listed.map(\.name))
        for place in stored.sorted(by: { $0.name < $1.name })
        where !place.isAlias && !known.contains(place.name) && !TensorNames.isRecomputed(place.name) {
            result.append(
                Contradiction(
                    name: place.name, problem: "\(place.stored): in \(place.path), but not in the index"))
        }
        return result
    }

    private static func noWeights(in folder: String) -> CheckpointError {
        for pickled in ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"]
        where MappedFile.exists("\(folder)/\(pickled)") {
            return .unreadable(
                path: folder,
                reason: """
                    its weights are pickled (\(pickled)), which is not read because unpickling runs code; convert \
                    them once with transformers: AutoModelForCausalLM.from_pretrained(folder)\
                    .save_pretrained(other), which writes model.safetensors
                    """)
        }
        let models = HubCache.folders(in: folder).filter { MappedFile.exists("\(folder)/\($0)/config.json") }
        let others = models.isEmpty ? "" : "; a model is in its folder \(models.prefix(3).joined(separator: ", "))"
        return .unreadable(
            path: folder, reason: "holds neither model.safetensors nor model.safetensors.index.json\(others)")
    }
}
