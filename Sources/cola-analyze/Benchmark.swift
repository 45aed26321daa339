import CommandSupport
import JSON
import LinearAlgebra
import Spectra
import Tensors
import Transformer
import Workflows

/// The measurements of `bench`, each after a check of its numbers.
struct Benchmark {
    let size: ModelSize
    let layers: Int
    let batch: Int
    let sequenceLength: Int
    let repeats: Int
    let console: Console

    private var rows: Int { batch * sequenceLength }

    func run() throws -> JSONObject {
        let description = try ModelDescription(json: size.configuration(layers: layers), path: size.rawValue)
        var result = JSONObject([("size", .string(size.rawValue)), ("rows", .integer(rows))])
        let block = description.blocks[0]
        let (c, f) = (description.hiddenSize, block.feedForward.width)
        let shapes = [(c, c), (c, f), (f, c)]
        var peaks: [Precision: Double] = [:]
        for precision in Precision.allCases {
            var entries = try shapes.map { try product(inputs: $0.0, outputs: $0.1, precision) }
            entries.append(try product(inputs: 2048, outputs: 2048, precision))
            peaks[precision] = entries.map(\.rate).max()
            result["gemm_\(precision.rawValue)"] = .array(entries.map(\.json))
            result["gemm_peak_\(precision.rawValue)_gflops"] = .number(peaks[precision]! / 1e9)
        }
        let double = doubleProduct()
        result["gemm_peak_f64_gflops"] = .number(double / 1e9)
        let widths = Set(SpectrumLimit.sites(block) + [f])
        let moments = try widths.sorted().map { (width: $0, entry: try self.moments(features: $0)) }
        result["moments"] = .array(moments.map(\.entry.json))
        let sizes = Set(SpectrumLimit.sizes(block) + [f])
        let eigenvalues = try sizes.sorted().map { (size: $0, entry: try self.eigenvalues($0)) }
        result["eigenvalues"] = .array(eigenvalues.map(\.entry.json))
        let limit = SpectrumLimit(
            single: peaks[.f32]!, double: double,
            gram: Dictionary(uniqueKeysWithValues: moments.map { ($0.width, $0.entry.dsyrk) }),
            eigenproblems: Dictionary(uniqueKeysWithValues: eigenvalues.map { ($0.size, $0.entry.rate) }))
        for precision in Precision.allCases {
            let (json, flopsOfToken) = try forward(description, precision)
            result["forward_\(precision.rawValue)"] = json
            if precision == .f32 { result["spectrum_limit"] = spectrumLimit(limit, block, flopsOfToken) }
        }
        return result
    }

    /// What `spectrum` of 8,192 tokens would take at the rates that were measured.
    private func spectrumLimit(
        _ limit: SpectrumLimit, _ block: BlockDescription, _ flopsOfToken: Double
    ) -> JSONValue {
        let tokens = 8192
        let flops = Double(tokens) * flopsOfToken / Double(layers) * Double(size.layers)
        let seconds = limit.seconds(block, flops: flops, layers: size.layers, tokens: tokens)
        let total = seconds.forward + seconds.moments + seconds.decomposition
        console.note("spectrum of \(tokens) tokens and \(size.layers) layers: \(fixed(total, 1)) s at these rates")
        return [
            "tokens": .integer(tokens), "layers": .integer(size.layers), "forward_seconds": .number(seconds.forward),
            "moments_seconds": .number(seconds.moments), "decomposition_seconds": .number(seconds.decomposition),
            "seconds": .number(total),
        ]
    }

    /// Median seconds of several runs, once the rate is steady.
    private func median(_ work: @escaping () -> Void) -> Double {
        Timing.medians(repeats: repeats, [work])[0]
    }

    /// FLOP/s of the best run of a large product in double precision.
    private func doubleProduct() -> Double {
        let (work, flops) = Machine.largeDoubleProduct()
        let seconds = Timing.samples(repeats: repeats, [work])[0].min() ?? .infinity
        console.note("product f64: \(fixed(flops / seconds / 1e9, 0)) GFLOP/s at best")
        return flops / seconds
    }

    private func product(inputs: Int, outputs: Int, _ precision: Precision) throws -> (rate: Double, json: JSONValue) {
        let x = Machine.random(rows, inputs, seed: 1)
        let w = Machine.random(outputs, inputs, seed: 2)
        let y = Matrix(uninitialized: [rows, outputs])
        let work: () -> Void
        switch precision {
        case .f32: work = { multiply(x.view, w.view, transposeB: true, into: y.view) }
        case .bf16:
            let roundedX = Tensor<BFloat16>(uninitialized: x.shape)
            let roundedW = Tensor<BFloat16>(uninitialized: w.shape)
            round(x.view, into: roundedX.view)
            round(w.view, into: roundedW.view)
            work = { multiply(roundedX.view, roundedW.view, transposeB: true, into: y.view) }
        }
        let seconds = median(work)
        let (row, column) = (rows - 1, outputs / 2)
        let expected = (0..<inputs).reduce(0.0) { $0 + Double(x[row, $1]) * Double(w[column, $1]) }
        let scale = Double(inputs).squareRoot() / 12
        try WrongResult.check(
            "\(precision.rawValue) product", Double(y[row, column]), expected,
            tolerance: scale * (precision == .f32 ? 1e-4 : 0.05))
        let rate = 2 * Double(rows * inputs * outputs) / seconds
        let json: JSONValue = [
            "shape": .array([rows, inputs, outputs].map { .integer($0) }), "milliseconds": .number(seconds * 1e3),
            "gflops": .number(rate / 1e9),
        ]
        console.note("product \(precision.rawValue) \(rows)×\(inputs)×\(outputs): \(fixed(rate / 1e9, 0)) GFLOP/s")
        return (rate, json)
    }

    /// Moments, and OpenBLAS' DSYRK in turn with them.
    private func moments(features: Int) throws -> (dsyrk: Double, json: JSONValue) {
        let x = Machine.random(rows, features, seed: 3)
        let scratch = Moments.Scratch()
        let sum = Moments(features: features)
        sum.add(x.view, scratch: scratch)
        let (i, j) = (features / 3, features - 1)
        let expected = (0..<rows).reduce(0.0) { $0 + Double(x[$1, i]) * Double(x[$1, j]) }
        try WrongResult.check("second moment", sum.gram()[i, j], expected, tolerance: 1e-10 * Double(rows))
        let (gram, gramFlops) = Machine.doubleGram(rows: rows, features: features)
        let seconds = Timing.medians(repeats: repeats, [{ sum.add(x.view, scratch: scratch) }, gram])
        // The symmetric half: features² multiply-adds' worth of two FLOPs, halved.
        let (rate, dsyrk) = (Double(rows * features * features) / seconds[0], gramFlops / seconds[1])
        console.note(
            "moments of \(features) features: \(fixed(rate / 1e9, 0)) GFLOP/s (symmetric half), "
                + "OpenBLAS' DSYRK \(fixed(dsyrk / 1e9, 0))")
        let json: JSONValue = [
            "features": .integer(features), "rows": .integer(rows), "milliseconds": .number(seconds[0] * 1e3),
            "gflops": .number(rate / 1e9), "dsyrk_gflops": .number(dsyrk / 1e9),
        ]
        return (dsyrk, json)
    }

    /// Eigenvalues on one thread, and as many problems as threads at the same time, which is how spectra are computed.
    private func eigenvalues(_ n: Int) throws -> (rate: Double, json: JSONValue) {
        let x = Machine.random(n + 7, n, seed: 4)
        let sum = Moments(features: n)
        sum.add(x.view, scratch: .init())
        let gram = sum.gram()
        let trace = (0..<n).reduce(0.0) { $0 + gram[$1, $1] }
        let values = try Factorization.eigenvalues(ofSymmetric: sum.gram())
        try WrongResult.check("sum of eigenvalues", values.reduce(0, +), trace, tolerance: 1e-10 * trace)
        let threads = ThreadPool.threads
        // Its numbers were checked above; here it cannot fail.
        let seconds = Timing.medians(
            repeats: repeats,
            [
                { _ = try? Factorization.eigenvalues(ofSymmetric: sum.gram()) },
                { ThreadPool.forEach(threads) { _ in _ = try? Factorization.eigenvalues(ofSymmetric: sum.gram()) } },
            ])
        let rate = Double(threads) / seconds[1]
        console.note(
            "eigenvalues of \(n)×\(n), one thread: \(fixed(seconds[0] * 1e3, 1)) ms, "
                + "all threads: \(fixed(rate, 1)) a second")
        let json: JSONValue = [
            "n": .integer(n), "milliseconds": .number(seconds[0] * 1e3), "threads": 1,
            "per_second_all_threads": .number(rate),
        ]
        return (rate, json)
    }

    /// The forward pass in turn with a large product, and its FLOPs for each token.
    private func forward(_ description: ModelDescription, _ precision: Precision) throws
        -> (json: JSONValue, flopsOfToken: Double)
    {
        let weights = ModelWeights(description, precision: precision)
        var seed: UInt64 = 5
        for parameter in weights.parameters {
            seed += 1
            let isVector = parameter.weight.shape.count == 1
            parameter.weight.fillNormal(deviation: isVector ? 0 : 0.02, mean: isVector ? 1 : 0, seed: seed)
        }
        let model = LanguageModel(weights, precision: precision)
        let workspace = Workspace(model, maximumTokens: rows, longestSequence: sequenceLength)
        let ids = (0..<rows).map { UInt32($0 * 7919 % description.vocabularySize) }
        let tokens = TokenBatch(ids: ids, lengths: Array(repeating: sequenceLength, count: batch))
        // A shared machine's speed drifts: product and forward pass take turns, and the share is that of neighbours.
        let (work, productFlops) = Machine.largeProduct(precision)
        let flops = Double(batch) * description.flops(sequenceLength: sequenceLength)
        let samples = Timing.samples(repeats: repeats, [work, { model.forward(tokens, in: workspace) }])
        let seconds = Timing.median(samples[1])
        let share = Timing.median(zip(samples[0], samples[1]).map { flops / $1 / (productFlops / $0) })
        let hidden = workspace.hiddenStates(rows: rows)
        let alone = (0..<description.hiddenSize).map { hidden[rows - sequenceLength, $0] }
        model.forward(TokenBatch(ids: [ids[rows - sequenceLength]], lengths: [1]), in: workspace)
        for (column, value) in alone.enumerated() {
            try WrongResult.check(
                "a first token alone and in a batch", Double(workspace.hiddenStates(rows: 1)[0, column]), Double(value),
                tolerance: 1e-3 * (1 + abs(Double(value))))
        }
        console.note(
            "forward \(precision.rawValue), \(layers) layers: \(fixed(Double(rows) / seconds, 0)) tokens/s, "
                + "\(fixed(flops / seconds / 1e9, 0)) GFLOP/s, \(fixed(100 * share, 0)) % of a large product")
        let json: JSONValue = [
            "layers": .integer(layers), "tokens_per_second": .number(Double(rows) / seconds),
            "gflops": .number(flops / seconds / 1e9), "share_of_gemm_peak": .number(share),
        ]
        return (json, flops / Double(rows))
    }
}
