import Foundation
import JSON
import TestSupport
import Testing

/// Models of families as the transformers library saved them, with vocabularies of 61; see README.txt in
/// `TransformerTests/Fixtures/families`.
enum FamilyModel {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../TransformerTests/Fixtures/families").standardized.path

    static let vocabulary = 61
}

extension Workplace {
    /// With Hugging Face folders of these models, and tokens.u16 with 400 ids of theirs that can be learnt.
    convenience init(families models: [String]) throws {
        try self.init()
        for model in models {
            try makeFolder(model)
            for file in ["config.json", "model.safetensors"] {
                try FileManager.default.copyItem(
                    atPath: "\(FamilyModel.folder)/\(model)/\(file)", toPath: self.file("\(model)/\(file)"))
            }
        }
        let ids = learnableIDs(400, below: FamilyModel.vocabulary)
        try write(ids.flatMap { littleEndian(UInt16($0)) }, "tokens.u16")
    }

    /// Changes a model's config.json; nil removes a key.
    func configure(_ model: String, _ changes: [(String, JSONValue?)]) throws {
        var values = try #require(JSONValue(parsing: text("\(model)/config.json")).objectValue)
        for (key, value) in changes { values[key] = value }
        try write(JSONValue.object(values).text(), "\(model)/config.json")
    }

    /// What `inspect` says of a checkpoint's configuration, or of the text model inside.
    func configuration(_ checkpoint: String, inside key: String? = nil) throws -> JSONObject {
        let values = try json(.convert, "inspect", checkpoint)["config"]
        return try #require((key.map { values?[$0] } ?? values)?.objectValue)
    }

    /// The tensors of a safetensors file, read by the published layout and independently of the package.
    func safetensors(_ name: String) throws -> [String: SafetensorsEntry] {
        let bytes = try self.bytes(name)
        let length = Int(bytes[..<8].reversed().reduce(0) { $0 << 8 | UInt64($1) })
        let header = try JSONValue(parsing: String(decoding: bytes[8..<8 + length], as: UTF8.self))
        let data = bytes[(8 + length)...]
        var entries: [String: SafetensorsEntry] = [:]
        for (name, value) in try #require(header.objectValue).members where name != "__metadata__" {
            let offsets = try #require(value["data_offsets"]?.arrayValue).compactMap(\.intValue)
            entries[name] = SafetensorsEntry(
                type: try #require(value["dtype"]?.stringValue),
                shape: try #require(value["shape"]?.arrayValue).compactMap(\.intValue),
                data: Array(data[data.startIndex + offsets[0]..<data.startIndex + offsets[1]]))
        }
        return entries
    }
}

struct SafetensorsEntry: Equatable {
    let type: String
    let shape: [Int]
    let data: [UInt8]
}
