import Foundation
import JSON
import Testing

/// Models as other programs leave them: more or fewer tensors than a decoder has, other names, other types.
@Suite("Models with odd parts")
struct OddModelTests {
    let workplace: Workplace
    private let model = TinyModel.dense

    init() throws {
        workplace = try Workplace(textBytes: 200)
        try workplace.succeed(
            .convert, "tokenize", "text.txt", "--tokenizer", "own.h5", "--out", "t.npy", "--quiet")
    }

    /// A tensor that no decoder has.
    private struct Extra {
        let name: String
        var type = "F32"
        var shape = [2]
        var bytes = [UInt8](repeating: 63, count: 8)
    }

    private func folder(_ model: TinyModel, _ name: String = "hf", _ extras: Extra...) throws {
        try model.writeFolder(workplace, name)
        let bytes = model.safetensors()
        let length = bytes[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
        var header = try #require(try JSONValue(parsing: Array(bytes[8..<8 + length])).objectValue)
        var data = Array(bytes[(8 + length)...])
        for extra in extras {
            header[extra.name] = [
                "dtype": .string(extra.type), "shape": .array(extra.shape.map { .integer($0) }),
                "data_offsets": [.integer(data.count), .integer(data.count + extra.bytes.count)],
            ]
            data += extra.bytes
        }
        let text = JSONValue.object(header).serialized()
        try workplace.write(littleEndian(UInt64(text.count)) + text + data, "\(name)/model.safetensors")
    }

    private func without(_ names: String...) -> TinyModel {
        var copy = model
        copy.tensors.removeAll { names.contains($0.name) }
        return copy
    }

    /// The logits are those of the whole dense model to the bit, and no word is said but `warning`.
    private func expectSame(
        _ checkpoint: String, as other: String = "own.h5", warning: String? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let expected = try workplace.logits(of: other, "--tokens", "t.npy")
        let outcome = try workplace.run(
            .analyze, "logits", checkpoint, "--tokens", "t.npy", "--out", "odd.npy", "--quiet")
        try #require(outcome.status == 0, "\(outcome)", sourceLocation: sourceLocation)
        let found = try NumpyArray(try workplace.bytes("odd.npy"))
        #expect(found.shape == expected.shape, sourceLocation: sourceLocation)
        #expect(found.data == expected.data, "other logits of \(checkpoint)", sourceLocation: sourceLocation)
        if let warning {
            #expect(outcome.errors.contains(warning), "\(outcome)", sourceLocation: sourceLocation)
        }
        #expect(outcome.errorLines == [], "\(outcome)", sourceLocation: sourceLocation)
        #expect(outcome.errors.isEmpty == (warning == nil), "\(outcome)", sourceLocation: sourceLocation)
    }

    private func tensors(of checkpoint: String) throws -> [String: JSONValue] {
        let facts = try workplace.json(.convert, "inspect", checkpoint)
        let list = facts["tensors"]?.arrayValue ?? []
        return Dictionary(uniqueKeysWithValues: list.map { ($0["name"]?.stringValue ?? "", $0) })
    }

    // MARK: - Heads

    @Test("A tied model that kept the head's name only, and what import and export make of it")
    func tied() throws {
        let tied = without("lm_head.weight").configured([("tie_word_embeddings", true)])
        try folder(tied, "whole")
        try folder(
            tied.changing("model.embed_tokens.weight") { $0.name = "lm_head.weight" }, "head")
        try expectSame("head", as: "whole")
        try workplace.succeed(.convert, "import", "head", "head.h5", "--quiet")
        try workplace.succeed(.convert, "export", "head", "copy", "--quiet")
        for name in ["head.h5", "copy"] {
            try expectSame(name, as: "whole")
            #expect(try tensors(of: name).keys.contains("model.embed_tokens.weight"), "\(name)")
        }
        #expect(try tensors(of: "head").keys.contains("lm_head.weight"))
    }

    @Test("A head of other values than the embedding to which it is tied is used, kept, and spoken of once")
    func untied() throws {
        try folder(model.configured([("tie_word_embeddings", true)]))
        let words = "warning: hf: lm_head.weight has other values than the embedding"
        try expectSame("hf", warning: words)
        #expect(try workplace.run(.convert, "import", "hf", "in.h5", "--quiet").errors.hasPrefix(words))
        #expect(try workplace.run(.convert, "export", "hf", "out", "--quiet").errors.hasPrefix(words))
        for name in ["in.h5", "out"] {
            try expectSame(name)
            #expect(try workplace.json(.convert, "inspect", name)["config"]?["tie_word_embeddings"] == false)
        }
        // Directories only: no weight is compared.
        #expect(try workplace.run(.convert, "inspect", "hf").errors == "")
    }

    @Test("Without a head there are spectra, ranks by outputs, imports and exports, but no losses")
    func headless() throws {
        try folder(without("lm_head.weight"), "headless")
        try folder(without("lm_head.weight"), "reward", Extra(name: "score.weight"))
        try workplace.succeed(.convert, "import", "reward", "reward.h5", "--quiet")
        try workplace.succeed(.convert, "export", "reward", "again", "--quiet")
        try workplace.succeed(.analyze, "spectrum", "own.h5", "--tokens", "t.npy", "--out", "whole", "--quiet")
        let expected = try workplace.text("whole/ranks.csv")
        for name in ["headless", "reward", "reward.h5", "again"] {
            try workplace.succeed(.analyze, "spectrum", name, "--tokens", "t.npy", "--out", "s-\(name)", "--quiet")
            #expect(try workplace.text("s-\(name)/ranks.csv") == expected)
            #expect(try tensors(of: name).keys.contains("score.weight") == (name != "headless"))
            #expect(try tensors(of: name).keys.contains("lm_head.weight") == false)
            for command in [
                ["perplexity"], ["logits", "--out", "l.npy"], ["spectrum", "--out", "o", "--save-moments", "m.h5"],
            ] {
                let line = [command[0], name, "--tokens", "t.npy", "--quiet"] + command.dropFirst()
                try workplace.refuse(65, .analyze, line, mentions: ["lm_head.weight: missing, expected [300, 24]"])
            }
        }
        let options = ["headless", "--tokens", "t.npy", "--rank", "8", "--out", "plan.json", "--quiet"]
        try workplace.refuse(65, .analyze, ["ranks"] + options, mentions: ["lm_head.weight: missing"])
        let planned = try workplace.run(.analyze, ["ranks"] + options + ["--weighting", "output"])
        #expect(planned.status == 0, "\(planned)")
        try workplace.succeed(.analyze, "cost", "headless", "--quiet")
        try workplace.refuse(
            65, .train, workplace.line("continue headless", ["tokens": "t.npy"]) + ["--quiet"],
            mentions: ["lm_head.weight: missing"])
        let converted = try workplace.run(
            .convert, "dense-to-lowrank", "headless", "low.h5", "--tokens", "t.npy", "--method", "output", "--rank",
            "8",
            "--quiet")
        #expect(converted.status == 0, "\(converted)")
        #expect(try tensors(of: "low.h5").keys.contains("lm_head.weight") == false)
    }

    // MARK: - Tensors that are more

    @Test("What carries nothing or belongs to no decoder is no obstacle; what can be kept is kept")
    func extras() throws {
        let empty = Extra(name: "model.layers.0.self_attn.marker", shape: [0], bytes: [])
        let extras = [
            empty, Extra(name: "freqs_cis", type: "C64", shape: [1]),
            Extra(name: "x_scale", type: "F8_E8M0", shape: [8]),
            Extra(name: "later", type: "X7_NEW", shape: [3]), Extra(name: "steps", type: "I64", shape: [1]),
            Extra(name: "model.layers.1.self_attn.rotary_emb.inv_freq"), Extra(name: "score.bias", shape: []),
        ]
        let scalar = Extra(name: "score.bias", shape: [], bytes: [0, 0, 128, 63])
        try folder(model, "hf", extras[0], extras[1], extras[2], extras[3], extras[4], extras[5], scalar)
        try expectSame("hf")
        let listed = try tensors(of: "hf")
        for (extra, type) in zip(extras, ["f32", "c64", "f8_e8m0", "x7_new", "i64", "f32", "f32"]) {
            #expect(listed[extra.name]?["type"]?.stringValue == type, "\(extra.name)")
        }
        for (arguments, output) in [(["import", "hf", "in.h5"], "in.h5"), (["export", "hf", "out"], "out")] {
            let outcome = try workplace.run(.convert, arguments + ["--quiet"])
            #expect(outcome.status == 0 && outcome.errorLines == [], "\(outcome)")
            for name in ["freqs_cis", "x_scale", "later", "steps"] {
                #expect(outcome.errors.contains("warning: hf: \(name) is left out: elements of type"), "\(outcome)")
            }
            try expectSame(output)
            let kept = try tensors(of: output)
            #expect(kept.count == model.tensors.count + 1 && kept["score.bias"]?["shape"] == [], "\(kept.keys)")
        }
    }

    @Test(
        "A tensor that would change what the decoder computes is refused by name",
        arguments: [
            "model.layers.0.self_attn.q_norm.weight", "model.layers.1.self_attn.q_proj.lora_A.default.weight",
            "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight",
            "model.layers.1.pre_feedforward_layernorm.weight",
            "model.norm.bias", "model.layers.0.input_layernorm.bias", "model.layers.0.mlp.gate.weight", "lm_head.bias",
            "model.layers.0.self_attn.q_proj.weight_scale",
        ])
    func refused(name: String) throws {
        try folder(model, "hf", Extra(name: name))
        let shown = name.replacing("base_model.model.", with: "")
        for command in [
            ["perplexity", "hf", "--tokens", "t.npy"], ["logits", "hf", "--tokens", "t.npy", "--out", "l.npy"],
        ] {
            try workplace.refuse(65, .analyze, command + ["--quiet"], mentions: ["\(shown): unexpected"])
        }
        try workplace.refuse(65, .convert, ["import", "hf", "in.h5", "--quiet"], mentions: ["\(shown): unexpected"])
        #expect(try tensors(of: "hf").keys.contains(shown))
    }

    @Test("A parameter without elements, or of a type that is not read, is listed and refused by name")
    func parameters() throws {
        let name = "model.layers.1.mlp.down_proj.weight"
        try folder(without(name), "empty", Extra(name: name, shape: [0], bytes: []))
        try folder(without(name), "f8", Extra(name: name, type: "F8_E4M3", shape: [2, 4]))
        for (checkpoint, words) in [("empty", "found [0], expected [24, 40]"), ("f8", "elements of type f8_e4m3")] {
            #expect(try tensors(of: checkpoint).keys.contains(name))
            try workplace.refuse(
                65, .analyze, ["perplexity", checkpoint, "--tokens", "t.npy", "--quiet"],
                mentions: ["\(name): \(words)"])
        }
        try folder(model.configured([("mlp_bias", true)]), "biases")
        try workplace.refuse(
            65, .analyze, ["perplexity", "biases", "--tokens", "t.npy", "--quiet"],
            mentions: ["model.layers.1.mlp.down_proj.bias: missing, expected [24]"])
    }

    // MARK: - Names and shards

    @Test("Wrapped and bare names in a folder and in HDF5 are the model's")
    func names() throws {
        for (index, wrap) in ["_orig_mod.", "module._orig_mod.", "base_model.model."].enumerated() {
            var wrapped = model
            for place in wrapped.tensors.indices { wrapped.tensors[place].name = wrap + wrapped.tensors[place].name }
            try folder(wrapped, "wrapped-\(index)")
            try expectSame("wrapped-\(index)")
        }
        var bare = without("lm_head.weight").configured([("tie_word_embeddings", true)])
        try folder(bare, "tied")
        for place in bare.tensors.indices { bare.tensors[place].name = String(bare.tensors[place].name.dropFirst(6)) }
        try folder(bare, "bare")
        try expectSame("bare", as: "tied")
    }

    @Test("Index and shards that disagree: a warning about the head of a tied model, an error about a layer")
    func shards() throws {
        let tied = model.configured([("tie_word_embeddings", true)])
            .changing("lm_head.weight") { $0.values = TinyModel.dense.tensors[0].values }
        try folder(tied, "whole")
        let name = "model-00001-of-00001.safetensors"
        func sharded(_ folder: String, index: [String]) throws {
            try tied.writeFolder(workplace, folder)
            try FileManager.default.moveItem(
                atPath: workplace.file("\(folder)/model.safetensors"), toPath: workplace.file("\(folder)/\(name)"))
            let map = JSONValue.object(JSONObject(index.map { ($0, .string(name)) }))
            try workplace.write(
                JSONValue.object(["weight_map": map]).text(), "\(folder)/model.safetensors.index.json")
        }
        let names = tied.tensors.map(\.name)
        try sharded("leftover", index: names.filter { $0 != "lm_head.weight" })
        try expectSame(
            "leftover", as: "whole", warning: "warning: leftover: lm_head.weight: in leftover/\(name), but not")
        try sharded("absent", index: names + ["lm_head.bias_of_before"])
        try expectSame("absent", as: "whole", warning: "lm_head.bias_of_before: not in absent/\(name)")
        try sharded("damaged", index: names + ["model.layers.2.mlp.up_proj.weight"])
        try expectSame("damaged", as: "whole", warning: "model.layers.2.mlp.up_proj.weight: not in")
        let layer = "model.layers.1.mlp.up_proj.weight"
        try sharded("unlisted", index: names.filter { $0 != layer })
        try workplace.refuse(
            65, .analyze, ["perplexity", "unlisted", "--tokens", "t.npy", "--quiet"],
            mentions: ["  \(layer): in unlisted/\(name), but not in the index"])
    }

    // MARK: - Configuration

    @Test("NaN in a key that nobody reads stops nothing, and is still there after import and export")
    func notFinite() throws {
        try model.writeFolder(workplace, "hf")
        let text = model.configurationText.dropLast() + #", "final_loss": NaN, "note": [Infinity, -Infinity]}"#
        try workplace.write(String(text), "hf/config.json")
        try expectSame("hf")
        try workplace.succeed(.convert, "import", "hf", "in.h5", "--quiet")
        try expectSame("in.h5")
        try workplace.succeed(.convert, "export", "in.h5", "out", "--quiet")
        try expectSame("out")
        let exported = try JSONValue(parsing: workplace.text("out/config.json"), allowsNonFinite: true)
        #expect(exported["final_loss"]?.doubleValue?.isNaN == true)
        #expect(exported["note"]?[1]?.doubleValue == -.infinity)
        let wrong = text.replacing("\"rope_theta\":10000", with: "\"rope_theta\":NaN")
        #expect(wrong != text)
        try workplace.write(String(wrong), "hf/config.json")
        try workplace.refuse(
            65, .analyze, ["perplexity", "hf", "--tokens", "t.npy", "--quiet"], mentions: ["rope_theta: found NaN"])
    }

    @Test("θ of the rotation counts wherever it stands, and half a head can be rotated")
    func rotation() throws {
        let places: [[(String, JSONValue?)]] = [
            [("rope_theta", 500000)], [("rope_scaling", ["rope_type": "default", "rope_theta": 500000])],
            [("rope_parameters", ["rope_type": "default", "rope_theta": 500000])],
            [("rope_parameters", ["full_attention": ["rope_type": "default", "rope_theta": 500000]])],
        ]
        for (index, changes) in places.enumerated() {
            let changed = model.configured([("rope_theta", nil)] + changes)
            try changed.writeFolder(workplace, "theta-\(index)")
            if index > 0 { try expectSame("theta-\(index)", as: "theta-0") }
        }
        let whole = try workplace.logits(of: "own.h5", "--tokens", "t.npy")
        #expect(try workplace.logits(of: "theta-0", "--tokens", "t.npy").data != whole.data)
        try model.configured([("rope_parameters", ["partial_rotary_factor": 0.4])]).writeFolder(workplace, "partial")
        #expect(try workplace.logits(of: "partial", "--tokens", "t.npy").data != whole.data)
        try model.configured([("final_logit_softcapping", 30)]).writeFolder(workplace, "capped")
        try workplace.refuse(
            65, .analyze, ["perplexity", "capped", "--tokens", "t.npy", "--quiet"],
            mentions: ["capped: configuration: final_logit_softcapping: found 30"])
    }

    @Test("A GGUF file's own values that change the arithmetic are refused by name")
    func gguf() throws {
        try workplace.write(model.gguf(values: ["llama.attention.scale": 1 / Float(10).squareRoot()]), "same.gguf")
        try expectSame("same.gguf")
        for (key, value) in [("llama.attention.scale", 0.5), ("llama.logit_scale", 8), ("llama.residual_scale", 0.25)] {
            try workplace.write(model.gguf(values: [key: Float(value)]), "other.gguf")
            try workplace.refuse(
                65, .analyze, ["perplexity", "other.gguf", "--tokens", "t.npy", "--quiet"],
                mentions: ["other.gguf: configuration: \(key): found \(value)"])
            try workplace.succeed(.convert, "inspect", "other.gguf")
        }
    }

    // MARK: - Tokenizers and teachers

    @Test(
        "What works for the model works for --tokenizer",
        arguments: [
            "hf", "alone", "own.h5", "model.gguf", "hf/model.safetensors", "hf/tokenizer.json", "hub", "hub/snapshots",
        ])
    func tokenizers(_ place: String) throws {
        try model.writeFolder(workplace, "hf")
        try workplace.write(model.gguf, "model.gguf")
        for name in ["alone", "hub", "hub/snapshots", "hub/snapshots/abc"] { try workplace.makeFolder(name) }
        for name in ["alone", "hub/snapshots/abc"] {
            try workplace.write(TinyModel.tokenizerJSON, "\(name)/tokenizer.json")
        }
        let expected = try workplace.bytes("t.npy")
        try workplace.succeed(
            .convert, "tokenize", "text.txt", "--tokenizer", place, "--out", "other.npy", "--quiet")
        #expect(try workplace.bytes("other.npy") == expected)

        var silent = model
        silent.tokenizer = nil
        try silent.writeFolder(workplace, "silent")
        try workplace.succeed(.convert, "import", "silent", "spoken.h5", "--tokenizer", place, "--quiet")
        let facts = try workplace.json(.convert, "inspect", "spoken.h5")
        #expect(facts["tokenizer"]?.stringValue?.hasPrefix("tokenizer.json") == true)

        try workplace.write(TinyModel.text(1500), "long.txt")
        try workplace.write(model.configurationText, "config.json")
        let run = try workplace.run(
            .train,
            workplace.line("pretrain", ["tokens": nil, "text": "long.txt", "tokenizer": place, "steps": "1"]) + [
                "--quiet"
            ])
        #expect(run.status == 0, "\(run)")
    }

    @Test("A tokenizer that is none says what it is")
    func badTokenizers() throws {
        try workplace.makeFolder("bare")
        try workplace.write("version https://git-lfs.github.com/spec/v1\n", "pointer.json")
        try FileManager.default.createSymbolicLink(
            atPath: workplace.file("link.json"), withDestinationPath: "../blobs/7")
        var silent = model
        silent.tokenizer = nil
        try silent.writeFolder(workplace, "silent")
        for (place, code, words) in [
            ("bare", 65, "bare: holds neither tokenizer.json nor tokenizer.model"),
            ("pointer.json", 65, "pointer.json: is a pointer of git-lfs"),
            ("link.json", 66, "link.json: is a link to ../blobs/7, which is not there"),
            ("gone.json", 66, "gone.json: no such file"), ("silent", 65, "silent: "), ("text.txt", 65, "text.txt: "),
        ] as [(String, Int32, String)] {
            try workplace.refuse(
                code, .convert, ["tokenize", "text.txt", "--tokenizer", place, "--out", "x.npy", "--quiet"],
                mentions: [words])
            try workplace.refuse(
                code, .convert, ["import", "silent", "x.h5", "--tokenizer", place, "--quiet"], mentions: [words])
        }
    }

    @Test("A teacher that is a folder teaches as its HDF5 file does, and a resumed run knows it again")
    func teacher() throws {
        try model.writeFolder(workplace, "hf")
        let student = TinyModel.ungrouped
        try student.writeCheckpoint(workplace.file("student.h5"))
        try workplace.write(
            learnableIDs(601, below: 97).flatMap { littleEndian(UInt16($0)) }, "tokens.u16")
        for (teacher, run) in [("own.h5", "by-file"), ("hf", "by-folder")] {
            try workplace.train(
                "continue student.h5", ["teacher": teacher, "steps": "2", "out": run, "save-every": "1"])
        }
        let losses = try ["by-file", "by-folder"].map { run in
            try workplace.text("\(run)/metrics.csv").split(separator: "\n").map { $0.split(separator: ",").prefix(3) }
        }
        #expect(losses[0] == losses[1])
        try FileManager.default.removeItem(atPath: workplace.file("by-folder/step-00000002.h5"))
        try workplace.resume("by-folder")
        // Files that are no part of the model may come and go; the model may not change.
        try workplace.write("read me", "hf/README.md")
        try FileManager.default.removeItem(atPath: workplace.file("by-folder/step-00000002.h5"))
        try workplace.resume("by-folder")
        try FileManager.default.removeItem(atPath: workplace.file("by-folder/step-00000002.h5"))
        let other = model.changing("model.norm.weight") { $0.values[0] += 1 }
        try workplace.write(other.safetensors(), "hf/model.safetensors")
        try workplace.refuse(
            65, .train, ["resume", "by-folder", "--quiet"], mentions: ["hf: the teacher of", "found the SHA-256"])
    }
}
