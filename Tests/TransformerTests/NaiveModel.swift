import Foundation
import Tensors

@testable import Transformer

/// Rows of numbers in double precision.
typealias Rows = [[Double]]

/// The model once more, by plain loops in double precision, one sequence at a time: what the fast one is held against.
struct NaiveModel {
    let description: ModelDescription
    let weights: ModelWeights

    /// What there is to see in one pass over one sequence.
    struct Trace {
        /// The residual stream, before the last norm.
        var hidden: Rows = []
        var logits: Rows = []
        /// For each block, every matrix that the fast model shows to observers.
        var sites: [[ActivationSite: Rows]] = []
    }

    init(_ model: LanguageModel) {
        description = model.description
        weights = model.weights
    }

    /// Runs one sequence. The logits are computed where the model has its head.
    func forward(_ ids: some Sequence<UInt32>) -> Trace {
        var trace = Trace()
        var hidden = embedded(ids)
        for (block, parts) in zip(description.blocks, weights.blocks) {
            var sites: [ActivationSite: Rows] = [.residualInput: hidden]
            func linear(_ role: LinearRole, _ x: Rows) -> Rows { apply(role, of: block, x, &sites) }

            // Attention: q, k and v of the normalised stream, q and k normalised head by head and rotated, each query over
            // the past that it sees.
            let x = normalized(hidden, parts.attentionInput)
            sites[.input(.attentionInput)] = x
            let query = turned(linear(.query, x), heads: block.attention.heads, parts.query, block.attention)
            let key = turned(linear(.key, x), heads: block.attention.keyValueHeads, parts.key, block.attention)
            let attended = attention(block.attention, query, key, linear(.value, x))
            sites[.input(.attended)] = attended
            hidden = sum(hidden, normalized(linear(.output, attended), parts.attentionOutput))

            // Feed-forward network: down(act(gate) · up), or down(act(up)).
            let y = normalized(hidden, parts.feedForwardInput)
            sites[.input(.feedForwardInput)] = y
            let act = formula(block.feedForward.activation)
            let up = linear(.up, y)
            let product =
                block.feedForward.isGated
                ? zip(linear(.gate, y), up).map { zip($0, $1).map { act($0) * $1 } } : up.map { $0.map(act) }
            sites[.input(.product)] = product
            let output = linear(.down, product)
            sites[.feedForwardOutput] = output
            hidden = sum(hidden, normalized(output, parts.feedForwardOutput))
            sites[.residualOutput] = hidden
            trace.sites.append(sites)
        }
        trace.hidden = hidden
        trace.logits = logits(of: hidden)
        return trace
    }

    /// Each token's row times the factor, plus the row of its position where positions are learned.
    private func embedded(_ ids: some Sequence<UInt32>) -> Rows {
        let embedding = matrix(weights.embedding)
        let scaled = ids.map { id in embedding[Int(id)].map { Double(description.embeddingScale) * $0 } }
        guard let positions = weights.positions.map(matrix) else { return scaled }
        return sum(scaled, positions)
    }

    /// The head's products with the last norm, `[rows, V]`; none if the model was loaded without its head.
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
        _ role: LinearRole, of block: BlockDescription, _ x: Rows, _ sites: inout [ActivationSite: Rows]
    ) -> Rows {
        let layer = block.linears.first { $0.role == role }!
        let linear = weights[layer]
        let bias = linear.bias.map { matrix($0)[0] }
        let y: Rows
        switch linear {
        case .dense(let dense):
            let weight = matrix(dense.weight)
            y = x.map { row in weight.map { dot($0, row) } }
        case .lowRank(let lowRank):
            let (a, b) = (transpose(matrix(lowRank.a)), transpose(matrix(lowRank.b)))
            var h = x.map { row in a.map { dot($0, row) } }
            let hasInner =
                switch description.placement {
                case .both, .inner: true
                case .reduced: role == .gate || role == .up && !block.feedForward.isGated
                case .original: false
                }
            if hasInner {
                h = h.map { $0.map(silu) }
                sites[.bottleneck(module: layer.module)] = h
            }
            y = h.map { row in b.map { dot($0, row) } }
        }
        guard let bias else { return y }
        return y.map { zip($0, bias).map { $0 + $1 } }
    }

    private func attention(_ attention: AttentionDescription, _ query: Rows, _ key: Rows, _ value: Rows) -> Rows {
        let size = attention.headSize
        let group = attention.heads / attention.keyValueHeads
        return query.indices.map { position in
            let seen = max(0, position + 1 - (attention.window ?? position + 1))...position
            return (0..<attention.heads).flatMap { head -> [Double] in
                let columns = head * size..<(head + 1) * size
                let shared = head / group * size..<(head / group + 1) * size
                let scores = seen.map {
                    dot(Array(query[position][columns]), Array(key[$0][shared])) * Double(attention.scale)
                }
                let most = scores.max()!
                let weights = scores.map { exp($0 - most) }
                let total = weights.reduce(0, +)
                return shared.map { column in
                    zip(seen, weights).reduce(0) { $0 + $1.1 / total * value[$1.0][column] }
                }
            }
        }
    }

    /// The heads of each row normalised, where there is a norm of them, then rotated.
    private func turned(_ x: Rows, heads: Int, _ norm: NormWeights?, _ attention: AttentionDescription) -> Rows {
        let size = attention.headSize
        let parts = (0..<heads).map { head in
            normalized(x.map { Array($0[head * size..<(head + 1) * size]) }, norm)
        }
        let heads = x.indices.map { row in parts.flatMap { $0[row] } }
        return attention.rotary.map { rotated(heads, heads: parts.count, size: size, $0) } ?? heads
    }

    /// Rotates the pair (i, i + R/2) of every head by position · frequency, for the first R features of a head.
    private func rotated(_ x: Rows, heads: Int, size: Int, _ rotary: RotaryConfiguration) -> Rows {
        let rotated = Int(Double(size) * rotary.share)
        let frequencies = Self.frequencies(rotary, size: rotated, length: x.count)
        return x.enumerated().map { position, row in
            var row = row
            for head in 0..<heads {
                for (pair, frequency) in frequencies.enumerated() {
                    let (i, j) = (head * size + pair, head * size + pair + rotated / 2)
                    let angle = Double(position) * frequency
                    let (cosine, sine) = (rotary.magnitude * cos(angle), rotary.magnitude * sin(angle))
                    (row[i], row[j]) = (row[i] * cosine - row[j] * sine, row[j] * cosine + row[i] * sine)
                }
            }
            return row
        }
    }

    /// As in the `transformers` library, by wavelengths.
    static func frequencies(_ rotary: RotaryConfiguration, size: Int, length: Int = 1) -> [Double] {
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
            case .dynamic(let factor, let most):
                if Double(length) <= most { return frequency }
                let stretch = factor * Double(length) / most - (factor - 1)
                let base = rotary.base * pow(stretch, Double(size) / Double(size - 2))
                return 1 / pow(base, Double(2 * pair) / Double(size))
            case .yarn(let factor, let fast, let slow, let original, let truncates):
                func pairs(_ turns: Double) -> Double {
                    Double(size) * log(original / (2 * Double.pi * turns)) / (2 * log(rotary.base))
                }
                var (low, high) = truncates ? (floor(pairs(fast)), ceil(pairs(slow))) : (pairs(fast), pairs(slow))
                low = max(low, 0)
                high = min(high, Double(size) - 1)
                if low == high { high += 0.001 }
                let ramp = max(0, min(1, (Double(pair) - low) / (high - low)))
                return frequency / factor * ramp + frequency * (1 - ramp)
            }
        }
    }

    private func normalized(_ x: Rows, _ norm: NormWeights?) -> Rows {
        guard let norm else { return x }
        let weight = matrix(norm.weight)[0].map { $0 + Double(norm.description.offset) }
        let bias = norm.bias.map { matrix($0)[0] } ?? weight.map { _ in 0 }
        return x.map { row in
            let count = Double(row.count)
            let mean = norm.description.kind == .layer ? row.reduce(0, +) / count : 0
            let centred = row.map { $0 - mean }
            let root = (dot(centred, centred) / count + Double(norm.description.epsilon)).squareRoot()
            return zip(centred, zip(weight, bias)).map { $0 / root * $1.0 + $1.1 }
        }
    }
}

/// An activation by its formula.
func formula(_ activation: Activation) -> (Double) -> Double {
    switch activation {
    case .identity: { $0 }
    case .silu: silu
    case .geluTanh: { $0 / 2 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }
    case .gelu: { $0 / 2 * (1 + erf($0 / 2.0.squareRoot())) }
    case .relu: { max($0, 0) }
    case .relu2: { max($0, 0) * max($0, 0) }
    case .quickGELU: { $0 / (1 + exp(-1.702 * $0)) }
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
    (0..<weight.rows).map { row in
        (0..<weight.columns).map {
            weight.precision == .bf16 ? Double(weight.roundedView[row, $0].float) : Double(weight.view[row, $0])
        }
    }
}
