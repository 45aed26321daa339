import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

@Suite("Weights that lie side by side")
struct WeightTests {
    private static func values(_ matrix: Matrix) -> [Double] {
        withExtendedLifetime(matrix) { matrix.buffer.map(Double.init) }
    }

    @Test("Each parameter has elements of its own, row by row in views, copies and runs", arguments: RandomModel.all)
    func elements(random: RandomModel) throws {
        let weights = ModelWeights(try random.description(), precision: .f32)
        var next: Float = 0
        var expected: [[Double]] = []
        for parameter in weights.parameters {
            let start = next
            parameter.weight.fill {
                next += 1
                return next
            }
            expected.append((0..<parameter.weight.count).map { Double(start) + Double($0 + 1) })
        }
        var generator = SeededGenerator(seed: 9)
        for (parameter, expected) in zip(weights.parameters, expected) {
            let (weight, name) = (parameter.weight, "\(random.name) \(parameter.name)")
            expectEqual(copied(weight.view), expected, name)
            let copy = weight.copy()
            #expect(copy.shape == weight.shape)
            expectEqual(Self.values(copy), expected, name)
            let transposed = weight.doubles(transposed: true)
            let columns = weight.columns
            expectEqual(
                withExtendedLifetime(transposed) { Array(transposed.buffer) },
                (0..<weight.count).map { expected[$0 % weight.rows * columns + $0 / weight.rows] }, name)
            let first = Int.random(in: 0..<weight.count, using: &generator)
            let range = first..<Int.random(in: first...weight.count, using: &generator)
            let runs = weight.runs(range).flatMap { run in
                (0..<run.count).map { Double(weight.view.pointer[run.offset + $0]) }
            }
            expectEqual(runs, expected[range], "\(name) \(range)")
            #expect(weight.isContiguous == (weight.runs(0..<weight.count).count == 1), "\(name)")
            let rows = first / columns..<weight.rows
            expectEqual(Self.values(weight.copy(rows: rows)), expected[(rows.lowerBound * columns)...], name)
        }
    }

    @Test("In bfloat16 matrices are rounded and vectors are not", arguments: RandomModel.all)
    func rounded(random: RandomModel) throws {
        let (exact, rounded) = (try random.make().weights, try random.make(precision: .bf16).weights)
        let assigned = ModelWeights(like: exact, precision: .bf16)
        assigned.assign(exact)
        for (index, parameter) in exact.parameters.enumerated() {
            let isVector = parameter.weight.shape.count == 1
            let expected = copied(parameter.weight.view).map { isVector ? $0 : Double(BFloat16(Float($0)).float) }
            for weights in [rounded, assigned] {
                let weight = weights.parameters[index].weight
                #expect(weight.precision == (isVector ? .f32 : .bf16))
                expectEqual(Self.values(weight.copy()), expected, "\(random.name) \(parameter.name)")
            }
        }
    }

    @Test("The fingerprint is that of names and elements, wherever they lie")
    func fingerprint() throws {
        let random = RandomModel.named("dense and low-rank side by side")
        let (one, other) = (try random.make().weights, try random.make().weights)
        #expect(one.fingerprint == other.fingerprint)
        let factor = try #require(other.parameters.first { !$0.weight.isContiguous })
        let kept = factor.weight.view[1, 0]
        factor.weight.view[1, 0] = kept + 1
        #expect(one.fingerprint != other.fingerprint)
        factor.weight.view[1, 0] = kept
        #expect(one.fingerprint == other.fingerprint)
    }
}

@Suite("What a pass costs")
struct PassCostTests {
    @Test("Bytes that are kept are those of the workspace", arguments: RandomModel.all, MemoryMode.allCases)
    func keptBytes(random: RandomModel, mode: MemoryMode) throws {
        let model = try random.make()
        let workspace = TrainingWorkspace(model, mode: mode, maximumTokens: 11, longestSequence: 7)
        #expect(workspace.keptBytes == TrainingWorkspace.keptBytes(model.description, mode: mode, tokens: 11))
    }

    @Test("FLOPs of attention count the pairs of tokens that see each other", arguments: [nil, 1, 3, 9, 10, 40])
    func pairs(window: Int?) {
        var attention = AttentionDescription(heads: 3, keyValueHeads: 1, headSize: 7)
        attention.window = window
        for length in [1, 2, 10, 31] {
            let pairs = (0..<length).reduce(0) { sum, query in
                sum + (0...query).count { key in window.map { key > query - $0 } ?? true }
            }
            #expect(attention.flops(sequenceLength: length) == Double(4 * 21 * pairs), "\(length)")
        }
    }
}
