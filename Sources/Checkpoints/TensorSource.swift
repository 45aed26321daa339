import Files
import JSON
import Tensors

/// How a tensor's elements are stored in a file. Reading always yields single precision.
public enum ElementType: String, Sendable, CaseIterable, Codable {
    case f64, f32, f16, bf16

    public var bytes: Int {
        switch self {
        case .f64: 8
        case .f32: 4
        case .f16, .bf16: 2
        }
    }
}

/// A tensor as a file's directory describes it.
public struct TensorInfo: Sendable, Equatable {
    /// Hugging Face name, for example `model.layers.0.self_attn.q_proj.weight`.
    public let name: String
    /// Extents, slowest first; a linear weight is `[out, in]`, a low-rank factor `[in, rank]` or `[rank, out]`.
    public let shape: [Int]
    /// The stored type as the file's format calls it: `f32`, `bf16`, `Q4_1`, …
    public let storedType: String
    /// Bytes that the tensor takes in the file.
    public let storedBytes: Int
    /// Why its elements cannot be read, where the directory says so already; its extents may then be unknown, and `[]`.
    public let obstacle: String?

    public init(name: String, shape: [Int], storedType: String, storedBytes: Int, obstacle: String? = nil) {
        self.name = name
        self.shape = shape
        self.storedType = storedType
        self.storedBytes = storedBytes
        self.obstacle = obstacle
    }

    public var count: Int { shape.reduce(1, *) }
}

/// A file of named tensors under canonical (Hugging Face) names. Each file format has one implementation; whoever
/// computes with the weights sees only this.
///
/// Sources are lazy – opening reads the directory, not the weights – and strict: a read that does not find the whole
/// tensor throws. They are used from one thread.
public protocol TensorSource: AnyObject {
    var path: String { get }
    /// The format in words, for people: "cola checkpoint", "GGUF v3", "safetensors, 2 shards", …
    var formatName: String { get }
    /// The text of config.json (Hugging Face keys), if the file carries one.
    var configuration: String? { get }
    /// JSON text that says where the file came from, if it carries one.
    var provenance: String? { get }
    /// All tensors, in an order that is the same each time.
    var tensors: [TensorInfo] { get }
    /// Where parts of the file contradict each other about a tensor: an error for those who need the tensor.
    var contradictions: [Contradiction] { get }
    /// What those should know who use the file, each a sentence that names it.
    var warnings: [String] { get }
    /// The directory entry of one tensor.
    func info(_ name: String) -> TensorInfo?
    func tokenizer() throws -> TokenizerBlob?
    /// What the file calls a tensor, for errors, where that is something else.
    func originalName(of name: String) -> String
    /// Reads the given rows (first extent; `nil`: all) of a tensor as single precision, row-major, into `destination`,
    /// which holds exactly as many elements. Throws `CheckpointError` if there is no such tensor or it is cut short.
    func read(_ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>) throws
}

/// What parts of a file – an index and what it lists – say differently about a tensor.
public struct Contradiction: Sendable, Equatable {
    /// The tensor's canonical name.
    public let name: String
    /// Begins with the name that the file gives it.
    public let problem: String

    public init(name: String, problem: String) {
        self.name = name
        self.problem = problem
    }
}

extension TensorSource {
    public var contradictions: [Contradiction] { [] }
    public var warnings: [String] { contradictions.map { "\(path): \($0.problem)" } }

    public func info(_ name: String) -> TensorInfo? { tensors.first { $0.name == name } }

    public func originalName(of name: String) -> String { name }

    /// The values of config.json; nil if the file carries none, or something else than a JSON object.
    public var configurationValues: JSONObject? {
        configuration.flatMap { try? JSONValue(parsing: $0, allowsNonFinite: true) }?.objectValue
    }

    /// Reads a whole tensor of any shape.
    public func read(_ name: String) throws -> Matrix {
        guard let info = info(name) else {
            throw CheckpointError.tensors(path: path, problems: ["\(name): missing"])
        }
        let tensor = Matrix(uninitialized: info.shape)
        try read(name, rows: nil, into: tensor.buffer)
        return tensor
    }
}
