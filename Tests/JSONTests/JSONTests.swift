import Tensors
import Testing

@testable import JSON

@Suite("JSON") struct JSONTests {
    @Test("values of every kind are read, with the order of members kept")
    func reads() throws {
        let text = #" {"b": [1, -0, 2.5e-1, "a\n\u00e9\ud83d\ude00\/", true, false, null], "a": {}, "é": [] } "#
        let value = try JSONValue(parsing: text)
        #expect(value.objectValue?.members.map(\.key) == ["b", "a", "é"])
        #expect(value["b"] == [1, -0.0, 0.25, "a\né😀/", true, false, nil])
        #expect(value["a"] == [:])
        #expect(value["b"]?[0]?.intValue == 1)
        #expect(value["b"]?[2]?.intValue == nil)
        #expect(value["b"]?[0]?.doubleValue == 1)
        #expect(value["missing"] == nil)
        #expect(value["b"]?[7] == nil)
    }

    @Test("numbers of Python that are not finite, where they are allowed")
    func nonFinite() throws {
        let text = #"{"a":[NaN,Infinity,-Infinity,1e999,-1]}"#
        let value = try JSONValue(parsing: text, allowsNonFinite: true)
        let numbers = value["a"]?.arrayValue?.compactMap(\.doubleValue) ?? []
        #expect(numbers.count == 5 && numbers[0].isNaN)
        #expect(Array(numbers.dropFirst()) == [.infinity, -.infinity, .infinity, -1])
        #expect(value.text(writesNonFinite: true) == #"{"a":[NaN,Infinity,-Infinity,Infinity,-1]}"#)
        #expect(value.text() == #"{"a":[null,null,null,null,-1]}"#)
        for text in ["NaN", "Infinity", "-Infinity", "1e999", "[NaN]"] {
            #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
        }
        for text in ["Nan", "nan", "+Infinity", "-NaN", "Inf", "- Infinity", "-I"] {
            #expect(throws: JSONError.self) { try JSONValue(parsing: text, allowsNonFinite: true) }
        }
    }

    @Test("integers end at 64 bits")
    func integers() throws {
        #expect(try JSONValue(parsing: "9223372036854775807") == .integer(.max))
        #expect(try JSONValue(parsing: "-9223372036854775808") == .integer(.min))
        #expect(try JSONValue(parsing: "9223372036854775808") == .number(9223372036854775808))
        #expect(try JSONValue(parsing: "123456789012345678901234567890") == .number(1.2345678901234568e29))
    }

    @Test("canonically equivalent keys and strings are different ones")
    func bytes() throws {
        let value = try JSONValue(parsing: "{\"\u{e9}\": 1, \"e\u{301}\": 2}")
        #expect(value["\u{e9}"] == 1)
        #expect(value["e\u{301}"] == 2)
        #expect(JSONValue.string("\u{e9}") != .string("e\u{301}"))
        #expect(try JSONValue(parsing: "[\"\\u0000\"]")[0] == "\0")
    }

    @Test(
        "an error names the place",
        arguments: [
            ("", 0), ("[1,]", 3), ("[1 2]", 3), ("{\"a\" 1}", 5), ("{a: 1}", 1), ("\"abc", 0), ("\"a\u{1}\"", 2),
            ("01", 0), ("-", 1), ("1.", 2), ("1e", 2), ("1e999", 0), ("tru", 0), ("[] []", 3), ("\"\\x\"", 2),
            ("\"\\ud800\"", 7), ("\"\\udc00\"", 7), ("\"\\ud800\\u0041\"", 13), ("\"\\u12g4\"", 5), ("NaN", 0),
            ("{\"a\":1,\"a\":2}", 12), ("\u{feff}1", 0), ("\"\\", 0), ("{", 1), ("[", 1),
        ])
    func errors(text: String, offset: Int) {
        #expect { try JSONValue(parsing: text) } throws: { ($0 as? JSONError)?.offset == offset }
    }

    @Test("line and column of an error")
    func position() {
        #expect(throws: JSONError(offset: 9, line: 2, column: 6, reason: "found 'x', expected a value")) {
            try JSONValue(parsing: "[1,\n  2, x]")
        }
    }

    @Test("bad UTF-8 is refused, plain and beside an escape")
    func badUTF8() {
        #expect(throws: JSONError.self) { try JSONValue(parsing: [0x22, 0xC3, 0x28, 0x22]) }
        #expect(throws: JSONError.self) { try JSONValue(parsing: [0x22, 0x5C, 0x6E, 0xFF, 0x22]) }
    }

    @Test("a duplicate among many keys is found")
    func duplicates() {
        let keys = (0..<1000).map { "\"k\($0)\":1" }
        #expect(throws: Never.self) { try JSONValue(parsing: "{" + keys.joined(separator: ",") + "}") }
        #expect(throws: JSONError.self) {
            try JSONValue(parsing: "{" + (keys + ["\"k500\":2"]).joined(separator: ",") + "}")
        }
    }

    @Test("nesting ends at the limit")
    func depth() {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(throws: Never.self) { try JSONValue(parsing: nested(JSONValue.maximumDepth + 1)) }
        #expect(throws: JSONError.self) { try JSONValue(parsing: nested(JSONValue.maximumDepth + 2)) }
        #expect(throws: JSONError.self) { try JSONValue(parsing: String(repeating: "[", count: 1_000_000)) }
    }

    @Test("what is written reads back equal", arguments: [nil, 2])
    func roundTrip(indent: Int?) throws {
        let value: JSONValue = [
            "text": "quote \" back\\slash \u{1} \n\t\r é 😀 e\u{301}", "numbers": [0.1, 1e-300, -5, 1e22, 2.5e-308],
            "empty": [:], "none": [], "nested": ["x": [nil, true]],
        ]
        #expect(try JSONValue(parsing: value.serialized(indent: indent)) == value)
        #expect(JSONValue.number(.nan).text() == "null")
        #expect((["a": [1]] as JSONValue).text(indent: 2) == "{\n  \"a\": [\n    1\n  ]\n}")
        #expect((["a": [1, 2]] as JSONValue).text() == "{\"a\":[1,2]}")
    }

    @Test("damaged text never traps")
    func fuzz() throws {
        let text = Array(#"{"a": [1, -2.5e3, "x\u00e9\ud83d\ude00"], "b": {"c": true, "d": null}, "é": "ü"}"#.utf8)
        var generator = SeededGenerator(seed: 1)
        var refused = 0
        for _ in 0..<5000 {
            var damaged = text
            if generator.next() % 4 == 0 { damaged.removeLast(Int.random(in: 1...text.count, using: &generator)) }
            for _ in 0..<Int.random(in: 1...3, using: &generator) where !damaged.isEmpty {
                damaged[Int.random(in: 0..<damaged.count, using: &generator)] = UInt8(
                    truncatingIfNeeded: generator.next())
            }
            do { _ = try JSONValue(parsing: damaged) } catch { refused += 1 }
        }
        #expect(refused > 2500)
    }
}
