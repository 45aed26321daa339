import CHDF5
import Foundation
import JSON
import TestSupport
import Testing

@testable import Checkpoints

@Suite("cola-train gradients and bench")
struct TrainFigureTests {
    let workplace: Workplace

    init() throws {
        workplace = try Workplace.forTraining()
        try TinyModel.dense.writeCheckpoint(workplace.file("own.h5"))
        try TinyModel.cola.writeCheckpoint(workplace.file("cola.h5"))
        let ids = learnableIDs(11 * 23, below: 300).map { UInt16($0) }
        try workplace.write(NumpyArray.file("<u2", shape: [11, 23], ids), "rows.npy")
    }

    /// `/loss` of a file of gradients.
    private func loss(in name: String) throws -> Double {
        try HDF5Library.locked {
            let file = try HDF5Handle(H5Fopen(workplace.file(name), 0, 0), closing: H5Fclose)
            let dataset = try HDF5Handle(H5Dopen2(file.id, "/loss", 0), closing: H5Dclose)
            var loss = Double.nan
            try HDF5Library.check(H5Dread(dataset.id, chdf5_native_double(), 0, 0, 0, &loss))
            return loss
        }
    }

    @Test("The loss is that of `perplexity`, and no memory mode changes a gradient", arguments: ["own.h5", "cola.h5"])
    func gradients(_ checkpoint: String) throws {
        let perplexity = try workplace.json(
            .analyze, "perplexity", checkpoint, "--tokens", "rows.npy", "--quiet")
        let expected = try #require(perplexity["nats_per_token"]?.doubleValue)
        let modes = ["plain", "checkpoint"] + (checkpoint == "cola.h5" ? ["cola-m"] : [])
        var results: [[String: [Float]]] = []
        for mode in modes {
            let result = try workplace.json(
                .train, "gradients", checkpoint, "--tokens", "rows.npy", "--precision", "f32", "--memory", mode,
                "--out",
                "\(mode).h5", "--quiet")
            let loss = try loss(in: "\(mode).h5")
            #expect(abs(loss - expected) < 1e-6)
            #expect(result["loss"]?.doubleValue == loss && result["targets"]?.intValue == 11 * 22)
            results.append(try workplace.gradients(in: "\(mode).h5"))
            let squares = results[0].values.joined().reduce(0) { $0 + Double($1) * Double($1) }
            let norm = try #require(result["gradient_norm"]?.doubleValue)
            #expect(abs(norm / squares.squareRoot() - 1) < 1e-9)
        }
        let model = checkpoint == "own.h5" ? TinyModel.dense : .cola
        for tensor in model.tensors { #expect(results[0][tensor.name]?.count == tensor.values.count) }
        #expect(results[0].count == model.tensors.count)
        for other in results.dropFirst() { expectEqual(other, results[0]) }
    }

    @Test("A gradient is what the loss changes by when its parameter does")
    func slope() throws {
        let name = "model.layers.1.mlp.down_proj.cola_a"
        try workplace.succeed(
            .train, "gradients", "cola.h5", "--tokens", "rows.npy", "--precision", "f32", "--out", "g.h5", "--quiet")
        let gradient = try #require(try workplace.gradients(in: "g.h5")[name])
        let norm = gradient.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
        // Along the gradient, far enough for single precision to see it.
        let reach = 0.01 / norm
        let losses = try [-reach, reach].map { reach in
            let moved = TinyModel.cola.changing(name) { entry in
                for i in gradient.indices { entry.values[i] += Float(reach) * gradient[i] / Float(norm) }
            }
            try moved.writeCheckpoint(workplace.file("moved.h5"))
            let result = try workplace.json(
                .analyze, "perplexity", "moved.h5", "--tokens", "rows.npy", "--quiet")
            return try #require(result["nats_per_token"]?.doubleValue)
        }
        let slope = (losses[1] - losses[0]) / (2 * reach)
        #expect(abs(slope / norm - 1) < 0.02, "\(slope) for \(norm)")
    }

    @Test("A text is one sequence; bf16 is near; the table says what the file does")
    func text() throws {
        try workplace.write(TinyModel.text(300), "text.txt")
        let perplexity = try workplace.json(
            .analyze, "perplexity", "own.h5", "--text", "text.txt", "--quiet")
        let expected = try #require(perplexity["nats_per_token"]?.doubleValue)
        for (precision, bound) in [("f32", 1e-6), ("bf16", 0.05)] {
            let table = try workplace.succeed(
                .train, "gradients", "own.h5", "--text", "text.txt", "--precision", precision, "--out", "g.h5",
                "--quiet")
            let loss = try loss(in: "g.h5")
            #expect(abs(loss - expected) < bound)
            #expect(table.hasPrefix("g.h5  loss ") && table.contains("\(perplexity["tokens"]?.intValue ?? 0) targets"))
        }
    }

    @Test("bench prints one JSON line of figures", arguments: ["dense", "cola"])
    func bench(_ model: String) throws {
        let output = try workplace.succeed(
            .train, "bench", "--size", "tiny", "--layers", "1", "--model", model, "--batch", "2", "--sequence-length",
            "32", "--steps", "1", "--json", "--quiet")
        #expect(output.hasSuffix("}\n") && output.split(separator: "\n").count == 1)
        let result = try JSONValue(parsing: output)
        for key in [
            "tokens_per_second", "median_tokens_per_second", "full_depth_tokens_per_second", "median_step_s", "head_s",
            "adamw_s", "model_gflops", "gemm_peak_gflops", "share_of_gemm_peak", "copy_gb_per_s",
        ] {
            let figure = try #require(result[key]?.doubleValue, "\(key)")
            #expect(figure > 0 && figure.isFinite, "\(key)")
        }
        let parameters = try #require(result["parameters"]?.intValue)
        let isRounded = result["precision"]?.stringValue == "bf16"
        let bytes = try #require(result["bytes"]?.objectValue)
        #expect(bytes.members.map(\.key) == ["weights", "gradients", "optimizer_state", "kept_activations", "scratch"])
        #expect(bytes["gradients"]?.intValue == 4 * parameters && bytes["optimizer_state"]?.intValue == 8 * parameters)
        // The rounded copy keeps its vectors in single precision.
        let weights = try #require(bytes["weights"]?.intValue)
        #expect(isRounded ? (6 * parameters..<7 * parameters).contains(weights) : weights == 4 * parameters)
        #expect(try #require(bytes["kept_activations"]?.intValue) > 0)
        #expect(result["version"]?.stringValue != nil && result["model"]?.stringValue == model)
        #expect(workplace.contents(of: "run") == [])
    }
}
