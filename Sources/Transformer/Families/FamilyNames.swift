import Checkpoints
import Files

/// How the files of a family name modules and lay out their tensors, where they differ from the canonical ones. Read from left
/// to right it imports, from right to left it exports.
struct FamilyNames: Sendable {
    /// The path of a block; `{}` stands for its number.
    var block = Self.canonicalBlock
    /// Modules inside a block.
    var modules: [ModuleRule] = []
    /// Modules outside of all blocks.
    var ends: [ModuleRule] = []
    /// Other beginnings that names have in some files. The first one that fits counts.
    var beginnings: [Beginning] = []
    /// Endings of names of tensors that carry nothing: tables that follow from the configuration.
    var ignored: [String] = []

    static let canonicalBlock = "model.layers.{}"

    /// How names begin in some files of a family, in place of what is usual there.
    struct Beginning: Sendable, Equatable {
        let stored: String
        let usual: String
        /// The values of `model_type` with which the transformers library writes names so.
        var savedBy: [String] = []
        /// The values of `model_type` with which its modules' paths begin so.
        var pathsOf: [String] = []
    }

    /// Whether names and layouts are the canonical ones.
    var areCanonical: Bool { modules.isEmpty && ends.isEmpty && beginnings.isEmpty }
}

/// A module of a family's own files, and what lies in it.
struct ModuleRule: Sendable {
    let own: String
    /// The canonical modules, in the order in which their outputs lie one after the other; one if it is not fused.
    let canonical: [String]
    /// Whether a matrix is stored `[in, out]` instead of `[out, in]`.
    let isTransposed: Bool

    init(_ own: String, _ canonical: String..., isTransposed: Bool = false) {
        self.own = own
        self.canonical = canonical
        self.isTransposed = isTransposed
    }
}

extension FamilyNames {
    /// A module somewhere in a model: paths as the names of its tensors begin, without the last dot.
    struct Module {
        let own: String
        /// More than one if it is fused.
        let canonical: [String]
        let isTransposed: Bool
    }

    /// The module of an own path, if a rule has it.
    func module(own path: Substring) -> Module? {
        if let rule = ends.first(where: { $0.own == path }) { return Self.module(rule, own: "", canonical: "") }
        guard let (number, inside) = Self.inside(path, block), let rule = modules.first(where: { $0.own == inside })
        else { return nil }
        return module(rule, block: number)
    }

    /// The module that a canonical path is, or is a part of, if a rule has it.
    func module(canonical path: Substring) -> Module? {
        if let rule = ends.first(where: { $0.canonical.contains { $0 == path } }) {
            return Self.module(rule, own: "", canonical: "")
        }
        guard let (number, inside) = Self.inside(path, Self.canonicalBlock),
            let rule = modules.first(where: { $0.canonical.contains { $0 == inside } })
        else { return nil }
        return module(rule, block: number)
    }

    private func module(_ rule: ModuleRule, block number: Substring) -> Module {
        func path(_ template: String) -> String { Self.around(template).joined(separator: number) + "." }
        return Self.module(rule, own: path(block), canonical: path(Self.canonicalBlock))
    }

    private static func module(_ rule: ModuleRule, own: String, canonical: String) -> Module {
        Module(
            own: own + rule.own, canonical: rule.canonical.map { canonical + $0 }, isTransposed: rule.isTransposed)
    }

    /// What stands before and behind the number of a block.
    private static func around(_ template: String) -> [String] {
        let parts = template.split(separator: "{}", omittingEmptySubsequences: false).map(String.init)
        precondition(parts.count == 2, "\(template): a path with {} once")
        return parts
    }

    /// The number of the block that a path lies in, and the path inside.
    private static func inside(_ path: Substring, _ template: String) -> (number: Substring, inside: Substring)? {
        let around = Self.around(template)
        guard path.hasPrefix(around[0]) else { return nil }
        let rest = path.dropFirst(around[0].count)
        let number = rest.prefix { $0.isNumber }
        guard let value = Int(number), "\(value)" == number else { return nil }
        let after = rest.dropFirst(number.count)
        guard after.hasPrefix(around[1] + ".") else { return nil }
        return (number, after.dropFirst(around[1].count + 1))
    }

    /// A tensor's name as a module's path and what the tensor is in it, for weights and biases.
    static func split(_ name: String) -> (path: Substring, kind: Substring)? {
        guard let dot = name.lastIndex(of: ".") else { return nil }
        let kind = name[name.index(after: dot)...]
        return ["weight", "bias"].contains(kind) ? (name[..<dot], kind) : nil
    }

    // MARK: - Beginnings

    /// A name with the usual beginning, and which other one it had.
    func usual(_ name: String) -> (name: String, beginning: Beginning?) {
        guard let beginning = beginnings.first(where: { name.hasPrefix($0.stored) }) else { return (name, nil) }
        return (beginning.usual + name.dropFirst(beginning.stored.count), beginning)
    }

    /// A usual name with one of these beginnings.
    static func stored(_ name: String, _ beginnings: [Beginning]) -> String {
        guard let beginning = beginnings.first(where: { name.hasPrefix($0.usual) }) else { return name }
        return beginning.stored + name.dropFirst(beginning.usual.count)
    }

    /// Whether a name, be it canonical or not, is one of the decoder and of nothing beside it.
    func isOfDecoder(_ name: String) -> Bool {
        let name = usual(name).name
        let root = block.prefix { $0 != "." } + "."
        return name.hasPrefix(root) || ends.contains { name.hasPrefix($0.own + ".") }
    }

    // MARK: - Which names a file has

    /// Throws for names of both kinds in one file. True if they are the family's own, false if they are canonical.
    func areOwn(_ names: [String], family: String, path: String) throws(CheckpointError) -> Bool {
        var (own, canonical): (String?, String?)
        for name in names {
            let (usual, beginning) = usual(name)
            // Factors of low-rank layers stand under canonical names only, whatever the tensor.
            guard let dot = usual.lastIndex(of: ".") else { continue }
            let path = usual[..<dot]
            switch (module(own: path) != nil, module(canonical: path) != nil) {
            case (true, false): own = own ?? name
            case (false, true): canonical = canonical ?? name
            default: if beginning != nil { own = own ?? name }
            }
        }
        if let own, let canonical {
            throw .tensors(
                path: path,
                problems: [
                    "\(own) is a name of the family \(family), and \(canonical) a canonical one; expected one kind"
                ])
        }
        return canonical == nil
    }
}
