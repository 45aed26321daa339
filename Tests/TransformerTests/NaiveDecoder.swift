import Foundation
import Tensors

@testable import Transformer

/// Rows of numbers in double precision.
typealias Rows = [[Double]]

/// The decoder once more, by plain loops in double precision, one sequence at a time: what the fast one is held against.
struct NaiveDecoder {
    let configuration: DecoderConfiguration
    let weights: DecoderWeights

    /// What there is to see in one pass over one sequence.
    struct Trace {
        /// The residual stream, before the last RMSNorm.
        var hidden: Rows = []
        var logits: Rows = []
        /// For each decoder layer, every matrix that the fast decoder shows to observers.
        var sites: [[ActivationSite: Rows]] = []
    }

    init(_ configuration: DecoderConfiguration, _ weights: DecoderWeights) {
        self.configuration = configuration
        self.weights = weights
    }

    init(_ decoder: Decoder) { self.init(decoder.configuration, decoder.weights) }

    /// Runs one sequence. The logits are computed where the decoder has its head.
    func forward(_ ids: some Sequence<UInt32>) -> Trace {
        var trace = Trace()
        let embedding = matrix(weights.embedding)
        var hidden = ids.map { embedding[Int($0)] }
        for layer in weights.layers {
            var sites: [ActivationSite: Rows] = [.residualInput: hidden]

            // Attention: q, k and v of the normalised stream, rotated, each query over its past.
            let x = normalized(hidden, layer.inputNorm)
            sites[.input(.query)] = x
            let query = rotated(apply(layer, .query, x, &sites), heads: configuration.heads)
            let key = rotated(apply(layer, .key, x, &sites), heads: configuration.keyValueHeads)
            let attended = attention(query, key, apply(layer, .value, x, &sites))
            sites[.input(.output)] = attended
            hidden = sum(hidden, apply(layer, .output, attended, &sites))

            // MLP: down(silu(gate) · up), or down(gate · up).
            let y = normalized(hidden, layer.postAttentionNorm)
            sites[.input(.gate)] = y
            let gate = apply(layer, .gate, y, &sites)
            let up = apply(layer, .up, y, &sites)
            let placement = configuration.placement
            let isOuter = placement == .both || placement == .original
            let product = zip(gate, up).map { gate, up in
                zip(gate, up).map { (isOuter ? silu($0) : $0) * $1 }
            }
            sites[.input(.down)] = product
            let output = apply(layer, .down, product, &sites)
            sites[.mlpOutput] = output
            hidden = sum(hidden, output)
            sites[.residualOutput] = hidden
            trace.sites.append(sites)
        }
        trace.hidden = hidden
        trace.logits = logits(of: hidden)
        return trace
    }

    /// The head's products with the last RMSNorm, `[rows, V]`; none if the decoder was loaded without its head.
    func logits(of hidden: Rows) -> Rows {
        guard let head = weights.head.map(matrix) else { return [] }
        return normalized(hidden, weights.norm).map { row in head.map { dot($0, row) } }
    }

    /// −log p(target) of each row.
    func losses(logits: Rows, targets: [UInt32]) -> [Double] {
        zip(logits, targets).map { row, target in
            let most = row.max()!
            return most + log(row.reduce(0) { $0 + exp($1 - most) }) - row[Int(target)]
        }
    }

    /// W·x + b, or B·σ(A·x) + b, leaving σ(A·x) in `sites` where σ stands.
    private func apply(
        _ layer: DecoderLayer, _ module: LinearModule, _ x: Rows, _ sites: inout [ActivationSite: Rows]
    ) -> Rows {
        let bias = layer[module].bias.map { matrix($0)[0] }
        let y: Rows
        switch layer[module] {
        case .dense(let dense):
            let weight = matrix(dense.weight)
            y = x.map { row in weight.map { dot($0, row) } }
        case .lowRank(let lowRank):
            let (a, b) = (transpose(matrix(lowRank.a)), transpose(matrix(lowRank.b)))
            var h = x.map { row in a.map { dot($0, row) } }
            let hasInner =
                switch configuration.placement {
                case .both, .inner: true
                case .reduced: module == .gate
                case .original: false
                }
            if hasInner {
                h = h.map { $0.map(silu) }
                sites[.bottleneck(module)] = h
            }
            y = h.map { row in b.map { dot($0, row) } }
        }
        guard let bias else { return y }
        return y.map { zip($0, bias).map { $0 + $1 } }
    }

    private func attention(_ query: Rows, _ key: Rows, _ value: Rows) -> Rows {
        let size = configuration.headSize
        let group = configuration.heads / configuration.keyValueHeads
        return query.indices.map { position in
            (0..<configuration.heads).flatMap { head -> [Double] in
                let columns = head * size..<(head + 1) * size
                let shared = head / group * size..<(head / group + 1) * size
                let scores = (0...position).map {
                    dot(Array(query[position][columns]), Array(key[$0][shared])) / Double(size).squareRoot()
                }
                let most = scores.max()!
                let weights = scores.map { exp($0 - most) }
                let total = weights.reduce(0, +)
                return shared.map { column in
                    (0...position).reduce(0) { $0 + weights[$1] / total * value[$1][column] }
                }
            }
        }
    }

    /// Rotates the pair (i, i + R/2) of every head by position · frequency, for the first R features of a head.
    private func rotated(_ x: Rows, heads: Int) -> Rows {
        let size = configuration.headSize
        let rotated = Int(Double(size) * configuration.rotary.share)
        let frequencies = Self.frequencies(configuration.rotary, size: rotated)
        return x.enumerated().map { position, row in
            var row = row
            for head in 0..<heads {
                for (pair, frequency) in frequencies.enumerated() {
                    let (i, j) = (head * size + pair, head * size + pair + rotated / 2)
                    let angle = Double(position) * frequency
                    (row[i], row[j]) = (
                        row[i] * cos(angle) - row[j] * sin(angle), row[j] * cos(angle) + row[i] * sin(angle)
                    )
                }
            }
            return row
        }
    }

    /// As in the `transformers` library, by wavelengths.
    static func frequencies(_ rotary: RotaryConfiguration, size: Int) -> [Double] {
        (0..<size / 2).map { pair in
            let frequency = 1 / pow(rotary.base, Double(2 * pair) / Double(size))
            switch rotary.scaling {
            case .none: return frequency
            case .linear(let factor): return frequency / factor
            case .llama3(let factor, let low, let high, let original):
                let wavelength = 2 * Double.pi / frequency
                if wavelength < original / high { return frequency }
                if wavelength > original / low { return frequency / factor }
                let smooth = (original / wavelength - low) / (high - low)
                return (1 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }

    private func normalized(_ x: Rows, _ weight: Weight) -> Rows {
        let weight = matrix(weight)[0]
        return x.map { row in
            let mean = dot(row, row) / Double(row.count)
            let root = (mean + Double(configuration.normEpsilon)).squareRoot()
            return zip(row, weight).map { $0 / root * $1 }
        }
    }
}

func silu(_ x: Double) -> Double { x / (1 + exp(-x)) }

func dot(_ x: [Double], _ y: [Double]) -> Double {
    precondition(x.count == y.count)
    var sum = 0.0
    for i in x.indices { sum += x[i] * y[i] }
    return sum
}

private func sum(_ x: Rows, _ y: Rows) -> Rows { zip(x, y).map { zip($0, $1).map { $0 + $1 } } }

private func transpose(_ x: Rows) -> Rows { x[0].indices.map { column in x.map { $0[column] } } }

/// The elements as they are stored.
private func matrix(_ weight: Weight) -> Rows {
    let values: [Double]
    switch weight.storage {
    case .single(let matrix): values = withExtendedLifetime(matrix) { matrix.buffer.map(Double.init) }
    case .bfloat16(let tensor): values = withExtendedLifetime(tensor) { tensor.buffer.map { Double($0.float) } }
    case .none: preconditionFailure("a weight of a plan has no elements")
    }
    return (0..<weight.rows).map { Array(values[$0 * weight.columns..<($0 + 1) * weight.columns]) }
}
