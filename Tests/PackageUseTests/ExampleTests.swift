import Checkpoints
import Foundation
import Tensors
import TestSupport
import Testing
import Transformer

/// The package as its users have it: the README's example, as a package of its own that scripts/test builds.
@Suite struct ExampleTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..").standardized
    private static let builtExample = ProcessInfo.processInfo.environment["COLA_EXAMPLE"]

    private static func text(_ path: String) throws -> String {
        try String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    @Test func theReadmeShowsTheExampleAsItIsBuilt() throws {
        let blocks = try Self.text("README.md").components(separatedBy: "```swift\n").dropFirst()
            .map { $0.components(separatedBy: "```")[0] }
        #expect(blocks.contains(try Self.text("Tests/ExamplePackage/Sources/effective-ranks/main.swift")))
    }

    /// SwiftPM refuses a dependency with such flags, but only one with a version, which a package in the same tree has not.
    @Test func nothingKeepsThePackageFromBeingADependency() throws {
        #expect(!(try Self.text("Package.swift").contains("unsafeFlags")))
    }

    @Test(.enabled(if: builtExample != nil, "scripts/test builds the example and sets COLA_EXAMPLE"))
    func theExampleFindsTheRankOfEveryModule() throws {
        let folder = try TemporaryFolder()
        let (model, text) = (folder.file("model.h5"), folder.file("text.txt"))
        try writeModel(to: model)
        try String(repeating: "The state of the union is strong. ", count: 40).write(
            toFile: text, atomically: true, encoding: .utf8)

        let lines = try run(Self.builtExample!, [model, text]).split(separator: "\n").map(String.init)
        try #require(lines.count == 6)
        #expect(lines[0] == "layer 0 self_attn.q_proj: 1 of 12")
        #expect(lines[1] == "layer 0 mlp.up_proj: 2 of 20")
        #expect(lines[2].hasPrefix("layer 0 mlp.down_proj: ") && lines[2].hasSuffix(" of 12"))
        #expect(lines[3] == "layer 1 self_attn.q_proj: 1 of 12")
    }

    /// A decoder with random weights, but for q of rank 1 and up of rank 2.
    private func writeModel(to path: String) throws {
        let tokenizer = [UInt8](
            try Data(contentsOf: Self.root.appending(path: "Tests/TokenizersTests/Fixtures/smollm2.json")))
        let config = """
            {"model_type": "llama", "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2, \
            "num_attention_heads": 3, "vocab_size": 2000, "tie_word_embeddings": true}
            """
        let names = ModelWeights(try ModelDescription(json: config, path: path), precision: nil)
        let writer = try CheckpointWriter(
            path: path, configuration: config, provenance: "{}", tokenizer: .tokenizerJSON(tokenizer))
        var generator = SeededGenerator(seed: 7)
        for parameter in names.parameters {
            let (name, weight) = (parameter.name, parameter.weight)
            let tensor = Matrix.normal(shape: weight.shape, using: &generator)
            if weight.shape.count == 1 { tensor.buffer.update(repeating: 1) }
            let rank = name.contains("q_proj") ? 1 : name.contains("up_proj") ? 2 : weight.rows
            for row in rank..<max(rank, weight.rows) {
                tensor.view.row(row).update(from: tensor.view.row(row % rank), count: weight.columns)
            }
            try writer.write(name, tensor)
        }
        try writer.finish()
    }

    private func run(_ program: String, _ arguments: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        return String(decoding: data, as: UTF8.self)
    }
}
