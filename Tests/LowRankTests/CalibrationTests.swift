import LinearAlgebra
import Spectra
import Tensors
import TestSupport
import Testing
import Transformer

@testable import LowRank

/// Keeps everything it is shown.
private final class Collector: ActivationObserver, GradientObserver {
    struct Place: Hashable {
        let layer: Int
        let module: LinearModule
    }

    var inputs: [Place: [[Double]]] = [:]
    var gradients: [Place: [[Double]]] = [:]

    private func rows(_ x: MatrixView<Float>) -> [[Double]] {
        (0..<x.rows).map { row in (0..<x.columns).map { Double(x[row, $0]) } }
    }

    func observe(_ site: ActivationSite, layer: Int, _ activations: MatrixView<Float>) {
        guard case .input(let module) = site else { return }
        inputs[Place(layer: layer, module: module), default: []] += rows(activations)
    }

    func observeGradient(of module: LinearModule, layer: Int, _ gradient: MatrixView<Float>) {
        gradients[Place(layer: layer, module: module), default: []] += rows(gradient)
    }

    static func moment(_ rows: [[Double]]) -> [Double] {
        let n = rows[0].count
        return (0..<n * n).map { index in
            rows.reduce(0) { $0 + $1[index / n] * $1[index % n] } / Double(rows.count)
        }
    }
}

@Suite struct CalibrationTests {
    static let sequences = TinyDecoder.sequences([13, 1, 17, 9, 6])

    /// Moments, and what the passes that they are of showed.
    private static func collect(batches: [Int], isTied: Bool = false) throws -> (CalibrationMoments, Collector, Decoder)
    {
        let decoder = try TinyDecoder.make(isTied: isTied)
        let moments = CalibrationMoments(decoder, fingerprint: "f", labelSeed: 5, sequenceLength: 17)
        var rest = sequences[...]
        for count in batches {
            try moments.add(Array(rest.prefix(count)))
            rest = rest.dropFirst(count)
        }
        let collector = Collector()
        let workspace = TrainingWorkspace(decoder, mode: .plain, maximumTokens: 46, longestSequence: 17)
        decoder.lossAndGradients(
            of: TokenBatch(sequences), SampledCrossEntropy(seed: 5, firstToken: 0), scale: 1, in: workspace, into: nil,
            activationObserver: collector, gradientObserver: collector)
        return (moments, collector, decoder)
    }

    @Test(
        "moments of inputs and gradients are the means over all tokens, however they come",
        arguments: [[5], [1, 3, 1]])
    func meansOverTokens(batches: [Int]) throws {
        let (moments, collector, decoder) = try Self.collect(batches: batches)
        #expect(moments.record.tokens == 46)
        for layer in 0..<decoder.configuration.layers {
            for module in LinearModule.allCases {
                let input = moments.input(of: module, layer: layer)
                let rows = collector.inputs[.init(layer: layer, module: module.inputOwner)]!
                let expected = Collector.moment(rows)
                let size = expected.map { abs($0) }.max()!
                // The passes of other batches round differently.
                expectClose(input.secondMoment.elements, expected, within: 1e-5 * size, "\(layer) \(module)")
                let mean = rows[0].indices.map { column in rows.reduce(0) { $0 + $1[column] } / Double(rows.count) }
                expectClose(input.mean, mean, within: 1e-5 * size.squareRoot(), "\(layer) \(module) mean")
                let gradient = try #require(moments.gradient(of: module, layer: layer))
                let wanted = Collector.moment(collector.gradients[.init(layer: layer, module: module)]!)
                expectClose(
                    gradient.elements, wanted, within: 1e-4 * wanted.map { abs($0) }.max()!, "\(layer) \(module) Γ")
            }
        }
    }

    @Test("what is shown of the gradients makes the parameters' gradients: dW = Σ g·xᵀ", arguments: [false, true])
    func gradientsAreThoseOfTheWeights(isTied: Bool) throws {
        let (_, collector, decoder) = try Self.collect(batches: [5], isTied: isTied)
        let gradients = DecoderWeights(like: decoder.weights, precision: .f32)
        let workspace = TrainingWorkspace(decoder, mode: .plain, maximumTokens: 46, longestSequence: 17)
        decoder.lossAndGradients(
            of: TokenBatch(Self.sequences), SampledCrossEntropy(seed: 5, firstToken: 0), scale: 1, in: workspace,
            into: gradients)
        for layer in 0..<decoder.configuration.layers {
            for module in LinearModule.allCases {
                guard case .dense(let dense) = gradients.layers[layer][module] else { continue }
                let g = collector.gradients[.init(layer: layer, module: module)]!
                let x = collector.inputs[.init(layer: layer, module: module.inputOwner)]!
                let expected = g[0].indices.flatMap { i in
                    x[0].indices.map { j in zip(g, x).reduce(0) { $0 + $1.0[i] * $1.1[j] } }
                }
                let size = expected.map { abs($0) }.max()!
                expectClose(dense.weight.doubles().elements, expected, within: 1e-5 * size, "\(layer) \(module)")
            }
        }
    }

    @Test func inputsAloneNeedNoGradients() throws {
        let decoder = try TinyDecoder.make()
        let (with, _, _) = try Self.collect(batches: [5])
        let moments = CalibrationMoments(decoder, fingerprint: "f", labelSeed: nil, sequenceLength: 17)
        try moments.add(Self.sequences)
        #expect(moments.gradient(of: .up, layer: 0) == nil && !moments.hasGradients)
        expectClose(
            moments.input(of: .down, layer: 1).secondMoment.elements,
            with.input(of: .down, layer: 1).secondMoment.elements, within: 1e-5)
    }

    @Test func anIdBeyondTheVocabulary() throws {
        let moments = CalibrationMoments(try TinyDecoder.make(), fingerprint: "", labelSeed: nil, sequenceLength: 4)
        #expect(throws: TransformerError.token(id: 41, position: 1, vocabulary: 41)) { try moments.add([[3, 41]]) }
    }

    // MARK: - Precision

    @Test("one token of ten thousand times the size: moments in double precision keep the others")
    func hugeToken() {
        let (n, tokens) = (48, 500)
        let x = Sample.normal(tokens, n, seed: 3)
        for column in 0..<n { x[17, column] = 1e4 * (1 + 0.1 * Double(column % 3)) }
        let single = Sample.single(x)
        let exact = Sample.secondMoment(Sample.double(single))
        func smallest(_ gram: DoubleMatrix) throws -> Double {
            try Factorization.eigenvalues(ofSymmetric: DoubleMatrix(shape: gram.shape, gram.elements)).last!
        }
        let double = Moments(features: n)
        let tiled = TiledMoments(features: n)
        withExtendedLifetime(single) {
            double.add(single.view, scratch: .init())
            tiled.add(single.view, scratch: .init())
        }
        func mean(_ gram: DoubleMatrix) -> DoubleMatrix {
            DoubleMatrix(shape: gram.shape, gram.elements.map { $0 / Double(tokens) })
        }
        do {
            let expected = try smallest(exact)
            #expect(abs(try smallest(mean(double.gram())) - expected) < 1e-6 * expected)
            // Single precision loses them, which is why inputs are not summed that way.
            #expect(abs(try smallest(mean(tiled.gram())) - expected) > 0.1 * expected)
        } catch { Issue.record("\(error)") }
    }

    @Test("tiled moments are right to single precision", arguments: [1, 191, 192, 193, 400])
    func tiledMoments(features: Int) {
        let x = Sample.single(Sample.normal(37, features, seed: 5))
        let moments = TiledMoments(features: features)
        withExtendedLifetime(x) {
            moments.add(x.view.rows(0..<20), scratch: .init())
            moments.add(x.view.rows(20..<37), scratch: .init())
        }
        #expect(moments.rows == 37)
        let exact = Sample.secondMoment(Sample.double(x))
        expectClose(moments.gram().elements, exact.elements.map { $0 * 37 }, within: 37 * 5 * 0x1p-22)
    }

    // MARK: - File

    @Test func fileHoldsTheSame() throws {
        let folder = try TemporaryFolder()
        let (moments, _, decoder) = try Self.collect(batches: [5])
        let path = folder.file("moments.h5")
        try MomentFile.write(moments, of: decoder.configuration, to: path, provenance: "{}")
        let file = try MomentFile(path: path, of: decoder.configuration, fingerprint: "f")
        #expect(file.record == moments.record && file.hasGradients)
        for module in LinearModule.allCases {
            let (a, b) = (moments.input(of: module, layer: 1), try file.input(of: module, layer: 1))
            expectEqual(a.secondMoment.elements, b.secondMoment.elements)
            expectEqual(a.mean, b.mean)
            let gradient = try #require(try file.gradient(of: module, layer: 1))
            expectEqual(gradient.elements, moments.gradient(of: module, layer: 1)?.elements ?? [])
        }
    }

    @Test func momentsOfAnotherModel() throws {
        let folder = try TemporaryFolder()
        let (moments, _, decoder) = try Self.collect(batches: [5])
        try MomentFile.write(moments, of: decoder.configuration, to: folder.file("m.h5"), provenance: "{}")
        let error = #expect(throws: LowRankError.self) {
            try MomentFile(path: folder.file("m.h5"), of: decoder.configuration, fingerprint: "other")
        }
        #expect("\(error!)".contains("m.h5") && "\(error!)".contains("other"))
    }
}

@Suite struct FingerprintTests {
    @Test("one changed bit, another name or shape, another fingerprint")
    func changes() throws {
        let decoder = try TinyDecoder.make()
        let first = decoder.weights.fingerprint
        #expect(try first == TinyDecoder.make().weights.fingerprint && first.count == 16)
        #expect(try first != TinyDecoder.make(isTied: true).weights.fingerprint)
        guard case .dense(let dense) = decoder.weights.layers[1][.down] else { return }
        let element = dense.weight.elements + dense.weight.count - 1
        let before = element.pointee
        element.pointee = Float(bitPattern: before.bitPattern ^ 1)
        #expect(decoder.weights.fingerprint != first)
        element.pointee = before
        #expect(decoder.weights.fingerprint == first)
    }
}
