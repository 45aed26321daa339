import Foundation
import JSON
import TestSupport
import Testing

/// A Chromium without a window.
struct Browser {
    static let path: String? = {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        let paths = ["chromium", "chromium-browser", "google-chrome"].flatMap { name in folders.map { "\($0)/\(name)" }
        }
        return paths.first(where: FileManager.default.isExecutableFile)
    }()

    /// What a page has become, and what was said on its console.
    struct Outcome {
        let page: String
        let console: [Substring]

        /// What a probe found: a script in the page that calls `report` with a value.
        func result() throws -> JSONValue {
            let match = try #require(page.firstMatch(of: /<pre id="probe">([^<]*)<\/pre>/), "no result: \(console)")
            let text = try #require(String(match.1).removingPercentEncoding)
            return try JSONValue(parsing: text)
        }
    }

    /// Loads a page, with what it loads and opens, to its end.
    func load(_ path: String, fragment: String = "", _ arguments: String...) throws -> Outcome {
        let folder = try TemporaryFolder()
        let address = URL(fileURLWithPath: path).absoluteString + fragment
        try run(arguments + ["--dump-dom", address], in: folder)
        let errors = try folder.text("errors").split(separator: "\n")
        return Outcome(page: try folder.text("output"), console: errors.filter { $0.contains("CONSOLE") })
    }

    /// The page on paper, as PDF.
    func print(_ path: String) throws -> [UInt8] {
        let folder = try TemporaryFolder()
        let address = URL(fileURLWithPath: path).absoluteString
        try run(
            ["--no-pdf-header-footer", "--print-to-pdf=\(folder.file("page.pdf"))", address], in: folder)
        return try folder.bytes("page.pdf")
    }

    private func run(_ arguments: [String], in folder: TemporaryFolder) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(Self.path))
        process.arguments =
            [
                "--headless=new", "--disable-gpu", "--no-sandbox", "--no-first-run", "--disable-extensions",
                "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0",
                "--user-data-dir=\(folder.file("profile"))",
            ] + arguments
        for name in ["output", "errors"] { try folder.write("", name) }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: folder.file("output")))
        process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: folder.file("errors")))
        let ended = DispatchSemaphore(value: 0)
        process.terminationHandler = { _ in ended.signal() }
        try process.run()
        if ended.wait(timeout: .now() + 60) == .timedOut {
            kill(process.processIdentifier, SIGKILL)
            ended.wait()
            Issue.record("the browser was still running after a minute")
        }
    }

    /// A script that keeps a page from being loaded to its end: a document inside of it that is still open.
    static let hold = """
        const hold = document.createElement('iframe');
        hold.hidden = true;
        document.body.append(hold);
        hold.contentDocument.open();
        """

    /// The page with a script at its end, and without the policy that would not let it run. The script may use
    /// `report`, and whatever the page defines.
    static func probed(_ html: String, _ script: String) -> String {
        let tag = html.firstRange(of: /<meta http-equiv="Content-Security-Policy"[^>]*>/)
        var page = html
        if let tag { page.removeSubrange(tag) }
        return page.replacing(
            "</body>",
            with: """
                <script>
                \(hold)
                function report(value) {
                  document.body.append(element('pre', { id: 'probe' }, encodeURIComponent(JSON.stringify(value))));
                  if (parent !== window) parent.postMessage(value, '*');
                  hold.contentDocument.close();
                }
                (async () => { \(script) })().catch((error) => report({ error: String(error) }));
                </script></body>
                """)
    }
}
