import JSON
import Testing

@Suite("a record in JSON") struct JSONRecordTests {
    enum Kind: String, CaseIterable, Sendable { case round, square }

    struct Part: Sendable, Equatable {
        var name = ""
        var rank: Int?
        var share: Double?
    }

    struct Sample: Sendable, Equatable {
        var count = 0
        var seed: UInt64 = 0
        var factor = 0.0
        var isOn = false
        var kind = Kind.round
        var name = ""
        var note: String?
        var parts: [Part] = []
        var more: JSONObject = [:]
        var added = 7
    }

    static let part = JSONRecord(
        blank: Part(),
        [
            .required("name", \.name, .text), .required("rank", \.rank, .orNull(.int(in: 1...9))),
            .optional("share", \.share, .number(in: 0...1), writesNull: true),
        ])

    static let record = JSONRecord(
        blank: Sample(),
        [
            .format("sample"), .version(2), .required("count", \.count, .int),
            .required("seed", \.seed, .text("a number as text", parse: { UInt64($0) }, spell: { "\($0)" })),
            .required("factor", \.factor, .number), .required("is_on", \.isOn, .flag),
            .required("kind", \.kind, .choice), .required("name", \.name, .text), .optional("note", \.note, .text),
            .required("parts", \.parts, .list(of: part.form)), .required("more", \.more, .object),
            .derived("parts_count") { .integer($0.parts.count) }, .defaulted("added", \.added, .int),
        ])

    /// No value is the blank record's.
    let sample = Sample(
        count: -3, seed: .max, factor: 0.1, isOn: true, kind: .square, name: "é\"", note: "n",
        parts: [.init(name: "a", rank: 9, share: 0.5), .init(name: "b")], more: ["x": [1, nil]], added: 8)

    func read(_ json: JSONObject) throws -> Sample { try Self.record.read(JSONReader(.object(json), path: "s.json")) }

    @Test("What is written is read, and stands in the order of the fields")
    func roundTrip() throws {
        let json = Self.record.json(sample)
        #expect(json.members.map(\.key) == Self.record.keys)
        #expect(json["format_version"] == 2 && json["parts_count"] == 2)
        #expect(json["parts"]?[1] == ["name": "b", "rank": nil, "share": nil])
        let text = JSONValue.object(json).text(indent: 2)
        #expect(try read(#require(JSONValue(parsing: text).objectValue)) == sample)
        var other = sample
        other.note = nil
        #expect(Self.record.json(other).members.map(\.key) == Self.record.keys.filter { $0 != "note" })
        #expect(try read(Self.record.json(other)) == other)
    }

    @Test("Every field matters: without it nothing is read, but for those that may be missing")
    func missing() throws {
        for key in Self.record.keys {
            var json = Self.record.json(sample)
            json[key] = nil
            var expected: Sample? = sample
            switch key {
            case "note": expected?.note = nil
            case "added": expected?.added = 7
            case "format_version", "parts_count": break
            default: expected = nil
            }
            #expect((try? read(json)) == expected, "\(key)")
        }
        var json = Self.record.json(sample)
        json["new"] = 1
        #expect(try read(json) == sample)
    }

    @Test("Errors name the place, what stands there and what should")
    func errors() {
        for (key, value, message) in [
            ("count", 1.5, "count: found 1.5, expected a whole number"),
            ("count", nil, "count: found nothing, expected a whole number"),
            ("seed", -1, "seed: found -1, expected a number as text"),
            ("factor", "x", "factor: found \"x\", expected a finite number"),
            ("is_on", 1, "is_on: found 1, expected true or false"),
            ("kind", "oval", "kind: found \"oval\", expected one of round, square"),
            ("note", 1, "note: found 1, expected a text"),
            ("added", .null, "added: found null, expected a whole number"),
            ("more", [], "more: found a list of 0 elements, expected an object"),
            ("parts", 1, "parts: found 1, expected a list"),
            ("parts", [1], "parts[0]: found 1, expected an object"),
            ("parts", [["name": "a", "rank": 10]], "parts[0].rank: found 10, expected a whole number from 1 to 9"),
            ("parts", [["name": "a"]], "parts[0].rank: found nothing, expected a whole number from 1 to 9 or null"),
            (
                "parts", [["name": "a", "rank": 1, "share": 2]],
                "parts[0].share: found 2, expected a finite number from 0.0 to 1.0"
            ),
            ("format", "other", "format: found \"other\", expected \"sample\""),
            ("format_version", 3, "format_version: found 3, expected 1 to 2"),
            ("format_version", 0, "format_version: found 0, expected 1 to 2"),
        ] as [(String, JSONValue?, String)] {
            var json = Self.record.json(sample)
            json[key] = value
            let error = #expect(throws: JSONReadError.self) { try read(json) }
            #expect(error?.description == "s.json: \(message)")
        }
    }

    @Test("Version 1 can be left out")
    func firstVersion() throws {
        func record(_ version: Int) -> JSONRecord<Part> {
            JSONRecord(blank: Part(), [.version(version, leavesOutFirst: true)])
        }
        #expect(record(1).json(Part()) == [:] && record(2).json(Part()) == ["format_version": 2])
        #expect(throws: JSONReadError.self) { try record(1).read(JSONReader(["format_version": 2], path: "")) }
    }
}
