import Foundation
import TestSupport
import Testing

@Suite("cola-convert: formats and tokens")
struct ConvertTests {
    let workplace: Workplace

    init() throws { workplace = try Workplace() }

    private func expectSameLogits(_ checkpoints: [String], sourceLocation: SourceLocation = #_sourceLocation) throws {
        try workplace.write(TinyModel.text(200), "text.txt")
        let expected = try workplace.logits(of: checkpoints[0], "--text", "text.txt")
        #expect(expected.floats.allSatisfy(\.isFinite) && Set(expected.floats.prefix(300)).count > 250)
        for checkpoint in checkpoints.dropFirst() {
            let found = try workplace.logits(of: checkpoint, "--text", "text.txt")
            #expect(found.shape == expected.shape, "\(checkpoint)", sourceLocation: sourceLocation)
            expectEqual(found.data, expected.data, "\(checkpoint)", sourceLocation: sourceLocation)
        }
    }

    @Test("A model imported from any format, in any type that holds it, gives the same logits to the bit")
    func imports() throws {
        let model = TinyModel.dense
        try model.writeCheckpoint(workplace.file("own.h5"))
        try model.writeFolder(workplace, "hf")
        try model.writeFolder(workplace, "hf-bf16", type: "BF16")
        try workplace.write(model.gguf, "model.gguf")
        var checkpoints = ["own.h5", "hf", "model.gguf", "hf/model.safetensors"]
        for (source, type) in [
            ("own.h5", "bf16"), ("hf", "f32"), ("hf-bf16", "f16"), ("model.gguf", "f32"), ("model.gguf", "bf16"),
            ("hf/model.safetensors", "f16"),
        ] {
            let output = "\(source.replacing("/", with: "-"))-\(type).h5"
            let result = try workplace.json(.convert, "import", source, output, "--dtype", type, "--quiet")
            #expect(result["parameters"]?.intValue == model.parameters)
            #expect(result["output"]?["sha256"]?.stringValue?.utf8.count == 64)
            checkpoints.append(output)
        }
        try expectSameLogits(checkpoints)
    }

    @Test("inspect counts what is in the file, in every format", arguments: ["h5", "gguf", "folder", "safetensors"])
    func inspects(_ format: String) throws {
        let model = TinyModel.dense
        var path = "model.\(format)"
        switch format {
        case "h5": try model.writeCheckpoint(workplace.file(path))
        case "gguf": try workplace.write(model.gguf, path)
        default:
            try model.writeFolder(workplace, "hf")
            path = format == "folder" ? "hf" : "hf/model.safetensors"
        }
        let facts = try workplace.json(.convert, "inspect", path)
        #expect(facts["parameters"]?.intValue == model.parameters)
        #expect(facts["stored_bytes"]?.intValue.map { $0 >= model.parameters * 4 } == true)
        #expect(facts["tensors"]?.arrayValue?.count == model.tensors.count)
        #expect(facts["architecture"]?.stringValue == "llama, 2 layers")
        #expect(facts["kind"]?.stringValue == "dense, 14 linear layers")
        #expect(facts["config"]?["hidden_size"]?.intValue == TinyModel.hidden)
        #expect(facts["config"]?["head_dim"]?.intValue == 10)
        #expect(facts["tokenizer"]?.stringValue?.hasPrefix("tokenizer.json, ") == true)
        let text = try workplace.succeed(.convert, "inspect", path)
        #expect(text.contains("parameters    24,120\n") && model.parameters == 24_120)
        for tensor in model.tensors { #expect(text.contains(tensor.name)) }
    }

    @Test("inspect of a CoLA model says its ranks")
    func inspectsCoLA() throws {
        try TinyModel.cola.writeCheckpoint(workplace.file("cola.h5"))
        let facts = try workplace.json(.convert, "inspect", "cola.h5")
        #expect(facts["kind"]?.stringValue == "CoLA, 14 low-rank layers, ranks 5")
        #expect(facts["parameters"]?.intValue == TinyModel.cola.parameters)
    }

    @Test("Export and import again leave the logits as they are, to the bit")
    func exports() throws {
        try TinyModel.dense.writeCheckpoint(workplace.file("own.h5"))
        for type in ["f32", "f16", "bf16"] {
            let result = try workplace.json(.convert, "export", "own.h5", type, "--dtype", type, "--quiet")
            #expect(result["layout"]?.stringValue == "dense")
            #expect(result["files"]?.arrayValue?.count == 4)
            try workplace.succeed(.convert, "import", type, "\(type).h5", "--quiet")
        }
        try expectSameLogits(["own.h5", "f32.h5", "f16.h5", "bf16.h5", "f16"])
    }

    @Test("A CoLA model goes out under either name scheme of the published code and comes back the same")
    func exportsCoLA() throws {
        try TinyModel.cola.writeCheckpoint(workplace.file("own.h5"))
        for layout in ["cola", "cola-m"] {
            try workplace.succeed(.convert, "export", "own.h5", layout, "--layout", layout, "--quiet")
            try workplace.succeed(.convert, "import", layout, "\(layout).h5", "--quiet")
        }
        let names = try workplace.json(.convert, "inspect", "cola-m.h5")["tensors"]?.arrayValue ?? []
        #expect(names.compactMap { $0["name"]?.stringValue }.sorted() == TinyModel.cola.tensors.map(\.name).sorted())
        #expect(try workplace.text("cola-m/config.json").contains("ColaMForCausalLM"))
        try expectSameLogits(["own.h5", "cola.h5", "cola-m.h5"])
    }

    @Test("Export into a folder that holds a model needs --replace, and then replaces it")
    func exportReplaces() throws {
        try TinyModel.dense.writeCheckpoint(workplace.file("own.h5"))
        try workplace.succeed(.convert, "export", "own.h5", "hf", "--quiet")
        try workplace.refuse(73, .convert, ["export", "own.h5", "hf", "--quiet"], mentions: ["hf: ", "not empty"])
        try workplace.succeed(.convert, "export", "own.h5", "hf", "--replace", "--dtype", "bf16", "--quiet")
        try expectSameLogits(["own.h5", "hf"])
    }

    @Test("Tokens written in any format give the same perplexity as the text, to the bit")
    func tokens() throws {
        try TinyModel.dense.writeCheckpoint(workplace.file("own.h5"))
        let text = TinyModel.text(500)
        try workplace.write(text, "text.txt")
        let expected = try workplace.json(.analyze, "perplexity", "own.h5", "--text", "text.txt", "--quiet")
        for output in ["a.npy", "a.u16", "a.u32", "a.h5", "b.h5:/train/tokens"] {
            let made = try workplace.json(
                .convert, "tokenize", "text.txt", "--tokenizer", "own.h5", "--out", output, "--quiet")
            #expect(made["bytes"]?.intValue == text.utf8.count)
            let count = try #require(made["tokens"]?.intValue)
            #expect(count > 100 && count < text.utf8.count)
            let found = try workplace.json(.analyze, "perplexity", "own.h5", "--tokens", output, "--quiet")
            #expect(found["tokens"]?.intValue == count - 1)
            for key in ["perplexity", "nats_per_token", "tokens"] { #expect(found[key] == expected[key], "\(output)") }
        }
        // The same ids in each.
        let ids = try NumpyArray(try workplace.bytes("a.npy"))
        #expect(ids.type == "<u2")
        try expectEqual(ids.data, workplace.bytes("a.u16"))
        #expect(ids.shorts.map { TinyModel.pieces[Int($0)] }.joined().hasPrefix("The"))
        try expectEqual(workplace.bytes("a.u32"), ids.shorts.flatMap { littleEndian(UInt32($0)) })
    }

    @Test("The tokenizer may be a tokenizer.json, a GGUF file or a folder; several texts follow one another")
    func tokenizers() throws {
        try TinyModel.dense.writeFolder(workplace, "hf")
        try workplace.write(TinyModel.dense.gguf, "model.gguf")
        try workplace.write("in the ", "1.txt")
        try workplace.write("band\n", "2.txt")
        var files: [[UInt8]] = []
        for tokenizer in ["hf/tokenizer.json", "model.gguf", "hf"] {
            try workplace.succeed(
                .convert, "tokenize", "1.txt", "2.txt", "--tokenizer", tokenizer, "--out", "a.u16", "--quiet")
            files.append(try workplace.bytes("a.u16"))
        }
        let pieces = ["in", "Ġthe", "Ġ", "b", "and", "Ċ"]
        let expected = pieces.flatMap { littleEndian(UInt16(TinyModel.pieces.firstIndex(of: $0)!)) }
        for file in files { expectEqual(file, expected) }
    }

    @Test("The same import twice gives the same bytes, but for the name of the output")
    func importsAgain() throws {
        try TinyModel.dense.writeFolder(workplace, "hf")
        var files: [[UInt8]] = []
        for _ in 0..<2 {
            try workplace.succeed(.convert, "import", "hf", "a.h5", "--dtype", "bf16", "--deflate", "4", "--quiet")
            files.append(try workplace.bytes("a.h5"))
        }
        expectEqual(files[0], files[1])
    }

    @Test("Help of every command shows an example", arguments: [Tool.analyze, .convert])
    func help(_ tool: Tool) throws {
        let commands =
            tool == .analyze
            ? ["spectrum", "perplexity", "logits", "bench"] : ["inspect", "import", "export", "tokenize"]
        let overview = try workplace.succeed(tool, "--help")
        for command in commands {
            #expect(overview.contains("  \(command)"))
            let help = try workplace.succeed(tool, command, "--help")
            #expect(help.contains("Example:\n  \(tool.rawValue) \(command) ") && help.contains("USAGE: "))
        }
        #expect(overview.contains("Example:\n  \(tool.rawValue) ") && overview.contains("Exit codes: 0 done, 64"))
        #expect(try workplace.succeed(tool, "--version").contains(/^\d+\.\d+\.\d+\n$/))
    }
}
