import CHDF5
import Files
import Foundation
import Glibc
import TestSupport
import Testing

@testable import Checkpoints
@testable import Training
@testable import Transformer

/// The model, optimizer state and state of a run that never was.
struct SampleRun {
    static let configuration = """
        {"model_type": "cola", "hidden_size": 6, "intermediate_size": 11, "num_hidden_layers": 2,
         "num_attention_heads": 3, "num_key_value_heads": 1, "vocab_size": 13, "note": "größer"}
        """

    /// Low-rank but for one block's down projection, which has a bias.
    let description: ModelDescription
    let weights: ModelWeights
    let optimizer: OptimizerState
    var state: TrainingState

    init(seed: UInt64 = 1) throws {
        description = try ModelDescription(json: Self.configuration, path: "sample").with { linear in
            linear.role == .down
                ? .init(rank: linear.block == 0 ? nil : 4, hasBias: linear.block == 0) : .init(rank: 2 + linear.block)
        }
        weights = Self.tensors(description, seed: seed * 1000)
        optimizer = OptimizerState(
            firstMoment: Self.tensors(description, seed: seed * 1000 + 300),
            secondMoment: Self.tensors(description, seed: seed * 1000 + 600), step: 4)
        var state = TrainingState(
            seed: .max - 3,
            settings: ["learning_rate": 3e-4, "batch": 8, "schedule": ["warmup": 7, "name": "kosinusförmig"]])
        (state.step, state.tokens, state.cursor) = (5, 5 * 1023, 41)
        (state.skippedSteps, state.optimizerSteps) = (1, 4)
        state.history = Self.history(steps: 5)
        self.state = state
    }

    private static func tensors(_ description: ModelDescription, seed: UInt64) -> ModelWeights {
        let tensors = ModelWeights(description, precision: .f32)
        var seed = seed
        for weight in tensors.parameters.map(\.weight) {
            seed += 1
            weight.fillNormal(deviation: 1, seed: seed)
            // Numbers that anything but a copy would change.
            weight.view[0, 0] = -0.0
            weight.view[0, 1] = .leastNonzeroMagnitude
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
                    gradientNorm: isSkipped ? .infinity : 0.1, learningRate: 1e-7 * Double(step),
                    tokensPerSecond: 1e5 / 3
                ).evaluated(evaluation))
        }
        return history
    }

    func write(_ path: String) throws {
        try RunFile.write(
            path: path,
            .init(
                configuration: Self.configuration, provenance: #"{"seed": 7}"#, tokenizer: .sentencepiece([10, 0, 255])),
            weights: weights, optimizer: optimizer, state: state)
    }
}

/// Every element of every tensor by its bits, which unlike numbers can all be compared.
func bits(_ tensors: ModelWeights) -> [String: [UInt32]] {
    Dictionary(
        uniqueKeysWithValues: tensors.parameters.map { ($0.name, $0.weight.elements.map(\.bitPattern)) })
}

extension Weight {
    /// All elements row by row, those in bfloat16 widened.
    var elements: [Float] {
        copy().elements
    }
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
