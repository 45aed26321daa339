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
    /// - Parameter layout: rank (nil for a dense one) and bias of each projection.
    public init(
        _ configuration: DecoderConfiguration, seed: UInt64, layout: (Int, LinearModule) -> ProjectionLayout
    ) {
        self.init(configuration, precision: .f32, layout: layout)
        var streams = SeededGenerator(seed: seed)
        // Of the projection whose bias comes next.
        var isLowRank = false
        visitParameters { name, weight in
            var generator = SeededGenerator(seed: streams.next())
            guard case .single(let matrix) = weight.storage else { return }
            func fill(_ value: () -> Double) {
                for i in 0..<matrix.count { matrix.pointer[i] = Float(value()) }
            }
            if name.hasSuffix("norm.weight") { return fill { 1 } }
            guard let module = LinearModule.allCases.first(where: { name.contains(".\($0.rawValue).") }) else {
                return fill { 0.02 * generator.normal() }
            }
            let (inputs, outputs) = configuration.shape(of: module)
            if name.hasSuffix(".bias") {
                let limit = 1 / Double(outputs).squareRoot()
                return fill { isLowRank ? limit * (2 * generator.uniform() - 1) : 0 }
            }
            isLowRank = !name.hasSuffix(".weight")
            let rank = name.hasSuffix(".cola_a") ? weight.shape[1] : weight.shape[0]
            let deviation = isLowRank ? pow(Double(rank) * Double(inputs + outputs), -0.25) : 0.02
            fill { deviation * generator.normal() }
        }
    }

    /// The same with one rank for all projections; nil for dense ones.
    public init(
        _ configuration: DecoderConfiguration, rank: Int?, hasBias: (LinearModule) -> Bool = { _ in false },
        seed: UInt64
    ) {
        self.init(configuration, seed: seed) { _, module in .init(rank: rank, hasBias: hasBias(module)) }
    }
}
