import CHDF5
import Files
import Foundation
import Glibc
import TestSupport
import Testing

@testable import Checkpoints
@testable import Training
@testable import Transformer

/// The model, moments and state of a run that never was.
struct SampleRun {
    static let configuration = """
        {"model_type": "cola", "hidden_size": 6, "intermediate_size": 11, "num_hidden_layers": 2,
         "num_attention_heads": 3, "num_key_value_heads": 1, "vocab_size": 13, "note": "größer"}
        """

    let decoder: DecoderConfiguration
    let weights: DecoderWeights
    let first: DecoderWeights
    let second: DecoderWeights
    var state: TrainingState

    init(seed: UInt64 = 1) throws {
        decoder = try DecoderConfiguration(json: Self.configuration, path: "sample")
        weights = try Self.tensors(decoder, seed: seed * 1000)
        first = try Self.tensors(decoder, seed: seed * 1000 + 300)
        second = try Self.tensors(decoder, seed: seed * 1000 + 600)
        state = TrainingState(
            step: 5, tokens: 5 * 1023, cursor: 41, seed: .max - 3, skippedSteps: 1, optimizerSteps: 4,
            settings: ["learning_rate": 3e-4, "batch": 8, "schedule": ["warmup": 7, "name": "kosinusförmig"]],
            history: Self.history(steps: 5))
    }

    /// Low-rank but for one layer's down projection, which has a bias.
    private static func tensors(_ decoder: DecoderConfiguration, seed: UInt64) throws -> DecoderWeights {
        let tensors = DecoderWeights(decoder, precision: .f32) { layer, module in
            module == .down ? .init(rank: layer == 0 ? nil : 4, hasBias: layer == 0) : .init(rank: 2 + layer)
        }
        var seed = seed
        tensors.visitParameters { name, weight in
            seed += 1
            weight.fillNormal(deviation: 1, seed: seed)
            guard case .single(let matrix) = weight.storage else { return }
            // Numbers that anything but a copy would change.
            matrix.pointer[0] = -0.0
            if matrix.count > 1 { matrix.pointer[1] = .leastNonzeroMagnitude }
        }
        return tensors
    }

    /// An evaluation at every third step; the second step's loss was no number.
    static func history(steps: Int) -> [StepRecord] {
        var history: [StepRecord] = []
        for step in 1..<steps + 1 {
            let isSkipped = step == 2
            let evaluation: Double? = step % 3 == 0 ? 1 / Double(step) : nil
            history.append(
                StepRecord(
                    step: step, tokens: 1023 * step, loss: isSkipped ? .nan : 10 / Double(step),
                    evaluationLoss: evaluation, gradientNorm: isSkipped ? .infinity : 0.1,
                    learningRate: 1e-7 * Double(step), tokensPerSecond: 1e5 / 3))
        }
        return history
    }

    func write(_ path: String) throws {
        try RunFile.write(
            path: path, configuration: Self.configuration, provenance: #"{"seed": 7}"#,
            tokenizer: .sentencepiece([10, 0, 255]), weights: weights, firstMoments: first, secondMoments: second,
            state: state)
    }

    /// Memory for what a file holds.
    func emptyTensors() -> DecoderWeights {
        DecoderWeights(decoder, precision: .f32) { layer, module in
            .init(rank: weights.layers[layer][module].rank, hasBias: weights.layers[layer][module].bias != nil)
        }
    }
}

/// Every element of every tensor by its bits, which unlike numbers can all be compared.
func bits(_ tensors: DecoderWeights) -> [String: [UInt32]] {
    var bits: [String: [UInt32]] = [:]
    tensors.visitParameters { name, weight in
        guard case .single(let matrix) = weight.storage else { return }
        bits[name] = matrix.buffer.map(\.bitPattern)
    }
    return bits
}

/// The error that `body` throws, if it is one of a checkpoint.
func runError(_ body: () throws -> Void) -> CheckpointError? {
    do { try body() } catch { return error as? CheckpointError }
    return nil
}

/// Changes a file with the library's own means; `body` is given the open file.
func edit(_ path: String, _ body: (hid_t) throws -> Void) throws {
    try HDF5Library.locked {
        let readAndWrite: UInt32 = 1
        // A process that another test starts meanwhile inherits the open file, and would hold its lock.
        let access = try HDF5Handle(H5Pcreate(chdf5_file_access_class()), closing: H5Pclose)
        try HDF5Library.check(chdf5_do_not_lock(access.id))
        let file = try HDF5Handle(H5Fopen(path, readAndWrite, access.id), closing: H5Fclose)
        try body(file.id)
        try file.close()
    }
}
