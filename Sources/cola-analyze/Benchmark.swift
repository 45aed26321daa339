import Checkpoints
import CommandSupport
import LinearAlgebra
import Spectra
import Tensors
import Transformer

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
        let configuration = try DecoderConfiguration(json: size.configuration(layers: layers), path: size.rawValue)
        var result = JSONObject([("size", .string(size.rawValue)), ("rows", .integer(rows))])
        let shapes = [
            (configuration.hiddenSize, configuration.hiddenSize),
            (configuration.hiddenSize, configuration.intermediateSize),
            (configuration.intermediateSize, configuration.hiddenSize),
        ]
        var peaks: [Precision: Double] = [:]
        for precision in Precision.allCases {
            var entries = try shapes.map { try product(inputs: $0.0, outputs: $0.1, precision) }
            entries.append(try product(inputs: 2048, outputs: 2048, precision))
            peaks[precision] = entries.map(\.rate).max()
            result["gemm_\(precision.rawValue)"] = .array(entries.map(\.json))
            result["gemm_peak_\(precision.rawValue)_gflops"] = .number(peaks[precision]! / 1e9)
        }
        let widths = [configuration.hiddenSize, configuration.intermediateSize]
        result["moments"] = .array(try widths.map { try moments(features: $0) })
        result["eigenvalues"] = .array(try widths.map { try eigenvalues($0) })
        for precision in Precision.allCases {
            result["forward_\(precision.rawValue)"] = try forward(configuration, precision)
        }
        return result
    }

    /// Median seconds of several runs, after a fifth of a second of runs that do not count: threads that have slept may share
    /// a processor at first.
    private func median(_ work: () throws -> Void) rethrows -> Double {
        let warmUpEnd = monotonicSeconds() + 0.2
        repeat { try work() } while monotonicSeconds() < warmUpEnd
        var seconds: [Double] = []
        for _ in 0..<repeats {
            let start = monotonicSeconds()
            try work()
            seconds.append(monotonicSeconds() - start)
        }
        return seconds.sorted()[repeats / 2]
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

    private func moments(features: Int) throws -> JSONValue {
        let x = Machine.random(rows, features, seed: 3)
        let scratch = Moments.Scratch()
        let sum = Moments(features: features)
        sum.add(x.view, scratch: scratch)
        let (i, j) = (features / 3, features - 1)
        let expected = (0..<rows).reduce(0.0) { $0 + Double(x[$1, i]) * Double(x[$1, j]) }
        try WrongResult.check("second moment", sum.gram()[i, j], expected, tolerance: 1e-10 * Double(rows))
        let seconds = median { sum.add(x.view, scratch: scratch) }
        // The symmetric half: features² multiply-adds' worth of two FLOPs, halved.
        let rate = Double(rows * features * features) / seconds
        console.note("moments of \(features) features: \(fixed(rate / 1e9, 0)) GFLOP/s (symmetric half)")
        return [
            "features": .integer(features), "rows": .integer(rows), "milliseconds": .number(seconds * 1e3),
            "gflops": .number(rate / 1e9),
        ]
    }

    private func eigenvalues(_ n: Int) throws -> JSONValue {
        let x = Machine.random(n + 7, n, seed: 4)
        let sum = Moments(features: n)
        sum.add(x.view, scratch: .init())
        let gram = sum.gram()
        let trace = (0..<n).reduce(0.0) { $0 + gram[$1, $1] }
        let values = try Factorization.eigenvalues(ofSymmetric: sum.gram())
        try WrongResult.check("sum of eigenvalues", values.reduce(0, +), trace, tolerance: 1e-10 * trace)
        let seconds = try median { _ = try Factorization.eigenvalues(ofSymmetric: sum.gram()) }
        console.note("eigenvalues of \(n)×\(n), one thread: \(fixed(seconds * 1e3, 1)) ms")
        return ["n": .integer(n), "milliseconds": .number(seconds * 1e3), "threads": 1]
    }

    private func forward(_ configuration: DecoderConfiguration, _ precision: Precision) throws
        -> JSONValue
    {
        let weights = DecoderWeights(configuration, precision: precision) { _, _ in .init() }
        var seed: UInt64 = 5
        weights.visitParameters { _, weight in
            seed += 1
            weight.fillNormal(
                deviation: weight.shape.count == 1 ? 0 : 0.02, mean: weight.shape.count == 1 ? 1 : 0, seed: seed)
        }
        let decoder = Decoder(configuration, weights, precision: precision)
        let workspace = Workspace(decoder, maximumTokens: rows, longestSequence: sequenceLength)
        let ids = (0..<rows).map { UInt32($0 * 7919 % configuration.vocabularySize) }
        let tokens = TokenBatch(ids: ids, lengths: Array(repeating: sequenceLength, count: batch))
        // A shared machine's speed drifts: product and forward pass take turns, and the share is that of neighbours.
        let (work, productFlops) = Machine.largeProduct(precision)
        let flops = Double(batch) * decoder.flops(sequenceLength: sequenceLength)
        decoder.forward(tokens, in: workspace)
        work()
        var pairs: [(seconds: Double, share: Double)] = []
        for _ in 0..<repeats {
            let start = monotonicSeconds()
            work()
            let middle = monotonicSeconds()
            decoder.forward(tokens, in: workspace)
            let end = monotonicSeconds()
            pairs.append((end - middle, flops / (end - middle) / (productFlops / (middle - start))))
        }
        let seconds = pairs.map(\.seconds).sorted()[repeats / 2]
        let share = pairs.map(\.share).sorted()[repeats / 2]
        let hidden = workspace.hiddenStates(rows: rows)
        let alone = (0..<configuration.hiddenSize).map { hidden[rows - sequenceLength, $0] }
        decoder.forward(TokenBatch(ids: [ids[rows - sequenceLength]], lengths: [1]), in: workspace)
        for (column, value) in alone.enumerated() {
            try WrongResult.check(
                "a first token alone and in a batch", Double(workspace.hiddenStates(rows: 1)[0, column]), Double(value),
                tolerance: 1e-3 * (1 + abs(Double(value))))
        }
        console.note(
            "forward \(precision.rawValue), \(layers) layers: \(fixed(Double(rows) / seconds, 0)) tokens/s, "
                + "\(fixed(flops / seconds / 1e9, 0)) GFLOP/s, \(fixed(100 * share, 0)) % of a large product")
        return [
            "layers": .integer(layers), "tokens_per_second": .number(Double(rows) / seconds),
            "gflops": .number(flops / seconds / 1e9), "share_of_gemm_peak": .number(share),
        ]
    }
}
