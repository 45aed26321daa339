import Glibc
import JSON
import Tensors

/// A source whose configuration ties head and embedding (`tie_word_embeddings`), seen as what is stored in it:
///
/// - only `lm_head.weight`, because of a shared tensor one name was kept: it is the embedding as well;
/// - both, with different values: they are two tensors, and the configuration says so.
public final class TiedSource: TensorSource {
    public let configuration: String?
    public let tensors: [TensorInfo]
    public let warnings: [String]
    public var path: String { source.path }
    public var formatName: String { source.formatName }
    public var provenance: String? { source.provenance }
    public var contradictions: [Contradiction] {
        source.contradictions.map { contradiction in
            let name = storedNames.first { $0.value == contradiction.name }?.key
            return Contradiction(name: name ?? contradiction.name, problem: contradiction.problem)
        }
    }

    /// What is stored.
    public let source: any TensorSource
    /// Names in the source of those that have another one here.
    private let storedNames: [String: String]

    static let (embedding, head) = ("model.embed_tokens.weight", "lm_head.weight")
    /// Where configurations say whether the two are tied.
    public static let key = "tie_word_embeddings"

    /// The same by what the configuration says on its outermost level, nothing meaning that they are not tied.
    static func resolving(_ source: any TensorSource) -> any TensorSource {
        resolving(source, isTied: source.configurationValues?[key]?.boolValue == true) { $0[key] = false }
    }

    /// The source itself, if there is nothing to be said.
    ///
    /// Reads both tensors if both are there, up to the first element that differs. One that cannot be read is another
    /// one.
    ///
    /// - Parameters:
    ///   - isTied: whether the configuration ties them.
    ///   - untying: makes it say that they are two.
    public static func resolving(
        _ source: any TensorSource, isTied: Bool, untying: (inout JSONObject) -> Void
    ) -> any TensorSource {
        guard isTied, var values = source.configurationValues, let head = source.info(head), head.count > 0 else {
            return source
        }
        guard let embedding = source.info(embedding) else { return TiedSource(headOnly: source) }
        guard !areEqual(source, embedding, head) else { return source }
        untying(&values)
        return TiedSource(
            source, configuration: JSONValue.object(values).text(indent: 2, writesNonFinite: true))
    }

    private init(headOnly source: any TensorSource) {
        self.source = source
        configuration = source.configuration
        storedNames = [Self.embedding: Self.head]
        tensors = source.tensors.map { info in
            guard info.name == Self.head else { return info }
            return TensorInfo(
                name: Self.embedding, shape: info.shape, storedType: info.storedType, storedBytes: info.storedBytes,
                obstacle: info.obstacle)
        }
        warnings = source.warnings
    }

    private init(_ source: any TensorSource, configuration: String) {
        self.source = source
        self.configuration = configuration
        storedNames = [:]
        tensors = source.tensors
        warnings =
            source.warnings + [
                "\(source.path): \(Self.head) has other values than the embedding, to which \(Self.key) of the "
                    + "configuration ties it; the stored head is used"
            ]
    }

    public func info(_ name: String) -> TensorInfo? {
        guard storedNames.isEmpty else { return tensors.first { $0.name == name } }
        return source.info(name)
    }

    public func tokenizer() throws -> TokenizerBlob? { try source.tokenizer() }

    public func originalName(of name: String) -> String { source.originalName(of: storedNames[name] ?? name) }

    public func read(_ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>) throws {
        try source.read(storedNames[name] ?? name, rows: rows, into: destination)
    }

    private static func areEqual(_ source: any TensorSource, _ one: TensorInfo, _ other: TensorInfo) -> Bool {
        guard one.shape == other.shape, let rows = one.shape.first else { return false }
        let width = one.count / rows
        let block = max(1, (1 << 20) / width)
        let buffers = [0, 1].map { _ in Matrix(uninitialized: [min(block, rows), width]) }
        for start in stride(from: 0, to: rows, by: block) {
            let part = start..<min(rows, start + block)
            for (info, buffer) in zip([one, other], buffers) {
                let elements = UnsafeMutableBufferPointer(start: buffer.pointer, count: part.count * width)
                do { try source.read(info.name, rows: part, into: elements) } catch { return false }
            }
            guard memcmp(buffers[0].pointer, buffers[1].pointer, 4 * part.count * width) == 0 else { return false }
        }
        return true
    }
}
