import JSON

/// A page of HTML that needs nothing else: no network, no other file. It shows ``ReportContents``.
///
/// The page's own text, style and program are in `Page/` and become part of the executable; results are data in it and
/// never markup, whatever the files and folders they come from are called.
public struct ReportPage {
    /// The whole file.
    public let html: String

    /// `provenance` is where the page itself comes from: tool, version, command line.
    public init(_ contents: ReportContents, title: String, provenance: JSONObject) throws {
        var data = try contents.json()
        data["title"] = .string(title)
        data["page"] = .object(provenance)
        let (style, script) = (Self.style, Self.script)
        html = Self.fill([
            "title": Self.escaped(title), "style": style, "script": script, "data": Self.embedded(.object(data)),
            "style-digest": Self.digest(style), "script-digest": Self.digest(script),
        ])
    }

    static var style: String { String(decoding: PackageResources.report_css, as: UTF8.self) }

    /// The parts of the page's program, in an order in which none uses at once what a later one defines.
    static var script: String {
        let parts = [
            PackageResources.dom_js, PackageResources.charts_js, PackageResources.saving_js,
            PackageResources.spectra_js, PackageResources.map_js, PackageResources.decay_js,
            PackageResources.lowrank_js,
            PackageResources.training_js, PackageResources.report_js,
        ]
        return parts.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "\n")
    }

    /// The frame with each `{{name}}` replaced. What is put in is not looked at again.
    private static func fill(_ values: [String: String]) -> String {
        let frame = String(decoding: PackageResources.page_html, as: UTF8.self)
        var result = ""
        var rest = frame[...]
        while let match = rest.firstMatch(of: /\{\{([a-z-]+)\}\}/) {
            guard let value = values[String(match.1)] else { preconditionFailure("no value for {{\(match.1)}}") }
            result += rest[..<match.range.lowerBound] + value
            rest = rest[match.range.upperBound...]
        }
        return result + rest
    }

    /// Text as content of an element.
    static func escaped(_ text: String) -> String {
        text.reduce(into: "") { result, character in
            switch character {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            default: result.append(character)
            }
        }
    }

    /// JSON as content of a script element, which nothing in it can end.
    static func embedded(_ value: JSONValue) -> String {
        var output: [UInt8] = []
        for byte in value.serialized() {
            if byte == UInt8(ascii: "<") { output += "\\u003c".utf8 } else { output.append(byte) }
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// What a Content-Security-Policy calls a text that it lets run.
    static func digest(_ text: String) -> String {
        let digest = Array(text.utf8).withUnsafeBytes { sha256($0) }
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var output: [UInt8] = []
        for start in stride(from: 0, to: digest.count, by: 3) {
            let group = digest[start..<min(start + 3, digest.count)]
            let bits = group.reduce(0) { $0 << 8 | Int($1) } << (8 * (3 - group.count))
            for place in 0..<4 {
                output.append(place <= group.count ? alphabet[bits >> (18 - 6 * place) & 63] : UInt8(ascii: "="))
            }
        }
        return "sha256-" + String(decoding: output, as: UTF8.self)
    }
}
