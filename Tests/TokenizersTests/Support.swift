import Foundation
import JSON
import Testing

@testable import Tokenizers

enum Fixture {
    static func path(_ name: String) throws -> String {
        try #require(Bundle.module.url(forResource: "Fixtures/\(name)", withExtension: nil)).path
    }

    static func bytes(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: try path(name))))
    }

    static func text(_ name: String) throws -> String { String(decoding: try bytes(name), as: UTF8.self) }

    /// Texts and what the reference implementations make of them: Hugging Face `tokenizers` 0.23.3 for the `.json`
    /// files, `sentencepiece` 0.2.3 for the `.model` files.
    static func expected() throws -> JSONValue { try JSONValue(parsing: try bytes("expected.json")) }

    static func tokenizer(_ name: String) throws -> any Tokenizer {
        let path = ["bpe", "unigram"].contains(name) ? "\(name).model" : "\(name).json"
        let bytes = try bytes(path)
        return try makeTokenizer(
            from: path.hasSuffix(".json") ? .tokenizerJSON(bytes) : .sentencepiece(bytes), path: path)
    }

    /// A fixture's tokenizer.json after a change.
    static func changed(_ name: String, _ change: (inout JSONObject) throws -> Void) throws -> [UInt8] {
        var root = try #require(try JSONValue(parsing: try bytes("\(name).json")).objectValue)
        try change(&root)
        return JSONValue.object(root).serialized()
    }
}

func integers(_ value: JSONValue?) -> [UInt32] { (value?.arrayValue ?? []).map { UInt32($0.intValue!) } }

/// Where two lists of ids part, or `nil` if they are equal.
func difference(_ found: [UInt32], _ expected: [UInt32]) -> String? {
    if found == expected { return nil }
    let place = zip(found, expected).enumerated().first { $0.element.0 != $0.element.1 }?.offset
    guard let place else { return "\(found.count) ids instead of \(expected.count)" }
    return "id \(place) is \(found[place]) instead of \(expected[place]) (\(found.count) and \(expected.count) ids)"
}
