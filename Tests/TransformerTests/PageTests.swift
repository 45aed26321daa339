import Foundation
import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

/// What the pages for readers of this library say about its code.
@Suite("Pages about the families and the library")
struct PageTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..").standardized

    private static func text(_ path: String) throws -> String {
        try String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    /// The blocks of Swift code on a page, each with what stands behind "swift" in its first line.
    private static func blocks(_ page: String) -> [(label: String, code: String)] {
        page.components(separatedBy: "\n```swift").dropFirst().map { block in
            let lines = block.components(separatedBy: "\n```")[0].components(separatedBy: "\n")
            return (lines[0].trimmingCharacters(in: .whitespaces), lines.dropFirst().joined(separator: "\n"))
        }
    }

    @Test("Every block of code about adding a family stands in the file that it names")
    func quotations() throws {
        let blocks = Self.blocks(try Self.text("docs/adding-a-family.md"))
        #expect(blocks.count > 8)
        for (path, code) in blocks {
            // Whole lines, and more than a word.
            let file = "\n" + (try Self.text(path))
            #expect(code.count > 40 && file.contains("\n\(code)\n"), "not in \(path):\n\(code)")
        }
    }

    @Test("Files and suites that the page names are there")
    func names() throws {
        let page = try Self.text("docs/adding-a-family.md")
        var files: Set<String> = []
        for folder in ["Sources", "Tests"] {
            let paths = FileManager.default.enumerator(atPath: Self.root.appending(path: folder).path)
            for case let path as String in try #require(paths) { files.insert((path as NSString).lastPathComponent) }
        }
        let words = page.split { !$0.isLetter && !$0.isNumber && $0 != "." }.map(String.init)
        let sources = words.filter { $0.hasSuffix(".swift") && !["Package.swift", ".swift"].contains($0) }
        let suites = words.filter { $0.hasSuffix("Tests") && $0 != "Tests" && !$0.hasPrefix("Transformer") }
            .filter { $0 != "CheckpointsTests" }
        #expect(sources.count >= 5 && suites.count >= 4)
        for name in sources + suites.map({ $0 + ".swift" }) {
            #expect(files.contains(name), "\(name)")
        }
    }

    @Test("Links of the pages lead somewhere", arguments: ["docs/adding-a-family.md", "docs/glossary.md"])
    func links(page: String) throws {
        let text = try Self.text(page)
        let links = text.matches(of: #/\]\(([^)#]+)?(#[^)]+)?\)/#)
        #expect(!links.isEmpty)
        for link in links {
            let path = link.1.map { "docs/\($0)" } ?? page
            let target = try Self.text(path)
            guard let anchor = link.2?.dropFirst() else { continue }
            let headings = target.components(separatedBy: "\n").filter { $0.hasPrefix("#") }.map { heading in
                heading.drop { $0 == "#" || $0 == " " }.lowercased().filter {
                    $0.isLetter || $0.isNumber || " -".contains($0)
                }
                .replacingOccurrences(of: " ", with: "-")
            }
            #expect(headings.contains(String(anchor)), "\(page): \(path)#\(anchor)")
        }
    }

    // MARK: - The library's article

    @Test("The article's code stands here, where it is compiled and run")
    func article() throws {
        func lines(_ text: some StringProtocol) -> [String] {
            text.components(separatedBy: "\n").map {
                $0.components(separatedBy: "  //")[0].trimmingCharacters(in: .whitespaces)
            }
        }
        let here = Set(lines(try Self.text("Tests/TransformerTests/PageTests.swift")))
        let blocks = Self.blocks(try Self.text("Sources/Transformer/Transformer.docc/Transformer.md"))
        #expect(blocks.count == 4)
        for line in blocks.flatMap({ lines($0.code) }) { #expect(here.contains(line), "\(line)") }
    }

    final class Largest: ActivationObserver {
        var value: Float = 0

        func observe(_ site: ActivationSite, block: Int, _ activations: MatrixView<Float>) {
            guard site == .residualOutput else { return }
            for row in 0..<activations.rows {
                for column in 0..<activations.columns { value = max(value, abs(activations[row, column])) }
            }
        }
    }

    @Test("The article's code says what the reference says")
    func articleRuns() throws {
        let reference = FamilyReference(testDescription: "gemma3")
        let path = reference.folder
        let (sequences, expected) = try reference.sequences()
        let (first, second) = (sequences[0][...], sequences[1][...])
        let targets: [UInt32?] = sequences.flatMap { $0.dropFirst().map { $0 } + [nil] }
        let batch = TokenBatch([first, second])

        let model = try LanguageModel(from: openModel(path))
        let workspace = Workspace(model, maximumTokens: 1024, longestSequence: 512)
        let hidden = model.forward(TokenBatch([first, second]), in: workspace)
        let losses = VocabularyHead(model).losses(of: hidden, targets: targets)
        let known = losses.compactMap { $0 }
        expectClose([known.reduce(0, +) / Double(known.count)], [expected], within: 1e-6 * expected, "loss")

        let description = try ModelDescription(of: openModel(path))
        var printed: [String] = []
        func print(_ id: LinearLayer.ID, _ inputs: Int, _ outputs: Int, _ rank: Int) {
            printed.append("\(id) \(inputs) \(outputs) \(rank)")
        }
        for linear in description.linears where linear.role == .down {
            print(linear.id, linear.inputs, linear.outputs, linear.rank ?? 0)
        }
        let (width, hiddenSize) = (description.blocks[0].feedForward.width, description.hiddenSize)
        #expect(printed == description.blocks.indices.map { "layer \($0) mlp.down_proj \(width) \(hiddenSize) 0" })

        let largest = Largest()
        model.forward(batch, in: workspace, observer: largest)
        let last = copied(workspace.hiddenStates(rows: batch.count)).map(abs).max() ?? 0
        #expect(Double(largest.value) >= last && last > 0)

        let gradients = ModelWeights(like: model.weights, precision: .f32)
        let training = TrainingWorkspace(model, mode: .checkpoint, maximumTokens: 1024, longestSequence: 512)
        let sum = model.lossAndGradients(
            of: batch, targets: targets, scale: 1 / Double(targets.count { $0 != nil }), in: training,
            ModelGradients(into: gradients))
        expectClose([sum / Double(known.count)], [expected], within: 1e-6 * expected, "loss")
    }
}
