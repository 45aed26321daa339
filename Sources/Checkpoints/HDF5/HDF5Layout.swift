/// Where in a file the tensors are, and what they are called: people dump state dictionaries flat or nested, at the
/// root or in a group, with or without the wrappers of their training code.
struct HDF5Layout {
    /// A dataset of the file that may be a tensor.
    struct Candidate {
        let path: [String]
        /// Whether its elements are floating-point numbers; others are tensors only under a tensor's name.
        let isFloat: Bool
        /// Whether it is a link that is not followed: to a tensor, or to a group of them.
        var isLink = false
    }

    struct Place: Equatable {
        let name: String
        let path: [String]
    }

    /// The group that holds the tensors; empty for the root.
    let base: [String]
    let places: [Place]
}

extension HDF5Layout {
    /// Finds the group whose contents are the model, or `nil` with the groups that it could be if they are several.
    static func find(_ candidates: [Candidate]) -> (layout: HDF5Layout?, contenders: [String]) {
        var bases: [[String]] = []
        var seen: Set<[String]> = []
        func consider(_ base: [String]) {
            if seen.insert(base).inserted { bases.append(base) }
        }
        // A model has an embedding; its path says which groups can be the model's.
        for candidate in candidates where isEmbedding(candidate.path) {
            for length in 0..<candidate.path.count { consider(Array(candidate.path.prefix(length))) }
        }
        let anchored = bases.map { ranked($0, candidates) }.filter(\.hasEmbedding)
        if let best = best(anchored) { return best }

        bases = []
        seen = []
        for candidate in candidates where candidate.isFloat || tensorLike(candidate.path.last!) {
            for length in 0..<min(4, candidate.path.count) { consider(Array(candidate.path.prefix(length))) }
        }
        let ranking = bases.map { ranked($0, candidates) }
        if let best = best(ranking.filter { $0.recognised > 0 }) { return best }
        // Names of an unknown family: taken as they are if there is only one place for them.
        let direct = ranking.filter { ranked in
            let base = ranked.layout.base
            return candidates.contains {
                $0.isFloat && $0.path.count == base.count + 1 && $0.path.starts(with: base)
            }
        }
        if direct.contains(where: { $0.layout.base.isEmpty }) {
            return (direct.first { $0.layout.base.isEmpty }!.layout, [])
        }
        return best(direct) ?? (nil, [])
    }

    /// The tensors of a given group.
    static func of(base: [String], _ candidates: [Candidate]) -> HDF5Layout { ranked(base, candidates).layout }

    private struct Ranked {
        let layout: HDF5Layout
        let recognised: Int
        let hasEmbedding: Bool
    }

    /// The one nearest to the root, among equals the one with a usual name; several if that does not decide.
    private static func best(_ ranking: [Ranked]) -> (layout: HDF5Layout?, contenders: [String])? {
        func order(_ ranked: Ranked) -> [Int] {
            let usual = ["model", "weights", "state_dict", "model_state_dict"]
            let preference = ranked.layout.base.last.flatMap { usual.firstIndex(of: $0) } ?? usual.count
            return [ranked.layout.base.count, preference]
        }
        // A bare model in a group named "model" makes sense from the root too, but for its head.
        let sensible = ranking.filter { outer in
            !ranking.contains { inner in
                inner.recognised > outer.recognised && inner.layout.base.starts(with: outer.layout.base)
                    && inner.layout.places.count >= outer.layout.places.count
            }
        }
        let sorted = sensible.sorted { order($0).lexicographicallyPrecedes(order($1)) }
        guard let first = sorted.first else { return nil }
        let ties = sorted.filter { order($0) == order(first) }
        guard ties.count == 1 else { return (nil, ties.map { "/" + $0.layout.base.joined(separator: "/") }) }
        return (first.layout, [])
    }

    private static func ranked(_ base: [String], _ candidates: [Candidate]) -> Ranked {
        let inside = candidates.filter { $0.path.count > base.count && $0.path.starts(with: base) }
        let stored = inside.map { $0.path.dropFirst(base.count).joined(separator: ".") }
        // A group of that name is another base; a name with dots is what a module of that name holds.
        let isInModel = zip(inside, stored).contains {
            $0.path.count == base.count + 1 && TensorNames.isInModel(TensorNames.unwrapped($1))
        }
        let names = TensorNames.canonical(stored, unwrapsModel: isInModel)
        // A group beside the tensors – optimiser moments, references – has no tensor's name in it.
        var members: Set<String> = []
        for (candidate, name) in zip(inside, names) where isFamiliar(name) {
            members.insert(candidate.path[base.count])
        }
        // What is behind a link may be a group, whose tensors' names go on from here.
        func isFamiliarLink(_ candidate: Candidate, _ name: String) -> Bool {
            candidate.isLink && isFamiliar(name + ".")
        }
        var places: [Place] = []
        var recognised = 0
        for (candidate, name) in zip(inside, names) {
            let familiar = isFamiliar(name) || isFamiliarLink(candidate, name)
            let isDirect = candidate.path.count == base.count + 1
            guard familiar || (candidate.isFloat && (isDirect || members.contains(candidate.path[base.count]))) else {
                continue
            }
            if familiar { recognised += 1 }
            places.append(Place(name: name, path: candidate.path))
        }
        return Ranked(
            layout: HDF5Layout(base: base, places: places.sorted { precedes($0.name, $1.name) }),
            recognised: recognised,
            hasEmbedding: places.contains { TensorNames.isEmbedding($0.name) })
    }

    private static func isEmbedding(_ path: [String]) -> Bool {
        let name = path.suffix(2).joined(separator: ".")
        return name.hasSuffix("embed_tokens.weight") || name.hasSuffix("wte.weight")
    }

    private static func tensorLike(_ name: String) -> Bool {
        name.hasSuffix("weight") || name.hasSuffix("bias") || name.hasSuffix("cola_a") || name.hasSuffix("cola_b")
    }

    /// Names of the families in use: LLaMA and its relatives, alone or inside a model that sees, and GPT-2.
    private static func isFamiliar(_ name: String) -> Bool {
        let outer = ["model.language_model.", "language_model."].first(where: name.hasPrefix)
        let inner = outer.map { name.dropFirst($0.count) } ?? name[...]
        let name = outer == nil || isWhole(inner) ? inner : "model." + inner
        for prefix in [
            "model.embed_tokens.", "model.layers.", "model.norm.", "model.rotary_emb.", "model.embed_positions.",
            "lm_head.",
        ] where name.hasPrefix(prefix) { return true }
        return isGPT2(String(name))
    }

    /// Whether a name is one of a model with its head.
    private static func isWhole(_ name: Substring) -> Bool {
        name.hasPrefix("model.") || name.hasPrefix("lm_head.")
    }

    private static func isGPT2(_ name: String) -> Bool {
        let bare = name.hasPrefix("transformer.") ? name.dropFirst("transformer.".count) : name[...]
        for prefix in ["wte.", "wpe.", "h.", "ln_f."] where bare.hasPrefix(prefix) { return true }
        return false
    }

    /// The order of the alphabet, but with numbers by their value: layer 2 before layer 10.
    static func precedes(_ left: String, _ right: String) -> Bool {
        let (lefts, rights) = (left.split(separator: "."), right.split(separator: "."))
        for (a, b) in zip(lefts, rights) where a != b {
            switch (Int(a), Int(b)) {
            case (let x?, let y?) where x != y: return x < y
            case (_?, nil): return true
            case (nil, _?): return false
            default: return a < b
            }
        }
        return (lefts.count, left) < (rights.count, right)
    }
}
