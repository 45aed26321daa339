import CKernels
import Foundation
import Tensors
import TestSupport
import Testing

@testable import Transformer

@Suite struct ObjectiveTests {
    private static func softmax(_ logits: [Float]) -> [Double] {
        let most = Double(logits.max()!)
        let e = logits.map { exp(Double($0) - most) }
        return e.map { $0 / e.reduce(0, +) }
    }

    private static func logits(_ count: Int, seed: UInt64, size: Double = 2) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { _ in Float(size * generator.normal()) }
    }

    // MARK: - Sampled labels

    /// The label that was drawn: where the gradient is softmax minus one.
    private static func label(_ objective: SampledCrossEntropy, token: Int, _ logits: [Float]) -> (Int, Double) {
        var row = logits
        let loss = objective.differentiate(token: token, logits: &row, count: row.count, scale: 1)!
        return (row.indices.min { row[$0] < row[$1] }!, loss)
    }

    @Test("labels come as often as the model says")
    func frequencies() {
        let logits = Self.logits(9, seed: 1, size: 1)
        let p = Self.softmax(logits)
        let objective = SampledCrossEntropy(seed: 3, firstToken: 0)
        let n = 20_000
        var counts = [Int](repeating: 0, count: p.count)
        for token in 0..<n { counts[Self.label(objective, token: token, logits).0] += 1 }
        for (count, p) in zip(counts, p) {
            #expect(abs(Double(count) - Double(n) * p) < 5 * (Double(n) * p * (1 - p)).squareRoot(), "\(count), \(p)")
        }
    }

    @Test("a label depends on the seed and the place in the text, not on the batch")
    func placeInTheText() {
        let logits = Self.logits(300, seed: 2, size: 0.5)
        func labels(seed: UInt64, first: Int, _ tokens: Range<Int>) -> [Int] {
            tokens.map { Self.label(SampledCrossEntropy(seed: seed, firstToken: first), token: $0, logits).0 }
        }
        let all = labels(seed: 1, first: 0, 0..<40)
        #expect(labels(seed: 1, first: 30, 0..<10) == Array(all[30...]))
        #expect(labels(seed: 2, first: 0, 0..<40) != all)
        #expect(Set(all).count > 20)
    }

    @Test("loss and gradient are those of cross-entropy at the label")
    func gradient() {
        let logits = Self.logits(50, seed: 4)
        let (label, loss) = Self.label(SampledCrossEntropy(seed: 1, firstToken: 7), token: 2, logits)
        var row = logits
        let expected = CrossEntropy(targets: [nil, nil, UInt32(label)]).differentiate(
            token: 2, logits: &row, count: row.count, scale: 1)
        #expect(loss == expected)
        var other = logits
        #expect(CrossEntropy(targets: [nil]).differentiate(token: 0, logits: &other, count: 50, scale: 1) == nil)
    }

    // MARK: - Distillation

    /// The loss in double precision.
    private static func distillation(_ student: [Double], _ teacher: [Double], target: Int, share: Double) -> Double {
        func logSoftmax(_ x: [Double]) -> [Double] {
            let most = x.max()!
            let normalizer = most + log(x.reduce(0) { $0 + exp($1 - most) })
            return x.map { $0 - normalizer }
        }
        let (q, p) = (logSoftmax(student), logSoftmax(teacher))
        let divergence = zip(p, q).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) }
        return share * divergence - (1 - share) * q[target]
    }

    @Test(
        "loss against the formula, gradient against central differences", .everyInstructionSet,
        arguments: [1, 7, 32, 77], [0.0, 0.4, 1.0])
    func kernel(count: Int, share: Double) {
        let (student, teacher) = (Self.logits(count, seed: 8), Self.logits(count, seed: 9))
        let target = count / 2
        var (row, other) = (student, teacher)
        let loss = ck_distillation(&row, &other, count, target, Float(share), 0.5)
        let exact = student.map { Double($0) }
        let reference = teacher.map { Double($0) }
        let shared = Double(Float(share))
        let expected = Self.distillation(exact, reference, target: target, share: shared)
        #expect(abs(loss - expected) < 2e-6 * (1 + abs(expected)), "\(loss), expected \(expected)")
        let gradient = exact.indices.map { index -> Double in
            func at(_ step: Double) -> Double {
                var moved = exact
                moved[index] += step
                return Self.distillation(moved, reference, target: target, share: shared)
            }
            return 0.5 * (at(1e-5) - at(-1e-5)) / 2e-5
        }
        expectClose(row.map { Double($0) }, gradient, within: 1e-6)
    }

    @Test(
        "a student that equals its teacher has nothing to learn from it, at any size of the logits",
        .everyInstructionSet)
    func equalLogits() {
        for size in [0.1, 3, 80] {
            let logits = Self.logits(500, seed: 5, size: size)
            var (row, other) = (logits, logits)
            let loss = ck_distillation(&row, &other, 500, 3, 1, 1)
            #expect(abs(loss) < 1e-6)
            #expect(row.allSatisfy { abs($0) < 1e-7 })
        }
    }

    // MARK: - Passes without parameters' gradients

    @Test("observers see the same with and without the parameters' gradients", arguments: RandomModel.all)
    func withoutParameters(sample: RandomModel) throws {
        final class Watcher: GradientObserver {
            var seen: [String: [Double]] = [:]
            func observeGradient(of linear: LinearLayer, _ gradient: MatrixView<Float>) {
                seen["\(linear.id)"] = copied(gradient)
            }
        }
        let model = try sample.make()
        let ids = sample.ids(19)
        let batch = TokenBatch([ids[..<11], ids[11...]])
        let targets: [UInt32?] = ids.indices.map { $0 % 5 == 4 ? nil : ids[($0 + 1) % 19] }
        func run(_ gradients: ModelWeights?) -> (Double, Watcher) {
            let watcher = Watcher()
            let workspace = TrainingWorkspace(model, mode: .plain, maximumTokens: 19, longestSequence: 11)
            let loss = model.lossAndGradients(
                of: batch, CrossEntropy(targets: targets), scale: 0.1, in: workspace,
                gradients.map { ModelGradients(into: $0) }, observers: PassObservers(gradients: watcher))
            return (loss, watcher)
        }
        let (loss, watcher) = run(ModelWeights(like: model.weights, precision: .f32))
        let (bare, other) = run(nil)
        #expect(loss == bare)
        expectIdentical(watcher.seen, other.seen)
        #expect(watcher.seen.count == model.description.linears.count)
    }
}
