import TestSupport
import Testing

@testable import LinearAlgebra
@testable import Spectra
@testable import Tensors
@testable import Transformer

@Suite("Spectra of a model's activations")
struct SpectrumAnalysisTests {
    /// Runs the model and hands back what was found, and who saw everything.
    private func run(
        _ request: SpectrumRequest, _ model: LanguageModel, _ batches: [TokenBatch]
    ) throws -> (spectra: [Spectrum], analysis: SpectrumAnalysis, collector: Collector) {
        let analysis = try SpectrumAnalysis(request, of: model)
        let collector = Collector(passingTo: analysis)
        let workspace = Workspace(
            model, maximumTokens: batches.map(\.count).max()!, longestSequence: batches.map(\.longest).max()!)
        for batch in batches {
            withExtendedLifetime(workspace) {
                _ = model.forward(batch, in: workspace, blocks: analysis.blocksNeeded, observer: collector)
            }
        }
        return (try analysis.spectra(), analysis, collector)
    }

    /// A request for all modules of a model.
    private func request(
        _ model: LanguageModel, _ blocks: [Int], sides: [Side] = [.output], way: Way = .init()
    ) -> SpectrumRequest {
        SpectrumRequest(
            modules: MeasuredModule.all(of: model.description), blocks: blocks, sides: sides,
            isCentered: way.isCentered, accumulation: way.accumulation)
    }

    private func expectSpectra(
        _ random: RandomModel, _ blocks: [Int], sides: [Side] = [.output], way: Way, tokens: Int,
        within relative: Double
    ) throws {
        let model = try random.make()
        let request = request(model, blocks, sides: sides, way: way)
        let (spectra, analysis, collector) = try run(request, model, RandomModel.batches(tokens: tokens))
        #expect(spectra.map(\.key) == analysis.keys)
        var expectedKeys: [SpectrumKey] = []
        for block in request.blocks {
            for module in request.modules {
                for side in request.sides {
                    let key = SpectrumKey(block: block, module: module, side: side)
                    guard let matrix = collector.matrix(key, of: model) else { continue }
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
        var accumulation = Accumulation.gram
        var isCentered = false
        var testDescription: String { accumulation.rawValue + (isCentered ? ", centred" : "") }

        static let all = Accumulation.allCases.flatMap { way in
            [false, true].map { Way(accumulation: way, isCentered: $0) }
        }
    }

    @Test(
        "Every module and side is the decomposition of the collected activations", arguments: RandomModel.all, Way.all
    )
    func everything(random: RandomModel, way: Way) throws {
        let relative = way.accumulation == .qr ? 1e-12 : 1e-6
        try expectSpectra(random, [0, 1], sides: Side.allCases, way: way, tokens: 173, within: relative)
    }

    @Test("Outputs alone, where down is observed behind its product", arguments: RandomModel.all, Way.all)
    func outputs(random: RandomModel, way: Way) throws {
        try expectSpectra(random, [1], way: way, tokens: 97, within: 1e-6)
    }

    @Test("Fewer tokens than features, down to one", arguments: [1, 2, 5, 29], Way.all)
    func fewTokens(tokens: Int, way: Way) throws {
        // One centred token is nothing but rounding, so that there is no largest value to compare with.
        guard tokens > 1 || !way.isCentered else { return }
        for random in [RandomModel.all[1], RandomModel.all[2]] {
            try expectSpectra(random, [0], sides: Side.allCases, way: way, tokens: tokens, within: 1e-6)
        }
    }

    @Test(
        "Singular values as computed by the public implementations", arguments: Reference.names, Accumulation.allCases)
    func references(name: String, accumulation: Accumulation) throws {
        let reference = try Reference(name)
        let model = try Reference.model(name)
        let modules = MeasuredModule.all(of: model.description).filter { $0 != .residual }
        let blocks = Array(model.description.blocks.indices)
        let batches = [TokenBatch(reference.input_ids.map { $0[...] })]
        for sides in [[Side.input, .output], [.output]] {
            let request = SpectrumRequest(
                modules: modules, blocks: blocks, sides: sides, accumulation: accumulation)
            let spectra = try run(request, model, batches).spectra
            #expect(spectra.count == blocks.count * 7 * sides.count)
            #expect(sides.count == 1 || spectra.count == reference.spectra.count)
            for spectrum in spectra {
                let path =
                    "model.layers.\(spectrum.key.block).\(spectrum.key.module.name)/\(spectrum.key.side.rawValue)"
                let expected = try #require(reference.spectra[path], "\(path)")
                let found = spectrum.singularValues
                let rest = [Double](repeating: 0, count: max(0, expected.count - found.count))
                expectClose(found + rest, expected, within: 1e-6 * expected[0], path)
            }
        }
    }

    @Test("It does not matter how activations are cut into batches", arguments: Way.all)
    func partition(way: Way) throws {
        let model = try RandomModel.all[1].make()
        let matrix = Sample.normal(610, 26, seed: 70)
        let request = SpectrumRequest(
            modules: [try .init("q", of: model.description), try .init("v", of: model.description)], blocks: [0],
            sides: [.input, .output],
            isCentered: way.isCentered, accumulation: way.accumulation)
        func spectra(_ cuts: [Int]) throws -> [[Double]] {
            let analysis = try SpectrumAnalysis(request, of: model)
            for (start, end) in zip([0] + cuts, cuts + [610]) {
                withExtendedLifetime(matrix) {
                    analysis.observe(.input(.attentionInput), block: 0, matrix.view.rows(start..<end))
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
        let model = try RandomModel.all[6].make()
        let request = SpectrumRequest(
            modules: try ["residual", "gate", "up"].map { try MeasuredModule($0, of: model.description) },
            blocks: [1, 0], sides: [.output, .bottleneck])
        let analysis = try SpectrumAnalysis(request, of: model)
        let names = analysis.keys.map { "\($0.block) \($0.module.name) \($0.side.rawValue)" }
        #expect(
            names
                == [1, 0].flatMap { layer in
                    ["residual output", "mlp.gate_proj output", "mlp.gate_proj bottleneck", "mlp.up_proj output"].map {
                        "\(layer) \($0)"
                    }
                })
        #expect(analysis.blocksNeeded == 2)
        #expect(try SpectrumAnalysis(self.request(model, [0]), of: model).blocksNeeded == 1)
        let dense = try RandomModel.all[0].make()
        let none = try SpectrumAnalysis(self.request(dense, [0], sides: [.bottleneck]), of: dense)
        #expect(none.keys.isEmpty && none.blocksNeeded == 0)
    }

    @Test("Before any token there is nothing, and progress counts every spectrum")
    func nothing() throws {
        let model = try RandomModel.all[0].make()
        let analysis = try SpectrumAnalysis(request(model, [0, 1]), of: model)
        var progress: [Int] = []
        let spectra = try analysis.spectra { progress.append($0) }
        #expect(spectra.allSatisfy { $0.tokens == 0 && $0.singularValues.isEmpty })
        #expect(progress == Array(1...16))
    }

    @Test("The sums are there before the first token, and nothing grows with the tokens", arguments: RandomModel.all)
    func memory(random: RandomModel) throws {
        let model = try random.make()
        for accumulation in Accumulation.allCases {
            let request = request(model, [0, 1], sides: Side.allCases, way: Way(accumulation: accumulation))
            let analysis = try SpectrumAnalysis(request, of: model)
            let planned = analysis.bytes
            #expect(planned > 0)
            let batches = RandomModel.batches(tokens: 300)
            let workspace = Workspace(
                model, maximumTokens: batches.map(\.count).max()!, longestSequence: batches.map(\.longest).max()!)
            func run() -> Int {
                for batch in batches { model.forward(batch, in: workspace, observer: analysis) }
                return analysis.bytes
            }
            let once = run()
            #expect(once == planned + analysis.scratchBytes)
            #expect(run() == once)
        }
    }

    @Test("Activations that are not finite are an error, not a spectrum", arguments: Accumulation.allCases)
    func notFinite(accumulation: Accumulation) throws {
        let model = try RandomModel.all[0].make()
        let request = SpectrumRequest(
            modules: [try .init("q", of: model.description)], blocks: [0], accumulation: accumulation)
        let analysis = try SpectrumAnalysis(request, of: model)
        let matrix = Sample.normal(301, 26, seed: 71)
        matrix[3, 4] = .nan
        withExtendedLifetime(matrix) { analysis.observe(.input(.attentionInput), block: 0, matrix.view) }
        #expect(throws: LinearAlgebraError.self) { try analysis.spectra() }
    }

    @Test("Modules are known by path, last part and short name; an unknown one is an error that lists what there is")
    func moduleNames() throws {
        let gated = try RandomModel.named("dense").description()
        for linear in gated.blocks[0].linears {
            let short = linear.id.shortName
            for text in [linear.module, short, short + "_proj"] {
                #expect(try MeasuredModule(text, of: gated) == MeasuredModule(name: linear.module))
            }
        }
        #expect(try MeasuredModule("residual", of: gated) == .residual)
        for text in ["", "mlp", "Q", "q_", "residual_proj"] {
            let known = ["q", "k", "v", "o", "gate", "up", "down", "residual"]
            #expect(throws: SpectrumError.module(text, known: known)) { try MeasuredModule(text, of: gated) }
        }
        let ungated = try RandomModel.named("no gate").description()
        let error = #expect(throws: SpectrumError.self) { try MeasuredModule("gate", of: ungated) }
        #expect(error?.description == "'gate' is none of q, k, v, o, up, down, residual")
        #expect(MeasuredModule.all(of: ungated).map(\.shortName) == ["q", "k", "v", "o", "up", "down", "residual"])
    }

    @Test("A request for what the model does not have is refused")
    func unknownPlaces() throws {
        let model = try RandomModel.named("no gate").make()
        let gate = SpectrumRequest(modules: [.residual, .init(name: "mlp.gate_proj")], blocks: [0])
        #expect(
            throws: SpectrumError.module("mlp.gate_proj", known: ["q", "k", "v", "o", "up", "down", "residual"])
        ) { try SpectrumAnalysis(gate, of: model) }
        for block in [-1, 2] {
            #expect(throws: SpectrumError.block(block, count: 2)) {
                try SpectrumAnalysis(request(model, [0, block]), of: model)
            }
        }
    }

    @Test("A block that lacks a module of the others has no spectrum of it")
    func mixedBlocks() throws {
        var description = try RandomModel.named("dense").description()
        let other = try RandomModel.named("no gate").description()
        description.blocks[1] = other.blocks[1]
        let model = LanguageModel(ModelWeights(description, precision: .f32))
        let analysis = try SpectrumAnalysis(request(model, [1, 0]), of: model)
        #expect(analysis.keys.filter { $0.module.shortName == "gate" }.map(\.block) == [0])
        #expect(analysis.keys.filter { $0.module.shortName == "up" }.map(\.block) == [1, 0])
    }

    @Test("Spectra of weights are those of W, or of B·A", arguments: RandomModel.all)
    func weights(random: RandomModel) throws {
        let model = try random.make()
        let linears = request(model, [1, 0]).linears(of: model.description)
        #expect(linears.count == model.description.linears.count && linears[0].block == 1)
        let entries = try WeightSpectra.compute(model, linears)
        #expect(entries.map(\.id) == linears.map(\.id))
        for (entry, linear) in zip(entries, linears) {
            let matrix =
                switch model.weights[linear] {
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
