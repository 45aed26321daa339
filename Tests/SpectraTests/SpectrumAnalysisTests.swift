import TestSupport
import Testing

@testable import LinearAlgebra
@testable import Spectra
@testable import Tensors
@testable import Transformer

@Suite("Spectra of a decoder's activations")
struct SpectrumAnalysisTests {
    /// Runs the decoder and hands back what was found, and who saw everything.
    private func run(
        _ request: SpectrumRequest, _ decoder: Decoder, _ batches: [TokenBatch]
    ) throws -> (spectra: [Spectrum], analysis: SpectrumAnalysis, collector: Collector) {
        let analysis = SpectrumAnalysis(request, of: decoder)
        let collector = Collector(passingTo: analysis)
        let workspace = Workspace(
            decoder, maximumTokens: batches.map(\.count).max()!, longestSequence: batches.map(\.longest).max()!)
        for batch in batches {
            withExtendedLifetime(workspace) {
                _ = decoder.forward(batch, in: workspace, layers: analysis.layersNeeded, observer: collector)
            }
        }
        return (try analysis.spectra(), analysis, collector)
    }

    private func expectSpectra(
        _ request: SpectrumRequest, _ random: RandomDecoder, tokens: Int, within relative: Double
    ) throws {
        let decoder = try random.make()
        let (spectra, analysis, collector) = try run(request, decoder, RandomDecoder.batches(tokens: tokens))
        #expect(spectra.map(\.key) == analysis.keys)
        var expectedKeys: [SpectrumKey] = []
        for layer in request.layers {
            for module in request.modules {
                for side in request.sides {
                    let key = SpectrumKey(layer: layer, module: module, side: side)
                    guard let matrix = collector.matrix(key, of: decoder) else { continue }
                    expectedKeys.append(key)
                    let spectrum = try #require(spectra.first { $0.key == key }, "\(key)")
                    #expect(spectrum.tokens == tokens && spectrum.features == matrix[0].count, "\(key)")
                    let expected = try Sample.singularValues(request.isCentered ? Sample.centered(matrix) : matrix)
                    let found = spectrum.singularValues
                    #expect(found.count <= expected.count)
                    // What is not reported cannot be anything but zero.
                    let rest = [Double](repeating: 0, count: expected.count - found.count)
                    expectClose(found + rest, expected, within: relative * expected[0], "\(random.name) \(key)")
                }
            }
        }
        #expect(analysis.keys == expectedKeys)
    }

    struct Way: CustomTestStringConvertible, Sendable {
        let accumulation: Accumulation
        let isCentered: Bool
        var testDescription: String { accumulation.rawValue + (isCentered ? ", centred" : "") }

        static let all = Accumulation.allCases.flatMap { way in
            [false, true].map { Way(accumulation: way, isCentered: $0) }
        }
    }

    @Test(
        "Every module and side is the decomposition of the collected activations", arguments: RandomDecoder.all, Way.all
    )
    func everything(random: RandomDecoder, way: Way) throws {
        let request = SpectrumRequest(
            layers: [0, 1], sides: Side.allCases, isCentered: way.isCentered, accumulation: way.accumulation)
        try expectSpectra(request, random, tokens: 173, within: way.accumulation == .qr ? 1e-12 : 1e-6)
    }

    @Test("Outputs alone, where down is observed behind its product", arguments: RandomDecoder.all, Way.all)
    func outputs(random: RandomDecoder, way: Way) throws {
        let request = SpectrumRequest(layers: [1], isCentered: way.isCentered, accumulation: way.accumulation)
        try expectSpectra(request, random, tokens: 97, within: 1e-6)
    }

    @Test("Fewer tokens than features, down to one", arguments: [1, 2, 5, 29], Way.all)
    func fewTokens(tokens: Int, way: Way) throws {
        let request = SpectrumRequest(
            layers: [0], sides: Side.allCases, isCentered: way.isCentered, accumulation: way.accumulation)
        // One centred token is nothing but rounding, so that there is no largest value to compare with.
        guard tokens > 1 || !way.isCentered else { return }
        for random in [RandomDecoder.all[1], RandomDecoder.all[2]] {
            try expectSpectra(request, random, tokens: tokens, within: 1e-6)
        }
    }

    @Test(
        "Singular values as computed by the public implementations", arguments: Reference.names, Accumulation.allCases)
    func references(name: String, accumulation: Accumulation) throws {
        let reference = try Reference(name)
        let decoder = try Reference.decoder(name)
        let layers = Array(0..<decoder.configuration.layers)
        let batches = [TokenBatch(reference.input_ids.map { $0[...] })]
        for sides in [[Side.input, .output], [.output]] {
            let request = SpectrumRequest(
                modules: LinearModule.allCases.map { .linear($0) }, layers: layers, sides: sides,
                accumulation: accumulation)
            let spectra = try run(request, decoder, batches).spectra
            #expect(spectra.count == layers.count * 7 * sides.count)
            #expect(sides.count == 1 || spectra.count == reference.spectra.count)
            for spectrum in spectra {
                let path =
                    "model.layers.\(spectrum.key.layer).\(spectrum.key.module.name)/\(spectrum.key.side.rawValue)"
                let expected = try #require(reference.spectra[path], "\(path)")
                let found = spectrum.singularValues
                let rest = [Double](repeating: 0, count: max(0, expected.count - found.count))
                expectClose(found + rest, expected, within: 1e-6 * expected[0], path)
            }
        }
    }

    @Test("It does not matter how activations are cut into batches", arguments: Way.all)
    func partition(way: Way) throws {
        let decoder = try RandomDecoder.all[1].make()
        let matrix = Sample.normal(610, 26, seed: 70)
        let request = SpectrumRequest(
            modules: [.linear(.query), .linear(.value)], layers: [0], sides: [.input, .output],
            isCentered: way.isCentered, accumulation: way.accumulation)
        func spectra(_ cuts: [Int]) throws -> [[Double]] {
            let analysis = SpectrumAnalysis(request, of: decoder)
            for (start, end) in zip([0] + cuts, cuts + [610]) {
                withExtendedLifetime(matrix) {
                    analysis.observe(.input(.query), layer: 0, matrix.view.rows(start..<end))
                }
            }
            return try analysis.spectra().map(\.singularValues)
        }
        let whole = try spectra([])
        try expectIdentical(spectra([]), whole)
        for cuts in [[305], [1, 2], [100, 200, 300, 400, 500]] {
            for (found, expected) in zip(try spectra(cuts), whole) {
                expectClose(found, expected, within: 1e-12 * expected[0])
            }
        }
    }

    @Test("Keys are in the order of layers, modules and sides, and only the layers needed are run")
    func plan() throws {
        let decoder = try RandomDecoder.all[6].make()
        let request = SpectrumRequest(
            modules: [.residual, .linear(.gate), .linear(.up)], layers: [1, 0], sides: [.output, .bottleneck])
        let analysis = SpectrumAnalysis(request, of: decoder)
        let names = analysis.keys.map { "\($0.layer) \($0.module.name) \($0.side.rawValue)" }
        #expect(
            names
                == [1, 0].flatMap { layer in
                    ["residual output", "mlp.gate_proj output", "mlp.gate_proj bottleneck", "mlp.up_proj output"].map {
                        "\(layer) \($0)"
                    }
                })
        #expect(analysis.layersNeeded == 2)
        #expect(SpectrumAnalysis(SpectrumRequest(layers: [0]), of: decoder).layersNeeded == 1)
        let dense = try RandomDecoder.all[0].make()
        let none = SpectrumAnalysis(SpectrumRequest(layers: [0], sides: [.bottleneck]), of: dense)
        #expect(none.keys.isEmpty && none.layersNeeded == 0)
    }

    @Test("Before any token there is nothing, and progress counts every spectrum")
    func nothing() throws {
        let decoder = try RandomDecoder.all[0].make()
        let analysis = SpectrumAnalysis(SpectrumRequest(layers: [0, 1]), of: decoder)
        var progress: [Int] = []
        let spectra = try analysis.spectra { progress.append($0) }
        #expect(spectra.allSatisfy { $0.tokens == 0 && $0.singularValues.isEmpty })
        #expect(progress == Array(1...16))
    }

    @Test("The sums are there before the first token, and nothing grows with the tokens", arguments: RandomDecoder.all)
    func memory(random: RandomDecoder) throws {
        let decoder = try random.make()
        for accumulation in Accumulation.allCases {
            let request = SpectrumRequest(layers: [0, 1], sides: Side.allCases, accumulation: accumulation)
            let analysis = SpectrumAnalysis(request, of: decoder)
            let planned = analysis.bytes
            #expect(planned > 0)
            let batches = RandomDecoder.batches(tokens: 300)
            let workspace = Workspace(
                decoder, maximumTokens: batches.map(\.count).max()!, longestSequence: batches.map(\.longest).max()!)
            func run() -> Int {
                for batch in batches { decoder.forward(batch, in: workspace, observer: analysis) }
                return analysis.bytes
            }
            let once = run()
            #expect(once == planned + analysis.scratchBytes)
            #expect(run() == once)
        }
    }

    @Test("Activations that are not finite are an error, not a spectrum", arguments: Accumulation.allCases)
    func notFinite(accumulation: Accumulation) throws {
        let decoder = try RandomDecoder.all[0].make()
        let request = SpectrumRequest(modules: [.linear(.query)], layers: [0], accumulation: accumulation)
        let analysis = SpectrumAnalysis(request, of: decoder)
        let matrix = Sample.normal(301, 26, seed: 71)
        matrix[3, 4] = .nan
        withExtendedLifetime(matrix) { analysis.observe(.input(.query), layer: 0, matrix.view) }
        #expect(throws: LinearAlgebraError.self) { try analysis.spectra() }
    }

    @Test("Modules are known by path, last part and short name")
    func moduleNames() {
        for module in LinearModule.allCases {
            for text in [module.rawValue, module.shortName, module.shortName + "_proj"] {
                #expect(MeasuredModule(text) == .linear(module))
            }
        }
        #expect(MeasuredModule("residual") == .residual)
        for text in ["", "mlp", "Q", "q_", "residual_proj"] { #expect(MeasuredModule(text) == nil) }
    }

    @Test("Spectra of weights are those of W, or of B·A", arguments: RandomDecoder.all)
    func weights(random: RandomDecoder) throws {
        let decoder = try random.make()
        let entries = try WeightSpectra.compute(decoder, layers: [1, 0], modules: LinearModule.allCases)
        let places = [1, 0].flatMap { layer in LinearModule.allCases.map { (layer, $0) } }
        #expect(entries.map(\.layer) == places.map(\.0) && entries.map(\.module) == places.map(\.1))
        for entry in entries {
            let matrix =
                switch decoder.weights.layers[entry.layer][entry.module] {
                case .dense(let dense): Sample.rows(dense.weight)
                case .lowRank(let lowRank):
                    Sample.transpose(Sample.product(Sample.rows(lowRank.a), Sample.rows(lowRank.b)))
                }
            #expect(entry.rows == matrix.count && entry.columns == matrix[0].count)
            let expected = try Sample.singularValues(matrix)
            expectClose(entry.singularValues, expected, within: 1e-12 * expected[0])
        }
    }
}
