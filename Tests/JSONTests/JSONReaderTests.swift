import JSON
import Testing

@Suite("a cursor in JSON") struct JSONReaderTests {
    static let text = """
        {"name": "plan", "alpha": 0.95, "count": 3, "bias": false, "note": null, "": 0, "é": [],
         "ranks": {"model.layers.0": 8, "head": 4},
         "layers": [{"rank": 1}, {"rank": 0}, {"rank": 2.5}, {"rank": "7"}, {}, 5],
         "huge": NaN}
        """

    let reader: JSONReader

    init() throws {
        reader = JSONReader(try JSONValue(parsing: Self.text, allowsNonFinite: true), path: "plan.json")
    }

    @Test("each getter returns what stands there")
    func succeeds() throws {
        #expect(try reader.int("count") == 3)
        #expect(try reader.int("count", in: 3...3) == 3)
        #expect(try reader["layers"][0].int("rank", in: 1...64) == 1)
        #expect(try reader["layers"][5].int() == 5)
        #expect(try reader.number("alpha", in: 0...1) == 0.95)
        #expect(try reader.number("count") == 3)
        #expect(try reader.text("name") == "plan")
        #expect(try reader.flag("bias") == false)
        let layers = try reader.list("layers")
        #expect(layers.map(\.place) == (0..<6).map { "layers[\($0)]" })
        #expect(layers[2].value == ["rank": 2.5])
        let ranks = try reader.object("ranks")
        #expect(ranks.map(\.key) == ["model.layers.0", "head"])
        #expect(ranks.map(\.reader.place) == [#"ranks["model.layers.0"]"#, "ranks.head"])
        #expect(try ranks.map { try $0.reader.int() } == [8, 4])
        #expect(try reader.list("é").isEmpty)
    }

    @Test("members that may be missing")
    func optional() throws {
        #expect(try reader.int(ifPresent: "count", in: 0...3) == 3)
        #expect(try reader.number(ifPresent: "alpha") == 0.95)
        #expect(try reader.text(ifPresent: "name") == "plan")
        #expect(try reader.flag(ifPresent: "bias") == false)
        #expect(try reader.list(ifPresent: "layers")?.count == 6)
        #expect(try reader.object(ifPresent: "ranks")?.count == 2)
        #expect(try reader[ifPresent: "ranks"]?.place == "ranks")
        for key in ["note", "nowhere"] {
            #expect(try reader[ifPresent: key]?.place == nil)
            #expect(try reader.int(ifPresent: key, in: 1...2) == nil)
            #expect(try reader.number(ifPresent: key) == nil)
            #expect(try reader.text(ifPresent: key) == nil)
            #expect(try reader.flag(ifPresent: key) == nil)
            #expect(try reader.list(ifPresent: key)?.count == nil)
            #expect(try reader.object(ifPresent: key)?.count == nil)
        }
    }

    /// What a failing read must say. `read` is a closure, and the name is for people.
    struct Failure: CustomTestStringConvertible, Sendable {
        let read: @Sendable (JSONReader) throws -> Void
        let place: String
        let found: String
        let expected: String

        init(
            _ place: String, _ found: String, _ expected: String,
            _ read: @escaping @Sendable (JSONReader) throws -> Void
        ) {
            self.read = read
            self.place = place
            self.found = found
            self.expected = expected
        }

        var testDescription: String { "\(place): \(found), not \(expected)" }
    }

    @Test(
        "each failure names the place, what is there and what is expected",
        arguments: [
            // Whole numbers.
            Failure("layers[1].rank", "0", "a whole number from 1 to 64") {
                _ = try $0["layers"][1].int("rank", in: 1...64)
            },
            Failure("count", "3", "a whole number of at most 2") { _ = try $0.int("count", in: .min...2) },
            Failure("count", "3", "a whole number of at least 4") {
                _ = try $0.int(ifPresent: "count", in: 4 ... .max)
            },
            Failure("layers[2].rank", "2.5", "a whole number") { _ = try $0["layers"][2].int("rank") },
            Failure("layers[3].rank", "\"7\"", "a whole number") { _ = try $0["layers"][3]["rank"].int() },
            Failure("layers[4].rank", "nothing", "a whole number from 1 to 9") {
                _ = try $0["layers"][4].int("rank", in: 1...9)
            },
            Failure("note", "null", "a whole number") { _ = try $0.int("note") },
            // Numbers.
            Failure("alpha", "0.95", "a finite number from 0.0 to 0.5") { _ = try $0.number("alpha", in: 0...0.5) },
            Failure("alpha", "0.95", "a finite number of at least 1.0") {
                _ = try $0.number(ifPresent: "alpha", in: 1 ... .infinity)
            },
            Failure("huge", "NaN", "a finite number") { _ = try $0.number("huge") },
            Failure("bias", "false", "a finite number") { _ = try $0.number("bias") },
            Failure("beta", "nothing", "a finite number") { _ = try $0.number("beta") },
            // Texts and flags.
            Failure("count", "3", "a text") { _ = try $0.text("count") },
            Failure("title", "nothing", "a text") { _ = try $0.text("title") },
            Failure("bias", "false", "a text") { _ = try $0.text(ifPresent: "bias") },
            Failure("name", "\"plan\"", "true or false") { _ = try $0.flag("name") },
            Failure("name", "\"plan\"", "true or false") { _ = try $0.flag(ifPresent: "name") },
            Failure("ranks.tied", "nothing", "true or false") { _ = try $0["ranks"].flag("tied") },
            // Lists and objects.
            Failure("ranks", "an object of 2 members", "a list") { _ = try $0.list("ranks") },
            Failure("ranks", "an object of 2 members", "a list") { _ = try $0.list(ifPresent: "ranks") },
            Failure("blocks", "nothing", "a list") { _ = try $0.list("blocks") },
            Failure("layers", "a list of 6 elements", "an object") { _ = try $0.object("layers") },
            Failure("name", "\"plan\"", "an object") { _ = try $0.object(ifPresent: "name") },
            Failure("layers[0].ranks", "nothing", "an object") { _ = try $0["layers"][0].object("ranks") },
            // The way to a value.
            Failure("blocks", "nothing", "a value") { _ = try $0["blocks"][3].int("rank") },
            Failure("layers[6]", "nothing", "a value") { _ = try $0["layers"][6].int("rank") },
            Failure("layers[-1]", "nothing", "a value") { _ = try $0["layers"][-1] },
            Failure("layers[5]", "5", "an object") { _ = try $0["layers"][5].int("rank") },
            Failure("layers[5]", "5", "an object") { _ = try $0["layers"][5].int(ifPresent: "rank") },
            Failure("name", "\"plan\"", "a list") { _ = try $0["name"][0] },
            Failure("", "an object of 10 members", "a list") { _ = try $0[0] },
            Failure(#"ranks["model.layers.1"]"#, "nothing", "a value") { _ = try $0["ranks"]["model.layers.1"] },
            Failure(#"[""]"#, "0", "a text") { _ = try $0.text("") },
            Failure(#"["é"]"#, "a list of 0 elements", "a text") { _ = try $0.text("é") },
        ])
    func failures(failure: Failure) {
        let expected = JSONReadError(
            path: "plan.json", place: failure.place, found: failure.found, expected: failure.expected)
        #expect(throws: expected) { try failure.read(reader) }
    }

    @Test("the text of an error, with and without a place, and where a document is a part of a file")
    func description() throws {
        let whole = JSONReader([1], path: "a.json")
        #expect(whole.error("an object").description == "a.json: found a list of 1 element, expected an object")
        let part = JSONReader(["rank": 0], path: "a.h5", place: "config")
        #expect {
            try part.int("rank", in: 1...2)
        } throws: {
            "\($0)" == "a.h5: config.rank: found 0, expected a whole number from 1 to 2"
        }
    }

    @Test("a long text is shortened")
    func long() {
        let found = JSONReader(.string(String(repeating: "x", count: 61)), path: "").error("").found
        #expect(found == "\"" + String(repeating: "x", count: 57) + "...\"")
        let short = String(repeating: "x", count: 60)
        #expect(JSONReader(.string(short), path: "").error("").found == "\"\(short)\"")
    }
}
