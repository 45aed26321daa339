import Checkpoints
import CommandSupport
import Tensors
import Training
import Transformer

/// The measurements of `bench`.
struct TrainingBenchmark {
    private let command: BenchCommand
    private let configuration: DecoderConfiguration
    private let masters: DecoderWeights
    private let gradients: DecoderWeights
    private let decoder: Decoder
    private let workspace: TrainingWorkspace
    private let optimizer: AdamW
    private let batch: TokenBatch
    private let targets: [UInt32?]

    init(_ command: BenchCommand, precision: Precision) throws {
        self.command = command
        let dense = command.size.configuration(layers: command.layers)
        let rank = command.model == .cola ? command.rank ?? command.size.rank : nil
        let text = JSONValue.object(rank.map { dense.withLowRank($0, command.size.placement) } ?? dense).text()
        configuration = try DecoderConfiguration(json: text, path: command.size.rawValue)
        masters = DecoderWeights(configuration, rank: rank, seed: 1)
        try command.pass.memory.validate(for: masters)
        gradients = DecoderWeights(like: masters, precision: .f32)
        decoder = Decoder(configuration, masters.workingCopy(precision), precision: precision)
        let tokens = command.batch * command.sequenceLength
        workspace = TrainingWorkspace(
            decoder, mode: command.pass.memory, maximumTokens: tokens, longestSequence: command.sequenceLength)
        optimizer = try AdamW(AdamW.Settings(learningRate: 1e-3), for: masters)
        var generator = SeededGenerator(seed: 2)
        let vocabulary = UInt64(configuration.vocabularySize)
        let ids = (0..<tokens).map { _ in UInt32(generator.next() % vocabulary) }
        batch = TokenBatch(ids: ids, lengths: Array(repeating: command.sequenceLength, count: command.batch))
        targets = (0..<tokens).map { ($0 + 1) % command.sequenceLength == 0 ? nil : ids[$0 + 1] }
    }

    private var scale: Double { 1 / Double(command.batch * (command.sequenceLength - 1)) }

    private func lossAndGradients() -> Double {
        scale
            * decoder.lossAndGradients(
                of: batch, targets: targets, scale: scale, in: workspace, into: gradients)
    }

    /// Clipping and AdamW; the seconds that AdamW alone took.
    private func update() -> Double {
        let norm = AdamW.gradientNorm(gradients)
        let start = monotonicSeconds()
        optimizer.apply(
            to: masters, workingCopy: decoder.precision == .bf16 ? decoder.weights : nil, gradients: gradients,
            gradientScale: AdamW.clippingScale(norm: norm, limit: 0.5))
        return monotonicSeconds() - start
    }

    /// Goes a little along the gradient and back: the loss must fall by what the gradient says.
    private func check() throws {
        let here = lossAndGradients()
        let norm = AdamW.gradientNorm(gradients)
        let wanted = 0.02
        func move(_ distance: Double) {
            var slopes: [Matrix] = []
            gradients.visitParameters { if case .single(let matrix) = $1.storage { slopes.append(matrix) } }
            var index = 0
            masters.visitParameters { _, weight in
                guard case .single(let matrix) = weight.storage else { return }
                let slope = slopes[index]
                index += 1
                for i in 0..<matrix.count { matrix.pointer[i] += Float(distance) * slope.pointer[i] }
            }
            if decoder.precision == .bf16 { decoder.weights.assign(masters) }
        }
        func loss(at distance: Double) -> Double {
            move(distance)
            defer { move(-distance) }
            return scale * decoder.losses(of: batch, targets: targets, in: workspace).reduce(0) { $0 + ($1 ?? 0) }
        }
        let distance = wanted / 2 / (norm * norm)
        let change = loss(at: distance) - loss(at: -distance)
        try WrongResult.check(
            "change of the loss \(here) along its gradient", change, wanted,
            tolerance: wanted * (decoder.precision == .f32 ? 0.05 : 0.3))
    }

    func run(_ console: Console) throws -> JSONObject {
        try check()
        let (product, productFlops) = Machine.largeProduct(decoder.precision)
        let (copy, copiedBytes) = Machine.largeCopy(count: min(64 << 20, masters.parameterCount))
        product()
        copy()
        var (steps, peaks, heads, updates, copies): ([Double], [Double], [Double], [Double], [Double]) = (
            [], [], [], [], []
        )
        for index in 0...command.steps {
            let beforeCopy = monotonicSeconds()
            copy()
            let beforeProduct = monotonicSeconds()
            product()
            let start = monotonicSeconds()
            let loss = lossAndGradients()
            let update = update()
            let end = monotonicSeconds()
            guard loss.isFinite else { throw WrongResult(description: "step \(index): the loss is \(loss)") }
            guard index > 0 else { continue }
            steps.append(end - start)
            updates.append(update)
            heads.append(workspace.headSeconds)
            peaks.append(productFlops / (start - beforeProduct))
            copies.append(copiedBytes / (beforeProduct - beforeCopy))
            console.note("step \(index): \(fixed(Double(batch.count) / (end - start), 0)) tokens/s")
        }
        return report(steps: steps, peaks: peaks, heads: heads, updates: updates, copies: copies)
    }

    private func report(
        steps: [Double], peaks: [Double], heads: [Double], updates: [Double], copies: [Double]
    ) -> JSONObject {
        func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
        let flops = Double(command.batch) * decoder.trainingFLOPs(sequenceLength: command.sequenceLength)
        let again =
            Double(command.batch)
            * decoder.recomputedFLOPs(sequenceLength: command.sequenceLength, mode: workspace.mode)
        let share = zip(steps, peaks).map { flops / $0 / $1 }
        let isRounded = decoder.precision == .bf16
        // Weight, gradient and moments are read, weight and moments written, and the rounded copy where there is one.
        let moved = Double(masters.parameterCount) * (7 * 4 + (isRounded ? 2 : 0))
        let (step, head, update) = (median(steps), median(heads), median(updates))
        // The fastest step, as it were at the model's full depth: layers, and their share of AdamW's work, in proportion.
        let fastest = steps.indices.min { steps[$0] < steps[$1] } ?? 0
        let depth = Double(command.size.layers) / Double(configuration.layers)
        let layerSeconds = steps[fastest] - heads[fastest] - updates[fastest]
        var layerParameters = 0
        masters.visitParameters { name, weight in
            if name.hasPrefix("model.layers.") { layerParameters += weight.count }
        }
        let inLayers = updates[fastest] * Double(layerParameters) / Double(masters.parameterCount)
        let full = (layerSeconds + inLayers) * depth + heads[fastest] + (updates[fastest] - inLayers)
        return JSONObject([
            ("size", .string(command.size.rawValue)), ("layers", .integer(configuration.layers)),
            ("model", .string(command.model.rawValue)), ("memory", .string(workspace.mode.rawValue)),
            ("precision", .string(decoder.precision.rawValue)), ("batch", .integer(command.batch)),
            ("sequence_length", .integer(command.sequenceLength)), ("parameters", .integer(masters.parameterCount)),
            ("tokens_per_second", .number(Double(batch.count) / steps[fastest])),
            ("median_tokens_per_second", .number(Double(batch.count) / step)),
            ("full_depth_tokens_per_second", .number(Double(batch.count) / full)),
            ("median_step_s", .number(step)), ("head_s", .number(head)), ("adamw_s", .number(update)),
            ("model_gflops", .number(flops / step / 1e9)), ("flops_per_step", .number(flops)),
            ("recomputed_flops_per_step", .number(again)), ("gemm_peak_gflops", .number(median(peaks) / 1e9)),
            ("share_of_gemm_peak", .number(median(share))), ("copy_gb_per_s", .number(median(copies) / 1e9)),
            ("adamw_gb_per_s", .number(moved / update / 1e9)),
            ("adamw_share_of_copy", .number(median(zip(updates, copies).map { moved / $0 / $1 }))),
            ("bytes", .object(bytes)), ("peak_rss_mib", .integer(peakMemory() >> 20)),
        ])
    }

    private var bytes: JSONObject {
        let weights = masters.bytes + (decoder.precision == .bf16 ? decoder.weights.bytes : 0)
        return JSONObject([
            ("weights", .integer(weights)), ("gradients", .integer(gradients.bytes)),
            ("moments", .integer(optimizer.firstMoments.bytes + optimizer.secondMoments.bytes)),
            ("kept_activations", .integer(workspace.keptBytes)), ("scratch", .integer(workspace.scratchBytes)),
        ])
    }
}
