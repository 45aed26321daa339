import Checkpoints
import Files
import JSON
import LinearAlgebra
import Spectra
import Tensors
import TestSupport
import Testing
import Transformer

@testable import LowRank

/// Keeps everything it is shown.
private final class Collector: ActivationObserver, GradientObserver {
    struct Input: Hashable {
        let block: Int
        let stream: Stream
    }

    private var inputs: [Input: [[Double]]] = [:]
    private var gradients: [LinearLayer.ID: [[Double]]] = [:]

    func inputs(of linear: LinearLayer) -> [[Double]] {
        inputs[.init(block: linear.block, stream: linear.role.stream)] ?? []
    }

    func gradients(of linear: LinearLayer) -> [[Double]] { gradients[linear.id] ?? [] }

    private func rows(_ x: MatrixView<Float>) -> [[Double]] {
        (0..<x.rows).map { row in (0..<x.columns).map { Double(x[row, $0]) } }
    }

    func observe(_ site: ActivationSite, block: Int, _ activations: MatrixView<Float>) {
        guard case .input(let stream) = site else { return }
        inputs[Input(block: block, stream: stream), default: []] += rows(activations)
    }

    func observeGradient(of linear: LinearLayer, _ gradient: MatrixView<Float>) {
        gradients[linear.id, default: []] += rows(gradient)
    }

    static func moment(_ rows: [[Double]]) -> [Double] {
        let n = rows[0].count
        return (0..<n * n).map { index in
            rows.reduce(0) { $0 + $1[index / n] * $1[index % n] } / Double(rows.count)
        }
    }
}

@Suite struct CalibrationTests {
    static let sequences = TinyModel.sequences([13, 1, 17, 9, 6])

    /// Moments, and what the passes that they are of showed.
    private static func collect(
        batches: [Int] = [5], _ description: ModelDescription? = nil
    ) throws -> (CalibrationMoments, Collector, LanguageModel) {
        let model = TinyModel.random(try description ?? TinyModel.description())
        let moments = CalibrationMoments(model, fingerprint: "f", labelSeed: 5, sequenceLength: 17)
        var rest = sequences[...]
        for count in batches {
            try moments.add(Array(rest.prefix(count)))
            rest = rest.dropFirst(count)
        }
        let collector = Collector()
        let workspace = TrainingWorkspace(model, mode: .plain, maximumTokens: 46, longestSequence: 17)
        model.lossAndGradients(
            of: TokenBatch(sequences), SampledCrossEntropy(seed: 5, firstToken: 0), scale: 1, in: workspace, nil,
            observers: PassObservers(activations: collector, gradients: collector))
        return (moments, collector, model)
    }

    static let descriptions: [ModelDescription] =
        (try? [TinyModel.description()] + TinyModel.Kind.allCases.map { try $0.description() }) ?? []

    @Test(
        "moments of inputs and gradients are the means over all tokens, however they come",
        arguments: [[5], [1, 3, 1]])
    func meansOverTokens(batches: [Int]) throws {
        #expect(Self.descriptions.count == 3)
        for description in Self.descriptions {
            let (moments, collector, _) = try Self.collect(batches: batches, description)
            #expect(moments.record.tokens == 46)
            for linear in description.linears {
                let input = try moments.input(of: linear)
                let rows = collector.inputs(of: linear)
                let expected = Collector.moment(rows)
                let size = expected.map { abs($0) }.max()!
                // The passes of other batches round differently.
                expectClose(input.secondMoment.elements, expected, within: 1e-5 * size, "\(linear.id)")
                let mean = rows[0].indices.map { column in rows.reduce(0) { $0 + $1[column] } / Double(rows.count) }
                expectClose(input.mean, mean, within: 1e-5 * size.squareRoot(), "\(linear.id) mean")
                let gradient = try #require(moments.gradient(of: linear))
                let wanted = Collector.moment(collector.gradients(of: linear))
                expectClose(
                    gradient.elements, wanted, within: 1e-4 * wanted.map { abs($0) }.max()!, "\(linear.id) Γ")
            }
        }
    }

    @Test("what is shown of the gradients makes the parameters' gradients: dW = Σ g·xᵀ", arguments: [false, true])
    func gradientsAreThoseOfTheWeights(isTied: Bool) throws {
        let (_, collector, model) = try Self.collect(TinyModel.description(isTied: isTied))
        let gradients = ModelWeights(like: model.weights, precision: .f32)
        let workspace = TrainingWorkspace(model, mode: .plain, maximumTokens: 46, longestSequence: 17)
        model.lossAndGradients(
            of: TokenBatch(Self.sequences), SampledCrossEntropy(seed: 5, firstToken: 0), scale: 1, in: workspace,
            ModelGradients(into: gradients))
        for linear in model.description.linears {
            guard case .dense(let dense) = gradients[linear] else { continue }
            let (g, x) = (collector.gradients(of: linear), collector.inputs(of: linear))
            let expected = g[0].indices.flatMap { i in
                x[0].indices.map { j in zip(g, x).reduce(0) { $0 + $1.0[i] * $1.1[j] } }
            }
            let size = expected.map { abs($0) }.max()!
            expectClose(dense.weight.doubles().elements, expected, within: 1e-5 * size, "\(linear.id)")
        }
    }

    @Test func inputsAloneNeedNoGradients() throws {
        let model = try TinyModel.make()
        let (with, _, _) = try Self.collect()
        let moments = CalibrationMoments(model, fingerprint: "f", labelSeed: nil, sequenceLength: 17)
        try moments.add(Self.sequences)
        #expect(moments.gradient(of: model.description.linears[5]) == nil && !moments.hasGradients)
        expectClose(
            moments.input(of: .product, block: 1).secondMoment.elements,
            with.input(of: .product, block: 1).secondMoment.elements, within: 1e-5)
    }

    @Test func anIdBeyondTheVocabulary() throws {
        let moments = CalibrationMoments(try TinyModel.make(), fingerprint: "", labelSeed: nil, sequenceLength: 4)
        #expect(throws: TransformerError.token(id: 41, position: 1, vocabulary: 41)) { try moments.add([[3, 41]]) }
    }

    @Test func moreTokensThanPositions() throws {
        let model = TinyModel.random(try TinyModel.Kind.ungated.description())
        let moments = CalibrationMoments(model, fingerprint: "", labelSeed: nil, sequenceLength: 51)
        #expect(throws: TransformerError.positions(length: 51, rows: 50)) {
            try moments.add(TinyModel.sequences([51]))
        }
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
        for description in Self.descriptions {
            let folder = try TemporaryFolder()
            let (moments, _, _) = try Self.collect(description)
            let path = folder.file("moments.h5")
            try MomentFile.write(moments, of: description, to: path, provenance: "{}")
            let file = try MomentFile(path: path, of: description, fingerprint: "f")
            #expect(file.record == moments.record && file.hasGradients)
            for linear in description.linears {
                let (a, b) = (try moments.input(of: linear), try file.input(of: linear))
                expectEqual(a.secondMoment.elements, b.secondMoment.elements)
                expectEqual(a.mean, b.mean)
                let gradient = try #require(try file.gradient(of: linear))
                expectEqual(gradient.elements, moments.gradient(of: linear)?.elements ?? [])
            }
        }
    }

    @Test("moments of an input stand under the first linear layer that reads it", arguments: [true, false])
    func namesInTheFile(isGated: Bool) throws {
        let folder = try TemporaryFolder()
        let description = try isGated ? TinyModel.description() : TinyModel.Kind.ungated.description()
        let (moments, _, _) = try Self.collect(description)
        try MomentFile.write(moments, of: description, to: folder.file("m.h5"), provenance: "{}")
        let file = try ArrayFile(path: folder.file("m.h5"), format: "cola-moments", texts: [])
        let first = isGated ? "mlp.gate_proj" : "mlp.up_proj"
        let inputs = ["self_attn.q_proj", "self_attn.o_proj", first, "mlp.down_proj"]
        for linear in description.linears {
            let name = "\(linear.block).\(linear.module)"
            let mean = try file.read(["input", name, "mean"], count: linear.inputs)
            #expect((mean != nil) == inputs.contains(linear.module), "\(name)")
            let count = linear.outputs * (linear.outputs + 1) / 2
            #expect(try file.read(["gradient", name], count: count) != nil, "\(name)")
        }
    }

    @Test func momentsOfAnotherModel() throws {
        let folder = try TemporaryFolder()
        let (moments, _, model) = try Self.collect()
        try MomentFile.write(moments, of: model.description, to: folder.file("m.h5"), provenance: "{}")
        let error = #expect(throws: LowRankError.self) {
            try MomentFile(path: folder.file("m.h5"), of: model.description, fingerprint: "other")
        }
        #expect("\(error!)".contains("m.h5") && "\(error!)".contains("other"))
    }

    @Test("a record that is damaged is refused by file, place and what stands there")
    func damagedRecord() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("m.h5")
        for (text, message) in [
            ("{", "attribute calibration: found {, expected JSON text"),
            ("{}", "attribute calibration.fingerprint: found nothing, expected a text"),
            (
                #"{"fingerprint": "f", "tokens": 0, "sequence_length": 4}"#,
                "attribute calibration.tokens: found 0, expected a whole number of at least 1"
            ),
            (
                #"{"fingerprint": "f", "tokens": 3, "sequence_length": 4, "label_seed": "x"}"#,
                "attribute calibration.label_seed: found \"x\", expected a whole number as text"
            ),
        ] {
            try ArrayWriter(path: path, format: "cola-moments", texts: [("calibration", text), ("provenance", "{}")])
                .finish()
            let error = #expect(throws: CheckpointError.self) {
                try MomentFile(path: path, of: TinyModel.description(), fingerprint: "f")
            }
            #expect("\(error!)".contains(path) && "\(error!)".contains(message), "\(error!)")
        }
    }

    @Test("a record is read as it was written, seed or none, and what may be missing has a default")
    func records() throws {
        func read(_ json: JSONObject) throws -> CalibrationRecord {
            try CalibrationRecord(JSONReader(.object(json), path: "r.json"))
        }
        for seed in [nil, 0, UInt64.max] {
            let record = CalibrationRecord(
                fingerprint: "ab", tokens: 7, sequenceLength: 3, labelSeed: seed, inputs: [["path": "a"], 1])
            #expect(try read(record.json) == record)
            #expect(record.json["label_seed"] == seed.map { .string("\($0)") } ?? .null)
        }
        let least = try read(["fingerprint": "ab", "tokens": 7, "sequence_length": 3, "later": 1])
        #expect(
            least
                == CalibrationRecord(fingerprint: "ab", tokens: 7, sequenceLength: 3, labelSeed: nil, inputs: []))
    }
}

@Suite struct FingerprintTests {
    @Test("one changed bit, another name or shape, another fingerprint")
    func changes() throws {
        let model = try TinyModel.make()
        let first = model.weights.fingerprint
        #expect(try first == TinyModel.make().weights.fingerprint && first.count == 16)
        #expect(try first != TinyModel.make(isTied: true).weights.fingerprint)
        guard case .dense(let dense) = model.weights[model.description.linears[13]] else { return }
        let element = dense.weight.view.pointer + dense.weight.count - 1
        let before = element.pointee
        element.pointee = Float(bitPattern: before.bitPattern ^ 1)
        #expect(model.weights.fingerprint != first)
        element.pointee = before
        #expect(model.weights.fingerprint == first)
    }
}
