import Glibc
import Tensors
import Transformer

extension DecoderWeights {
    /// First weights of a model that is trained from nothing, in single precision.
    ///
    /// Low-rank factors as in the paper's code: N(0, s²) with s = r^(−1/4) · (d_in + d_out)^(−1/4), biases uniform in
    /// ±1/√d_out. Embedding, head and dense projections N(0, 0.02²), norms 1, biases of dense projections 0. Each
    /// parameter has a sequence of its own, so that equal seeds give equal weights.
    ///
    /// - Parameter rank: R of every projection; nil for dense ones.
    public init(
        _ configuration: DecoderConfiguration, rank: Int?, hasBias: (LinearModule) -> Bool = { _ in false },
        seed: UInt64
    ) {
        self.init(configuration, precision: .f32) { _, module in .init(rank: rank, hasBias: hasBias(module)) }
        var streams = SeededGenerator(seed: seed)
        visitParameters { name, weight in
            var generator = SeededGenerator(seed: streams.next())
            guard case .single(let matrix) = weight.storage else { return }
            func fill(_ value: () -> Double) {
                for i in 0..<matrix.count { matrix.pointer[i] = Float(value()) }
            }
            let module = LinearModule.allCases.first { name.contains(".\($0.rawValue).") }
            switch (module.map(configuration.shape), rank) {
            case (_, _) where name.hasSuffix("norm.weight"): fill { 1 }
            case (.some(let (_, outputs)), .some) where name.hasSuffix(".bias"):
                let limit = 1 / Double(outputs).squareRoot()
                fill { limit * (2 * generator.uniform() - 1) }
            case (.some, nil) where name.hasSuffix(".bias"): fill { 0 }
            case (.some(let (inputs, outputs)), .some(let rank)):
                let deviation = pow(Double(rank) * Double(inputs + outputs), -0.25)
                fill { deviation * generator.normal() }
            default: fill { 0.02 * generator.normal() }
            }
        }
    }
}
