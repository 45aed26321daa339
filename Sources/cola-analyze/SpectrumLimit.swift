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

    /// The linear layers of a block whose outputs' spectra follow from their inputs: all but down, whose output is narrower
    /// and is observed itself.
    private static func maps(_ block: BlockDescription) -> [LinearLayer] {
        block.linears.filter { $0.role.stream != .product }
    }

    /// Widths of a block's places whose second moments are summed: what the linear layers read, and down's output.
    static func sites(_ block: BlockDescription) -> [Int] {
        [Stream.attentionInput, .attended, .feedForwardInput].map(block.width)
            + block.linears(reading: .product).map(\.outputs)
    }

    /// Sizes of a block's eigenproblems: the narrower side of each map, and down's output.
    static func sizes(_ block: BlockDescription) -> [Int] {
        maps(block).map { min($0.outputs, $0.inputs) } + block.linears(reading: .product).map(\.outputs)
    }

    /// FLOPs in double precision before the eigenproblem: of W·S·Wᵀ for a low W `[m, n]`; of a high one, of the Cholesky
    /// factor R of WᵀW and of R·S·Rᵀ.
    private func congruence(_ m: Int, _ n: Int) -> Double {
        let (m, n) = (Double(m), Double(n))
        return m < n ? 2 * m * n * n + m * m * n : m * n * n + n * n * n / 3 + n * n * n
    }

    /// Seconds of so many tokens and blocks like this one; `flops` are those of the forward pass.
    func seconds(
        _ block: BlockDescription, flops: Double, layers: Int, tokens: Int
    ) -> (forward: Double, moments: Double, decomposition: Double) {
        let forward = flops / single
        let moments = Self.sites(block).reduce(0) {
            $0 + Double(tokens * layers) * Double($1 * $1) / gram[$1]!
        }
        let products = Self.maps(block).reduce(0) { $0 + congruence($1.outputs, $1.inputs) / double }
        let problems = Self.sizes(block).reduce(0) { $0 + 1 / eigenproblems[$1]! }
        return (forward, moments, Double(layers) * (products + problems))
    }
}
