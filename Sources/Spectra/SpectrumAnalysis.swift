import LinearAlgebra
import Tensors
import Transformer

/// The singular values of one matrix of activations, `[tokens, features]`.
public struct Spectrum: Sendable {
    public let key: SpectrumKey
    public let tokens: Int
    public let features: Int
    /// Descending; as many as the matrix can have that are not zero: tokens, features, or the width it came through.
    public let singularValues: [Double]
}

/// Watches a model's forward passes and derives the spectra that were asked for.
///
/// Keeps sums of the size features² for each site and nothing that grows with the number of tokens.
public final class SpectrumAnalysis: ActivationObserver {
    private enum Accumulator {
        case gram(Moments)
        case triangular(TriangularAccumulator)
    }

    private struct Place: Hashable {
        let block: Int
        let site: ActivationSite
    }

    public let request: SpectrumRequest
    private let derivations: [Derivation]
    private let accumulators: [Place: Accumulator]
    private let scratch = Moments.Scratch()
    private var failure: LinearAlgebraError?

    /// The spectra that `request` asks of the model; a dense linear layer has no bottleneck, so there may be fewer than
    /// modules × sides, or none.
    public var keys: [SpectrumKey] { derivations.map(\.key) }

    /// Blocks that have to be run.
    public var blocksNeeded: Int { (derivations.map(\.key.block).max() ?? -1) + 1 }

    /// Features of the widest place that is observed; four tokens for each are the least to trust.
    public var widestSite: Int {
        accumulators.values.reduce(0) { widest, accumulator in
            switch accumulator {
            case .gram(let moments): max(widest, moments.features)
            case .triangular(let triangle): max(widest, triangle.features)
            }
        }
    }

    /// Throws `SpectrumError` for a module or a block that the model does not have.
    public init(_ request: SpectrumRequest, of model: LanguageModel) throws(SpectrumError) {
        let known = MeasuredModule.all(of: model.description)
        if let module = request.modules.first(where: { !known.contains($0) }) {
            throw .module(module.name, known: known.map(\.shortName))
        }
        let count = model.description.blocks.count
        if let block = request.blocks.first(where: { !(0..<count).contains($0) }) {
            throw .block(block, count: count)
        }
        self.request = request
        derivations = Derivation.plan(request, of: model)
        // All sums are made here and not during the first pass: small pieces of memory that stay, taken between the
        // products' large temporary ones, would keep those from finding the same place again.
        let arena = Arena()
        var accumulators: [Place: Accumulator] = [:]
        for derivation in derivations {
            let place = Place(block: derivation.key.block, site: derivation.site)
            guard accumulators[place] == nil else { continue }
            let features = model.features(at: place.site, block: place.block)
            switch request.accumulation {
            case .gram: accumulators[place] = .gram(Moments(features: features, in: arena))
            case .qr: accumulators[place] = .triangular(TriangularAccumulator(features: features))
            }
        }
        self.accumulators = accumulators
    }

    public func observe(_ site: ActivationSite, block: Int, _ activations: MatrixView<Float>) {
        guard let accumulator = accumulators[Place(block: block, site: site)], failure == nil else { return }
        switch accumulator {
        case .gram(let moments): moments.add(activations, scratch: scratch)
        case .triangular(let triangle):
            do throws(LinearAlgebraError) { try triangle.add(activations) } catch { failure = error }
        }
    }

    /// Bytes of what accumulation needs besides the sums; comes with the first tokens.
    var scratchBytes: Int { scratch.bytes }

    /// Bytes that the sums hold.
    public var bytes: Int {
        accumulators.values.reduce(scratchBytes) { sum, accumulator in
            switch accumulator {
            case .gram(let moments): sum + moments.bytes
            case .triangular(let triangle): sum + triangle.bytes
            }
        }
    }

    /// The spectra of everything observed so far, in the order of `keys`. Runs several decompositions side by side and
    /// calls `progress` after each, one at a time.
    public func spectra(progress: (Int) -> Void = { _ in }) throws(LinearAlgebraError) -> [Spectrum] {
        if let failure { throw failure }
        // Derivations side by side share a site's sums: q, k and v their input.
        for case .triangular(let triangle) in accumulators.values { try triangle.reduce() }
        let results = ParallelResults<Result<Spectrum, LinearAlgebraError>>(count: derivations.count)
        // Costly ones first, so that threads end together; block by block otherwise.
        let order = derivations.indices.sorted { cost(derivations[$0]) > cost(derivations[$1]) }
        results.fill(order: order, progress: progress) { index in
            let derivation = self.derivations[index]
            return Result { () throws(LinearAlgebraError) in
                do throws(LinearAlgebraError) {
                    return try self.spectrum(derivation)
                } catch {
                    let key = derivation.key
                    let place = "layer \(key.block) \(key.module.name) \(key.side.rawValue)"
                    throw LinearAlgebraError(operation: "\(place): \(error.operation)", reason: error.reason)
                }
            }
        }
        return try results.values.map { result throws(LinearAlgebraError) in try result.get() }
    }

    private func cost(_ derivation: Derivation) -> Int {
        derivation.maps.last?.weight.count ?? 0
    }

    private func spectrum(_ derivation: Derivation) throws(LinearAlgebraError) -> Spectrum {
        let (values, tokens, width): ([Double], Int, Int)
        switch accumulators[Place(block: derivation.key.block, site: derivation.site)]! {
        case .gram(let moments):
            values = try Self.singularValues(of: moments, derivation.maps, isCentered: request.isCentered)
            (tokens, width) = (moments.tokens, moments.features)
        case .triangular(let triangle):
            values = try Self.singularValues(of: triangle, derivation.maps, isCentered: request.isCentered)
            (tokens, width) = (triangle.tokens, triangle.features)
        }
        let features = derivation.maps.last?.outputs ?? width
        // The activations lie in a space as narrow as the narrowest map, which a bias can shift. Further values are zeros
        // of the arithmetic, as many as the way of computing leaves.
        let hasShift = !request.isCentered && derivation.maps.contains { $0.bias != nil }
        let narrowest = derivation.maps.reduce(width) { min($0, $1.outputs) } + (hasShift ? 1 : 0)
        return Spectrum(
            key: derivation.key, tokens: tokens, features: features,
            singularValues: Array(values.prefix(min(tokens, features, narrowest))))
    }
}

// MARK: - From sums to singular values

extension SpectrumAnalysis {
    /// With X the observed activations and M the composed map: the eigenvalues of M·XᵀX·Mᵀ are the squares.
    ///
    /// The eigenproblem is never larger than the narrower side of M; a singular XᵀX does no harm.
    static func singularValues(
        of moments: Moments, _ maps: [Derivation.Map], isCentered: Bool
    ) throws(LinearAlgebraError) -> [Double] {
        let hasOnes = isCentered || maps.contains { $0.bias != nil }
        var sums = moments.sum
        var gram = moments.gram()
        if hasOnes {
            sums.append(Double(moments.tokens))
            gram = bordered(gram, by: sums)
        }
        let map = composed(maps, inputs: moments.features, hasOnes: hasOnes, centeredAt: isCentered ? sums : nil)
        let eigenvalues: [Double]
        if let map {
            eigenvalues = try Factorization.eigenvalues(ofCongruence: map, gram)
        } else {
            eigenvalues = try Factorization.eigenvalues(ofSymmetric: gram)
        }
        return eigenvalues.map { max(0, $0).squareRoot() }
    }

    /// The same from the triangular factor R of [X 1]: the singular values of R·Mᵀ.
    static func singularValues(
        of triangle: TriangularAccumulator, _ maps: [Derivation.Map], isCentered: Bool
    ) throws(LinearAlgebraError) -> [Double] {
        let factor = try triangle.factor()
        let ones = DoubleMatrix(shape: [1, triangle.features + 1])
        for i in 0...triangle.features { ones.pointer[i] = factor[i, triangle.features] }
        let columnSums = Factorization.multiply(ones, factor)
        let sums = (0...triangle.features).map { columnSums[0, $0] }
        let map =
            composed(maps, inputs: triangle.features, hasOnes: true, centeredAt: isCentered ? sums : nil)
            ?? identity(triangle.features)
        return try Factorization.singularValues(of: Factorization.multiply(factor, map, transposeB: true))
    }

    /// [[G, s], [sᵀ, N]] for sums = [s, N].
    private static func bordered(_ gram: DoubleMatrix, by sums: [Double]) -> DoubleMatrix {
        let n = gram.rows
        let result = DoubleMatrix(uninitialized: [n + 1, n + 1])
        for row in 0..<n {
            (result.pointer + row * (n + 1)).update(from: gram.pointer + row * n, count: n)
            result[row, n] = sums[row]
            result[n, row] = sums[row]
        }
        result[n, n] = sums[n]
        return result
    }

    /// `[n, n + 1]`: keeps x of [x, 1].
    private static func identity(_ n: Int) -> DoubleMatrix {
        let result = DoubleMatrix(shape: [n, n + 1])
        for i in 0..<n { result[i, i] = 1 }
        return result
    }

    /// The maps as one matrix `[out, in]`, with a last column for the constant 1 where `hasOnes`; nil if it keeps x as it
    /// is. With `centeredAt` = Σ [x, 1], the mean of the outputs is taken off the last column.
    private static func composed(
        _ maps: [Derivation.Map], inputs: Int, hasOnes: Bool, centeredAt sums: [Double]?
    ) -> DoubleMatrix? {
        if maps.isEmpty && sums == nil { return nil }
        let columns = inputs + (hasOnes ? 1 : 0)
        var result: DoubleMatrix?
        for map in maps {
            let weight = map.weight.doubles(transposed: map.isTransposed)
            let next: DoubleMatrix
            if let result {
                next = Factorization.multiply(weight, result)
            } else if hasOnes {
                next = DoubleMatrix(shape: [map.outputs, columns])
                for row in 0..<map.outputs {
                    (next.pointer + row * columns).update(from: weight.pointer + row * inputs, count: inputs)
                }
            } else {
                next = weight
            }
            if let bias = map.bias?.doubles() {
                for row in 0..<map.outputs { next[row, inputs] += bias.pointer[row] }
            }
            result = next
        }
        let composed = result ?? identity(inputs)
        if let sums {
            for row in 0..<composed.rows {
                let mean = (0..<columns).reduce(0) { $0 + composed[row, $1] * sums[$1] } / sums[inputs]
                composed[row, inputs] -= mean
            }
        }
        return composed
    }
}
