import CKernels
import LinearAlgebra
import Tensors

/// The operations of a decoder layer one by one, over all tokens of a text at once: for whoever looks at what flows
/// between them, or changes a projection before the next one reads it.
///
/// Letters: N tokens, C hidden size, F intermediate size, H heads, K key/value heads, D head size. Each result is a new
/// matrix.
public struct LayerSteps {
    public let configuration: DecoderConfiguration
    public let batch: TokenBatch
    private let positions: [Int]
    private let rotary: RotaryTable
    private let scores: Matrix

    public init(_ configuration: DecoderConfiguration, _ batch: TokenBatch) {
        self.configuration = configuration
        self.batch = batch
        positions = batch.positions
        rotary = RotaryTable(configuration.rotary, size: configuration.headSize, positions: batch.longest)
        scores = Matrix(
            uninitialized: [ThreadPool.threads, min(Attention.queryBlock, batch.longest) * batch.longest])
    }

    /// The residual stream that enters the first layer, `[N, C]`.
    public func embed(_ decoder: Decoder) -> Matrix {
        let hidden = Matrix(uninitialized: [batch.count, configuration.hiddenSize])
        decoder.embed(batch, into: hidden)
        return hidden
    }

    /// RMSNorm(x), `[N, C]`.
    public func normalize(_ x: Matrix, _ weight: Weight) -> Matrix {
        let y = Matrix(uninitialized: x.shape)
        ThreadPool.forEachRange(x.rows) { rows in
            Normalization.forward(
                x.view.rows(rows), weight, epsilon: configuration.normEpsilon, into: y.view.rows(rows))
        }
        return y
    }

    /// layer(x), `[N, out]`.
    public func project(_ x: Matrix, _ projection: Projection) -> Matrix {
        let y = Matrix(uninitialized: [x.rows, projection.outputs])
        let z = projection.rank.map { Matrix(uninitialized: [x.rows, $0]) }
        // One part for each thread is too much for its cache; products want some hundred rows.
        let block = 256
        ThreadPool.forEach((x.rows + block - 1) / block) { index in
            let rows = index * block..<min(x.rows, (index + 1) * block)
            let bottleneck = z?.view.rows(rows)
            projection.forward(
                x.view.rows(rows), bottleneck: bottleneck, activated: bottleneck, scratch: nil,
                into: y.view.rows(rows))
        }
        return y
    }

    /// Causal attention, `[N, H·D]`, of q `[N, H·D]`, k and v `[N, K·D]`; q and k are rotated in place.
    public func attend(query: Matrix, key: Matrix, value: Matrix) -> Matrix {
        ThreadPool.forEachRange(batch.count) { rows in
            for row in rows {
                let position = positions[row]
                rotary.rotate(query.view.row(row), heads: configuration.heads, position: position, direction: 1)
                rotary.rotate(key.view.row(row), heads: configuration.keyValueHeads, position: position, direction: 1)
            }
        }
        let attended = Matrix(uninitialized: query.shape)
        Attention(configuration).forward(
            batch, query: query.view, key: key.view, value: value.view, scores: scores, statistics: nil,
            into: attended.view)
        return attended
    }

    /// silu(gate) · up or gate · up, by the configuration, `[N, F]`.
    public func multiply(gate: Matrix, up: Matrix) -> Matrix {
        let product = Matrix(uninitialized: gate.shape)
        ThreadPool.forEachRange(gate.count, granularity: 1 << 12) { part in
            let (g, u) = (gate.pointer + part.lowerBound, up.pointer + part.lowerBound)
            if configuration.placement.hasOuterActivation {
                ck_silu_multiply(g, u, product.pointer + part.lowerBound, part.count)
            } else {
                ck_multiply(g, u, product.pointer + part.lowerBound, part.count)
            }
        }
        return product
    }

    /// x + y.
    public func add(_ x: Matrix, _ y: Matrix) -> Matrix {
        let sum = Matrix(uninitialized: x.shape)
        ThreadPool.forEachRange(x.count, granularity: 1 << 12) { part in
            ck_sum(
                x.pointer + part.lowerBound, y.pointer + part.lowerBound, sum.pointer + part.lowerBound, part.count)
        }
        return sum
    }
}
