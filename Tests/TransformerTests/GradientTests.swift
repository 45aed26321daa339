import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

@Suite("Gradients")
struct GradientTests {
    /// Two sequences of uneven length; the last token of each has no target, nor has one in the middle.
    private func batch(_ random: RandomModel) -> (batch: TokenBatch, targets: [UInt32?]) {
        let batch = TokenBatch(ids: random.ids(18), lengths: [13, 5])
        var targets: [UInt32?] = random.ids(18, seed: 8)
        for row in [7, 12, 17] { targets[row] = nil }
        return (batch, targets)
    }

    /// Σ −log p by the naive twin.
    private func loss(_ twin: NaiveModel, _ batch: TokenBatch, _ targets: [UInt32?]) -> Double {
        zip(batch.starts, batch.lengths).reduce(0) { sum, sequence in
            let rows = sequence.0..<sequence.0 + sequence.1
            let logits = twin.forward(batch.ids[rows]).logits
            return zip(logits, targets[rows]).reduce(sum) { sum, pair in
                pair.1.map { sum + twin.losses(logits: [pair.0], targets: [$0])[0] } ?? sum
            }
        }
    }

    private func gradients(
        _ model: LanguageModel, _ batch: TokenBatch, _ targets: [UInt32?], mode: MemoryMode = .plain, scale: Double = 1,
        passes: Int = 1
    ) -> (loss: Double, gradients: ModelWeights) {
        let gradients = ModelWeights(like: model.weights, precision: .f32)
        let workspace = TrainingWorkspace(
            model, mode: mode, maximumTokens: batch.count + 3, longestSequence: batch.longest + 2)
        var loss = 0.0
        for pass in 0..<passes {
            loss = model.lossAndGradients(
                of: batch, targets: targets, scale: scale, in: workspace,
                ModelGradients(into: gradients, accumulating: pass > 0))
        }
        return (loss, gradients)
    }

    @Test("Rows at linear layers of different ranks have no room in common", arguments: [1, 3, 7], [1, 3, 7])
    func roomForBottlenecks(first: Int, second: Int) throws {
        let activated = Matrix(shape: [10, 7])
        let model = try RandomModel.named("CoLA, both σ").make()
        let context = PassContext(
            TokenBatch(ids: [0], lengths: [1]), PassScratch(model, rows: 1, longestSequence: 1, scoreRows: 1),
            activated: activated)
        func place(_ rank: Int, _ rows: Range<Int>) -> Range<Int> {
            let z = Matrix(shape: [rows.count, rank])
            let room = withExtendedLifetime(z) { context.activatedRoom(for: z.view, rows: rows) }
            let start = room.pointer - activated.pointer
            return start..<start + (room.rows - 1) * room.stride + room.columns
        }
        let (one, other) = (place(first, 0..<4), place(second, 4..<10))
        #expect(!one.overlaps(other) && one.lowerBound >= 0 && other.upperBound <= activated.count)
    }

    @Test(
        "A batch that several threads share has the gradients of its sequences one by one, whatever the ranks",
        arguments: RandomModel.all + [
            RandomModel(
                name: "a rank for each linear layer",
                rank: { block, role in 1 + 5 * block + 3 * LinearRole.allCases.firstIndex(of: role)! },
                biases: Set(LinearRole.allCases))
        ], MemoryMode.allCases)
    func sharedBatches(random: RandomModel, mode: MemoryMode) throws {
        let model = try random.make()
        // Sequences of fewer rows than are worth cutting, and all of them together.
        let (count, length) = (60, 31)
        let ids = random.ids(count * length)
        let targets: [UInt32?] = random.ids(count * length, seed: 8)
        let separate = ModelWeights(like: model.weights, precision: .f32)
        let workspace = TrainingWorkspace(model, mode: .plain, maximumTokens: length, longestSequence: length)
        var sum = 0.0
        for index in 0..<count {
            let rows = index * length..<(index + 1) * length
            sum += model.lossAndGradients(
                of: TokenBatch([ids[rows]]), targets: Array(targets[rows]), scale: 1, in: workspace,
                ModelGradients(into: separate, accumulating: index > 0))
        }
        let expected = separate.gradients
        let batch = TokenBatch(ids: ids, lengths: [Int](repeating: length, count: count))
        // More than once: threads do not always meet.
        for _ in 0..<3 {
            let (loss, found) = gradients(model, batch, targets, mode: mode)
            expectClose([loss], [sum], within: 1e-5 * sum, random.name)
            for (found, expected) in zip(found.gradients, expected) {
                expectClose(
                    found.values, expected.values, within: 1e-4 * expected.size, "\(random.name) \(expected.name)")
            }
        }
    }

    @Test("Loss and gradients against central differences of the naive twin", arguments: RandomModel.all)
    func centralDifferences(random: RandomModel) throws {
        let model = try random.make()
        let (batch, targets) = batch(random)
        let twin = NaiveModel(model)
        let (found, gradients) = gradients(model, batch, targets)
        let expected = loss(twin, batch, targets)
        expectClose([found], [expected], within: 2e-6 * expected, random.name)

        let analytic = gradients.gradients
        var generator = SeededGenerator(seed: 3)
        for (parameter, gradient) in zip(model.weights.parameters, analytic) {
            let weight = parameter.weight
            for _ in 0..<4 {
                let place = Int(generator.next() % UInt64(weight.count))
                let (row, column) = place.quotientAndRemainder(dividingBy: weight.columns)
                let kept = weight.view[row, column]
                // Differences of what is stored, so that rounding of the weight is no error. The third derivative's
                // share goes with the square of the step.
                func slope(_ step: Float) -> Double {
                    let (above, below) = (kept + step, kept - step)
                    weight.view[row, column] = above
                    let upper = loss(twin, batch, targets)
                    weight.view[row, column] = below
                    let lower = loss(twin, batch, targets)
                    weight.view[row, column] = kept
                    return (upper - lower) / (Double(above) - Double(below))
                }
                let expected: Double
                if random.hasKinks {
                    // So small that none lies between.
                    expected = slope(0x1p-21)
                } else {
                    let (coarse, fine) = (slope(0x1p-9), slope(0x1p-10))
                    expected = fine + (fine - coarse) / 3
                }
                expectClose(
                    [gradient.values[place]], [expected], within: 2e-5 * gradient.size + 1e-6,
                    "\(random.name) \(gradient.name)[\(place)]")
            }
        }
    }

    @Test("Memory modes give the same bits", arguments: RandomModel.all)
    func memoryModes(random: RandomModel) throws {
        let model = try random.make()
        // More rows than one block, sequences longer than a block of queries.
        let batch = TokenBatch(ids: random.ids(1201), lengths: [131, 1, 257, 812])
        let targets: [UInt32?] = random.ids(1201, seed: 9)
        let plain = gradients(model, batch, targets)
        for mode in [MemoryMode.checkpoint, .colaM] {
            let other = gradients(model, batch, targets, mode: mode)
            #expect(other.loss == plain.loss)
            for (a, b) in zip(plain.gradients.elements, other.gradients.elements) {
                expectEqual(a.values, b.values, "\(random.name) \(mode) \(a.name)")
            }
        }
    }

    @Test("A second pass adds to the first; the scale multiplies", arguments: RandomModel.all)
    func accumulation(random: RandomModel) throws {
        let model = try random.make()
        let (batch, targets) = batch(random)
        let once = gradients(model, batch, targets, scale: 0.5).gradients.gradients
        let twice = gradients(model, batch, targets, scale: 0.25, passes: 2).gradients.gradients
        for (a, b) in zip(once, twice) {
            #expect(a.size > 0, "\(random.name) \(a.name)")
            expectClose(b.values, a.values, within: 64 * singleError * a.size, "\(random.name) \(a.name)")
        }
    }

    @Test("Gradients in bfloat16 are near those in single precision, and not the same", arguments: RandomModel.all)
    func bfloat16(random: RandomModel) throws {
        let rounded = try random.make(precision: .bf16)
        let (batch, targets) = batch(random)
        // The same rounded weights, computed with in single precision.
        let exact = try random.make()
        for (own, other) in zip(exact.weights.parameters, rounded.weights.parameters) {
            let elements = other.weight.copy()
            own.weight.assign(Weight(elements))
        }
        let expected = gradients(exact, batch, targets)
        let found = gradients(rounded, batch, targets)
        // Products one after the other, forward and back, twice as many in low-rank linear layers; each rounds two
        // operands by half a unit in the last place.
        let isLowRank = exact.description.isLowRank
        let roundings = 2 * Double((isLowRank ? 28 : 14) * random.blocks + 2)
        expectClose([found.loss], [expected.loss], within: roundings * bfloat16Error * expected.loss)
        #expect(found.loss != expected.loss)
        for (a, b) in zip(expected.gradients.gradients, found.gradients.gradients) {
            let norm = dot(a.measure, a.measure).squareRoot()
            let difference = zip(a.values, b.values).map { $0 - $1 }
            let error = dot(difference, difference).squareRoot()
            #expect(error <= roundings * bfloat16Error * norm, "\(random.name) \(b.name): \(error / norm)")
        }
    }

    @Test("CoLA-M keeps 2·C + 7·R elements per token and block")
    func keptElements() throws {
        let random = RandomModel(name: "CoLA", rank: { _, _ in 5 })
        let model = try random.make()
        func kept(_ mode: MemoryMode) -> [Int] {
            TrainingWorkspace(model, mode: mode, maximumTokens: 11, longestSequence: 7).keptElementsPerToken
        }
        #expect(kept(.colaM) == [2 * 24 + 7 * 5, 2 * 24 + 7 * 5])
        #expect(kept(.checkpoint) == [24, 24])
        let plain = 4 * 24 + (24 + 24) + 2 * 12 + 2 * 4 + 3 * 37 + 7 * 5
        #expect(kept(.plain) == [plain, plain])
    }
}

/// The gradient of one parameter.
private struct Gradient {
    let name: String
    let values: [Double]
    /// The elements that its errors are measured by, its own as a rule.
    let measure: [Double]

    var size: Double { measure.map { abs($0) }.max()! }
}

extension ModelWeights {
    /// The gradients that these weights hold.
    ///
    /// Where neither a rotation nor a norm follows, a key's bias adds the same to all scores of a query, so that its gradient
    /// is nothing but rounding: of the size of its matrix' gradient, which comes just before.
    fileprivate var gradients: [Gradient] {
        zip(parameters, elements).reduce(into: []) { result, parameter in
            var measure = parameter.1.values
            if case .bias(let linear) = parameter.0.role, linear.role == .key,
                case let attention = description.blocks[linear.block].attention, attention.rotary == nil,
                attention.headNorm == nil
            {
                measure = result.last?.values ?? measure
            }
            result.append(Gradient(name: parameter.1.name, values: parameter.1.values, measure: measure))
        }
    }
}

extension RandomModel {
    /// Whether the activation's slope jumps, or the slope's slope.
    fileprivate var hasKinks: Bool { keys.contains("relu") }
}
