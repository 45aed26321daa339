import Foundation
import JSON
import Testing

@testable import Checkpoints

@Suite("The notebook")
struct NotebookTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("notebooks-data").path

    /// Runs a shell command there; its exit code, and what it said.
    private static func shell(_ command: String) throws -> (status: Int32, text: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", command]
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        process.standardInput = FileHandle.nullDevice
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let bytes = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: bytes, as: UTF8.self))
    }

    /// A Python that runs notebooks: the one on the PATH, or the system's, for which `scripts/setup --test` installs.
    private static let python: String? = ["python3", "/usr/bin/python3"].first { python in
        let found = try? shell("\(python) -c 'import nbconvert, ipykernel, pandas, matplotlib'")
        return found?.status == 0
    }

    @Test(
        "It runs from the first cell to the last on the files that come with it, and draws",
        .enabled(if: python != nil, "needs Python's nbconvert, ipykernel, pandas and matplotlib"))
    func execution() throws {
        let workplace = try Workplace()
        let python = try #require(Self.python)
        let outcome = try Self.shell(
            "\(python) -m nbconvert --to notebook --execute --output-dir '\(workplace.path)' figure-2.ipynb")
        try #require(outcome.status == 0, "\(outcome.text)")
        let notebook = try JSONValue(parsing: try workplace.text("figure-2.ipynb"))
        let cells = try #require(notebook["cells"]?.arrayValue).filter { $0["cell_type"]?.stringValue == "code" }
        let outputs = cells.flatMap { $0["outputs"]?.arrayValue ?? [] }
        #expect(cells.count >= 5)
        #expect(outputs.count { $0["data"]?["image/png"] != nil } >= 5)
        #expect(outputs.allSatisfy { ["display_data", "execute_result"].contains($0["output_type"]?.stringValue) })
    }

    @Test("It is kept with what it drew")
    func figures() throws {
        let text = try String(contentsOfFile: "\(Self.folder)/figure-2.ipynb", encoding: .utf8)
        let cells = try #require(try JSONValue(parsing: text)["cells"]?.arrayValue)
        let images = cells.flatMap { $0["outputs"]?.arrayValue ?? [] }.count { $0["data"]?["image/png"] != nil }
        #expect(images >= 5)
    }

    @Test("The table in the study's README is arms.csv, and so are the figures of the main one")
    func studyTable() throws {
        func rows(_ file: String, after heading: String) throws -> [[String]] {
            let text = try String(contentsOfFile: "\(Self.folder)/\(file)", encoding: .utf8)
            let lines = text[try #require(text.range(of: heading)).upperBound...].split(separator: "\n")
            return lines.drop { !$0.hasPrefix("|") }.prefix { $0.hasPrefix("|") }.map { line in
                line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces).replacing(",", with: "") }
            }
        }
        let csv = try String(contentsOfFile: "\(Self.folder)/study/arms.csv", encoding: .utf8)
        let arms = csv.split(separator: "\n").map { $0.split(separator: ",").map(String.init) }
        try #require(arms.count == 8)
        let table = try rows("study/README.md", after: "## Results")
        #expect(table.dropFirst(2).elementsEqual(arms.dropFirst()))
        // The main table has some of the columns: parameters, FLOPs, tokens/s, perplexity.
        let columns = try ["arm", "parameters", "tokens_per_second", "evaluation_perplexity"].map {
            try #require(arms[0].firstIndex(of: $0))
        }
        let main = try rows("../README.md", after: "## Does CoLA learn as well?").dropFirst(2)
        #expect(main.map { [$0[0], $0[2], $0[4], $0[5]] } == arms.dropFirst().map { arm in columns.map { arm[$0] } })
    }
}
