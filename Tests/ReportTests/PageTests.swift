import JSON
import TestSupport
import Testing

@testable import Report

@Suite("The page of a report")
struct PageTests {
    @Test("Text cannot become markup, and data cannot end its element")
    func escaping() throws {
        #expect(ReportPage.escaped("a<b>&\"c\"") == "a&lt;b&gt;&amp;\"c\"")
        let value: JSONValue = ["</script><!--<script>": ["x<y", "\u{2028}"]]
        let text = ReportPage.embedded(value)
        #expect(!text.contains("<") && text.contains("\\u003c/script>\\u003c!--\\u003cscript>"))
        #expect(try JSONValue(parsing: text) == value)
    }

    @Test("Digests are those of SHA-256, in base 64")
    func digests() {
        #expect(ReportPage.digest("") == "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
        #expect(ReportPage.digest("abc") == "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=")
    }

    @Test("A page is one file that asks for nothing, and the same for the same results")
    func page() throws {
        let folder = try TemporaryFolder()
        let hostile = "{{script}}<img src=x onerror=alert(1)>"
        try Samples.writeSpectra(folder, hostile)
        let contents = try ReportContents(folders: [folder.file(hostile)])
        func make() throws -> String { try ReportPage(contents, title: "<b>{{data}}", provenance: ["tool": "t"]).html }
        let html = try make()
        try expectEqual(make(), html)
        #expect(!html.contains("<img") && !html.contains("<b>") && html.contains("<title>&lt;b&gt;{{data}}</title>"))
        #expect(html.contains("{{script}}\\u003cimg src=x onerror=alert(1)>"))
        // Nothing is fetched: no address but the name of SVG's namespace, which is not one that is opened.
        let addresses = html.matches(of: /(https?:)?\/\/[a-z][\w.\/]*/).map { String($0.output.0) }
        #expect(Set(addresses.filter { $0.contains(":") }) == ["http://www.w3.org/2000/svg"])
        for forbidden in [
            "@import", "url(", "<link", " src=\"", "innerHTML", "outerHTML", "insertAdjacentHTML", "eval(",
        ] {
            #expect(!html.contains(forbidden), "\(forbidden)")
        }
    }
}
