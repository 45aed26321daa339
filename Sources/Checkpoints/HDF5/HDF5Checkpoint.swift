import CHDF5
import Files
import Glibc
import JSON
import Tensors

/// Weights in an HDF5 file: this project's own checkpoints, and what people dump from a PyTorch state dictionary.
///
/// The own layout has the attributes `format` (`cola-checkpoint`), `format_version`, `config` and `provenance` at the
/// root, tensors under `/model` and the tokenizer in `/tokenizer`; one that a training run can be resumed from has
/// `/optimizer` and `/training` besides (see `TrainingGroup`). Of other files the group is taken that holds a
/// model's tensor names – flat with dots in the names, or nested groups; wrappers such as `module.` are removed, the
/// `model.` of a bare model's dump is added, and CoLA-M names become the canonical ones.
///
/// Opening reads the directory only. A tensor that is damaged, cut short, kept in another file or was never written is an
/// error, never a value.
public final class HDF5Checkpoint: TensorSource {
    public let path: String
    public let formatName: String
    public let configuration: String?
    public let provenance: String?
    public let tensors: [TensorInfo]

    let file: HDF5Group
    private let entries: [String: HDF5Directory.Entry]
    /// The tensor read last stays open, and with it the library's cache of its chunks.
    private var current: HDF5TensorReader?

    /// Opens a file. `configurationPath` names a config.json that stands in for what the file says; without one the
    /// file's own `config` (an attribute or a text dataset, at the root or beside the tensors) counts, then a
    /// config.json in the same folder.
    ///
    /// Throws `missing`, `unreadable` (not HDF5, cut short, damaged) or `invalid` (a version or layout that this reader
    /// does not know, two places that could be the model, a `config` that is no text).
    public init(path: String, configurationPath: String? = nil) throws {
        let opened = try HDF5Directory(path: path, configurationPath: configurationPath)
        self.path = path
        (file, formatName, configuration, provenance) = (
            opened.file, opened.formatName, opened.configuration, opened.provenance
        )
        tensors = opened.entries.map(\.info)
        entries = Dictionary(uniqueKeysWithValues: opened.entries.map { ($0.info.name, $0) })
    }

    /// The directory's entry for a tensor, found without searching.
    public func info(_ name: String) -> TensorInfo? { entries[name]?.info }

    /// The tokenizer that the file carries in `/tokenizer`, or `nil`. Throws if what is there is damaged or none.
    public func tokenizer() throws -> TokenizerBlob? {
        try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: "/tokenizer: \($0)") }) {
            guard let object = try file.open(["tokenizer"]) else { return nil }
            guard H5Iget_type(object.id) == H5I_DATASET, let bytes = try object.textBytes(isAttribute: false) else {
                throw wrongTokenizer("no text and no bytes")
            }
            let settings = try tokenizerSettings(object.attributeText(HDF5Names.settings))
            switch try object.attributeText(HDF5Names.tokenizerKind) {
            case HDF5Names.tokenizerJSON: return TokenizerBlob(.tokenizerJSON(bytes), settings: settings)
            case HDF5Names.sentencepiece: return TokenizerBlob(.sentencepiece(bytes), settings: settings)
            case nil:
                // Others' files do not say; JSON text starts with a brace, a sentencepiece model with a field tag.
                let first = bytes.first { ![0x09, 0x0A, 0x0D, 0x20].contains($0) }
                return TokenizerBlob(
                    first == UInt8(ascii: "{") ? .tokenizerJSON(bytes) : .sentencepiece(bytes), settings: settings)
            case let kind?: throw wrongTokenizer("the kind \"\(kind)\"")
            }
        }
    }

    /// What the attribute says that is kept beside the tokenizer; files of before have none.
    private func tokenizerSettings(_ text: String?) throws(CheckpointError) -> TokenizerSettings {
        guard let text else { return TokenizerSettings() }
        let place = "/tokenizer, attribute \(HDF5Names.settings)"
        let json = try MappedFile.json(Array(text.utf8), path: path, place: place)
        return try TokenizerSettings(json.objectValue ?? JSONObject(), path: path, place: "\(place), ")
    }

    public func read(_ name: String, rows: Range<Int>?, into destination: UnsafeMutableBufferPointer<Float>) throws {
        guard let entry = entries[name] else {
            throw CheckpointError.tensors(path: path, problems: ["\(name): missing"])
        }
        if case .elsewhere(let reason) = entry.type {
            throw CheckpointError.unreadable(path: path, reason: "\(name): \(reason)")
        }
        guard case .float(let type) = entry.type else {
            throw CheckpointError.invalid(
                path: path, place: name, found: entry.type.description, expected: HDF5StoredType.expectedForTensors)
        }
        do {
            try HDF5Failure.translated(reading: path, { .unreadable(path: path, reason: "\(name): \($0)") }) {
                if current?.name != name {
                    current = nil
                    current = try HDF5TensorReader(
                        name: name, dataset: file.open(entry.location), shape: entry.info.shape, type: type)
                }
                try current!.read(rows: rows, into: destination)
            }
        } catch {
            current = nil
            throw error
        }
    }

    private func wrongTokenizer(_ found: String) -> CheckpointError {
        .invalid(
            path: path, place: "/tokenizer", found: found,
            expected: "\(HDF5Names.tokenizerJSON) or \(HDF5Names.sentencepiece) bytes")
    }
}

/// Names in this project's own files.
enum HDF5Names {
    static let format = "cola-checkpoint"
    static let version: Int64 = 1
    static let model = "model"
    static let tokenizerKind = "kind"
    static let tokenizerJSON = "tokenizer.json"
    static let sentencepiece = "sentencepiece"
    static let optimizer = ["optimizer"]
    static let training = ["training"]
    static let seed = "seed"
    static let settings = "settings"
    static let history = "history"
    static let columns = "columns"

    static func path(of part: OptimizerStatePart) -> [String] { optimizer + [part.rawValue] }
}
