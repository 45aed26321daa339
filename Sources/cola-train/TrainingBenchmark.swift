import CommandSupport
import JSON
import LinearAlgebra
import Training
import Transformer
import Workflows

/// The measurements of `bench`.
struct TrainingBenchmark {
    private let command: BenchCommand
    private let measurement: TrainingMeasurement
    private var model: LanguageModel { measurement.model }

    init(_ command: BenchCommand, precision: Precision) throws {
        self.command = command
        let dense = command.size.configuration(layers: command.layers)
        let rank = command.model == .cola ? command.rank ?? command.size.rank : nil
        let text = JSONValue.object(rank.map { dense.withLowRank($0, command.size.placement) } ?? dense).text()
        measurement = try TrainingMeasurement(
            ModelDescription(json: text, path: command.size.rawValue).with(rank: rank), precision: precision,
            memory: command.pass.memory, batch: command.batch, sequenceLength: command.sequenceLength)
    }

    func run(_ console: Console) throws -> JSONObject {
        report(try measurement.run(steps: command.steps, console))
    }

    private func report(_ steps: [TrainingMeasurement.Step]) -> JSONObject {
        let (masters, mode) = (measurement.masters, measurement.workspace.mode)
        let tokens = Double(measurement.batch.count)
        let flops = Double(command.batch) * model.description.trainingFLOPs(sequenceLength: command.sequenceLength)
        let again =
            Double(command.batch)
            * model.description.recomputedFLOPs(sequenceLength: command.sequenceLength, mode: mode)
        // Weight, gradient and moments are read, weight and moments written, and the rounded copy where there is one.
        let moved = Double(masters.parameterCount) * (7 * 4 + (model.precision == .bf16 ? 2 : 0))
        let (step, update) = (steps.median(\.seconds), steps.median(\.updateSeconds))
        let fastest = steps.min { $0.seconds < $1.seconds }!
        let full = measurement.seconds(of: fastest, atLayers: command.size.layers)
        return JSONObject([
            ("size", .string(command.size.rawValue)), ("layers", .integer(model.description.blocks.count)),
            ("model", .string(command.model.rawValue)), ("memory", .string(mode.rawValue)),
            ("precision", .string(model.precision.rawValue)),
            ("has_bf16_products", .bool(Processor.multipliesBFloat16)), ("batch", .integer(command.batch)),
            ("sequence_length", .integer(command.sequenceLength)), ("parameters", .integer(masters.parameterCount)),
            ("tokens_per_second", .number(tokens / fastest.seconds)),
            ("median_tokens_per_second", .number(tokens / step)),
            ("full_depth_tokens_per_second", .number(tokens / full)),
            ("median_step_s", .number(step)), ("head_s", .number(steps.median(\.headSeconds))),
            ("adamw_s", .number(update)),
            ("model_gflops", .number(flops / step / 1e9)), ("flops_per_step", .number(flops)),
            ("recomputed_flops_per_step", .number(again)),
            ("gemm_peak_gflops", .number(steps.median(\.productSpeed) / 1e9)),
            ("share_of_gemm_peak", .number(steps.median { flops / $0.seconds / $0.productSpeed })),
            ("copy_gb_per_s", .number(steps.median(\.copySpeed) / 1e9)),
            ("adamw_gb_per_s", .number(moved / update / 1e9)),
            ("adamw_share_of_copy", .number(steps.median { moved / $0.updateSeconds / $0.copySpeed })),
            ("bytes", .object(bytes)), ("peak_rss_mib", .integer(peakMemory() >> 20)),
        ])
    }

    private var bytes: JSONObject {
        JSONObject([
            ("weights", .integer(measurement.weightBytes)), ("gradients", .integer(measurement.gradients.bytes)),
            ("optimizer_state", .integer(measurement.optimizerBytes)),
            ("kept_activations", .integer(measurement.workspace.keptBytes)),
            ("scratch", .integer(measurement.workspace.scratchBytes)),
        ])
    }
}
