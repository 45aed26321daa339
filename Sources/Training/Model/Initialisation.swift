import Glibc
import Tensors
import Transformer

extension ModelWeights {
    /// First weights of a model that is trained from nothing, in single precision.
    ///
    /// Low-rank factors as in the paper's code: N(0, s²) with s = r^(−1/4) · (d_in + d_out)^(−1/4), biases uniform in
    /// ±1/√d_out. Embeddings of tokens and positions, head and dense linear layers N(0, 0.02²), their biases 0. Norms scale
    /// by 1 – their weight is 1 less what the family adds to it – and shift by 0. Each parameter has a sequence of its own,
    /// so that equal seeds give equal weights.
    public init(_ description: ModelDescription, seed: UInt64) {
        self.init(description, precision: .f32)
        var streams = SeededGenerator(seed: seed)
        for parameter in parameters {
            var generator = SeededGenerator(seed: streams.next())
            func fillNormal(_ deviation: Double) { parameter.weight.fill { Float(deviation * generator.normal()) } }
            switch parameter.role {
            case .norm(let norm): parameter.weight.fill { 1 - norm.offset }
            case .normBias: parameter.weight.fill { 0 }
            case .embedding, .positions, .head, .weight: fillNormal(0.02)
            case .factorA(let linear), .factorB(let linear):
                fillNormal(pow(Double(linear.rank ?? 1) * Double(linear.inputs + linear.outputs), -0.25))
            case .bias(let linear):
                let limit = 1 / Double(linear.outputs).squareRoot()
                parameter.weight.fill { linear.isLowRank ? Float(limit * (2 * generator.uniform() - 1)) : 0 }
            }
        }
    }
}
