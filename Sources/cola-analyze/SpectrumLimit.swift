import Transformer

/// The least time that `spectrum` of the outputs of all linear layers of a dense model would take at measured rates of its
/// parts: what its own seconds, in run.json, are held against.
struct SpectrumLimit {
    /// FLOP/s of a large product in single and in double precision, on all threads.
    let single, double: Double
    /// Useful FLOP/s of second moments by features: of OpenBLAS' DSYRK.
    let gram: [Int: Double]
    /// Symmetric eigenproblems per second by size, all threads together.
    let eigenproblems: [Int: Double]

    /// A layer's linear maps `[out, in]` whose outputs' spectra follow from their inputs: all but down's.
    private static func maps(_ configuration: DecoderConfiguration) -> [(outputs: Int, inputs: Int)] {
        let (c, f) = (configuration.hiddenSize, configuration.intermediateSize)
        let (q, kv) = (configuration.queryWidth, configuration.keyValueWidth)
        return [(q, c), (kv, c), (kv, c), (c, q), (f, c), (f, c)]
    }

    /// Widths of a layer's places whose second moments are summed: inputs of q, k and v, of o, of gate and up; output of
    /// down.
    static func sites(_ configuration: DecoderConfiguration) -> [Int] {
        let c = configuration.hiddenSize
        return [c, configuration.queryWidth, c, c]
    }

    /// Sizes of a layer's eigenproblems: the narrower side of each map, and down's output.
    static func sizes(_ configuration: DecoderConfiguration) -> [Int] {
        maps(configuration).map { min($0.outputs, $0.inputs) } + [configuration.hiddenSize]
    }

    /// FLOPs in double precision before the eigenproblem: of W·S·Wᵀ for a low W `[m, n]`; of a high one, of the Cholesky
    /// factor R of WᵀW and of R·S·Rᵀ.
    private func congruence(_ m: Int, _ n: Int) -> Double {
        let (m, n) = (Double(m), Double(n))
        return m < n ? 2 * m * n * n + m * m * n : m * n * n + n * n * n / 3 + n * n * n
    }

    /// Seconds of so many tokens and layers; `flops` are those of the forward pass.
    func seconds(
        _ configuration: DecoderConfiguration, flops: Double, layers: Int, tokens: Int
    ) -> (forward: Double, moments: Double, decomposition: Double) {
        let forward = flops / single
        let moments = Self.sites(configuration).reduce(0) {
            $0 + Double(tokens * layers) * Double($1 * $1) / gram[$1]!
        }
        let products = Self.maps(configuration).reduce(0) { $0 + congruence($1.outputs, $1.inputs) / double }
        let problems = Self.sizes(configuration).reduce(0) { $0 + 1 / eigenproblems[$1]! }
        return (forward, moments, Double(layers) * (products + problems))
    }
}
