import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

@Suite("Gradients")
struct GradientTests {
    /// Two sequences of uneven length; the last token of each has no target, nor has one in the middle.
    private func batch(_ random: RandomDecoder) -> (batch: TokenBatch, targets: [UInt32?]) {
        let batch = TokenBatch(ids: random.ids(18), lengths: [13, 5])
        var targets: [UInt32?] = random.ids(18, seed: 8)
        for row in [7, 12, 17] { targets[row] = nil }
        return (batch, targets)
    }

    /// Σ −log p by the naive twin.
    private func loss(_ twin: NaiveDecoder, _ batch: TokenBatch, _ targets: [UInt32?]) -> Double {
        zip(batch.starts, batch.lengths).reduce(0) { sum, sequence in
            let rows = sequence.0..<sequence.0 + sequence.1
            let logits = twin.forward(batch.ids[rows]).logits
            return zip(logits, targets[rows]).reduce(sum) { sum, pair in
                pair.1.map { sum + twin.losses(logits: [pair.0], targets: [$0])[0] } ?? sum
            }
        }
    }

    private func gradients(
        _ decoder: Decoder, _ batch: TokenBatch, _ targets: [UInt32?], mode: MemoryMode = .plain, scale: Double = 1,
        passes: Int = 1
    ) -> (loss: Double, gradients: DecoderWeights) {
        let gradients = DecoderWeights(like: decoder.weights, precision: .f32)
        let workspace = TrainingWorkspace(
            decoder, mode: mode, maximumTokens: batch.count + 3, longestSequence: batch.longest + 2)
        var loss = 0.0
        for pass in 0..<passes {
            loss = decoder.lossAndGradients(
                of: batch, targets: targets, scale: scale, in: workspace, into: gradients, accumulating: pass > 0)
        }
        return (loss, gradients)
    }

    @Test("Blocks of rows at modules of different ranks have no room in common", arguments: [1, 3, 7], [1, 3, 7])
    func roomForBottlenecks(first: Int, second: Int) {
        let activated = Matrix(shape: [10, 7])
        func place(_ rank: Int, _ rows: Range<Int>) -> Range<Int> {
            let z = Matrix(shape: [rows.count, rank])
            let room = withExtendedLifetime(z) { LayerPass.room(for: z.view, rows: rows, in: activated) }
            let start = room.pointer - activated.pointer
            return start..<start + (room.rows - 1) * room.stride + room.columns
        }
        let (one, other) = (place(first, 0..<4), place(second, 4..<10))
        #expect(!one.overlaps(other) && one.lowerBound >= 0 && other.upperBound <= activated.count)
    }

    @Test(
        "A batch that several threads share has the gradients of its sequences one by one, whatever the ranks",
        arguments: RandomDecoder.all + [
            RandomDecoder(
                name: "a rank for each module",
                rank: { layer, module in 1 + 5 * layer + 3 * LinearModule.allCases.firstIndex(of: module)! },
                biases: Set(LinearModule.allCases))
        ], MemoryMode.allCases)
    func sharedBatches(random: RandomDecoder, mode: MemoryMode) throws {
        let decoder = try random.make()
        // Sequences of fewer rows than are worth cutting, and all of them together.
        let (count, length) = (60, 31)
        let ids = random.ids(count * length)
        let targets: [UInt32?] = random.ids(count * length, seed: 8)
        let separate = DecoderWeights(like: decoder.weights, precision: .f32)
        let workspace = TrainingWorkspace(decoder, mode: .plain, maximumTokens: length, longestSequence: length)
        var sum = 0.0
        for index in 0..<count {
            let rows = index * length..<(index + 1) * length
            sum += decoder.lossAndGradients(
                of: TokenBatch([ids[rows]]), targets: Array(targets[rows]), scale: 1, in: workspace, into: separate,
                accumulating: index > 0)
        }
        let expected = elements(separate)
        let batch = TokenBatch(ids: ids, lengths: [Int](repeating: length, count: count))
        // More than once: threads do not always meet.
        for _ in 0..<3 {
            let (loss, found) = gradients(decoder, batch, targets, mode: mode)
            expectClose([loss], [sum], within: 1e-5 * sum, random.name)
            for (found, expected) in zip(elements(found), expected) {
                let size = expected.values.map { abs($0) }.max()!
                expectClose(found.values, expected.values, within: 1e-4 * size, "\(random.name) \(expected.name)")
            }
        }
    }

    @Test("Loss and gradients against central differences of the naive twin", arguments: RandomDecoder.all)
    func centralDifferences(random: RandomDecoder) throws {
        let decoder = try random.make()
        let (batch, targets) = batch(random)
        let twin = NaiveDecoder(decoder)
        let (found, gradients) = gradients(decoder, batch, targets)
        let expected = loss(twin, batch, targets)
        expectClose([found], [expected], within: 2e-6 * expected, random.name)

        let analytic = elements(gradients)
        var generator = SeededGenerator(seed: 3)
        var index = 0
        decoder.weights.visitParameters { name, weight in
            let (gradient, matrix) = (analytic[index].values, single(weight))
            index += 1
            let size = gradient.map { abs($0) }.max()!
            for _ in 0..<4 {
                let place = Int(generator.next() % UInt64(weight.count))
                let kept = matrix.pointer[place]
                // Differences of what is stored, so that rounding of the weight is no error. The third derivative's
                // share goes with the square of the step.
                func slope(_ step: Float) -> Double {
                    let (above, below) = (kept + step, kept - step)
                    matrix.pointer[place] = above
                    let upper = loss(twin, batch, targets)
                    matrix.pointer[place] = below
                    let lower = loss(twin, batch, targets)
                    matrix.pointer[place] = kept
                    return (upper - lower) / (Double(above) - Double(below))
                }
                let (coarse, fine) = (slope(0x1p-9), slope(0x1p-10))
                let expected = fine + (fine - coarse) / 3
                expectClose(
                    [gradient[place]], [expected], within: 2e-5 * size + 1e-6, "\(random.name) \(name)[\(place)]")
            }
        }
    }

    @Test("Memory modes give the same bits", arguments: RandomDecoder.all)
    func memoryModes(random: RandomDecoder) throws {
        let decoder = try random.make()
        // More rows than one block, sequences longer than a block of queries.
        let batch = TokenBatch(ids: random.ids(1201), lengths: [131, 1, 257, 812])
        let targets: [UInt32?] = random.ids(1201, seed: 9)
        let plain = gradients(decoder, batch, targets)
        for mode in [MemoryMode.checkpoint, .colaM] {
            let other = gradients(decoder, batch, targets, mode: mode)
            #expect(other.loss == plain.loss)
            for (a, b) in zip(elements(plain.gradients), elements(other.gradients)) {
                expectEqual(a.values, b.values, "\(random.name) \(mode) \(a.name)")
            }
        }
    }

    @Test("A second pass adds to the first; the scale multiplies", arguments: RandomDecoder.all)
    func accumulation(random: RandomDecoder) throws {
        let decoder = try random.make()
        let (batch, targets) = batch(random)
        let once = elements(gradients(decoder, batch, targets, scale: 0.5).gradients)
        let twice = elements(gradients(decoder, batch, targets, scale: 0.25, passes: 2).gradients)
        for (a, b) in zip(once, twice) {
            let size = a.values.map { abs($0) }.max()!
            #expect(size > 0, "\(random.name) \(a.name)")
            expectClose(b.values, a.values, within: 64 * singleError * size, "\(random.name) \(a.name)")
        }
    }

    @Test("Gradients in bfloat16 are near those in single precision, and not the same", arguments: RandomDecoder.all)
    func bfloat16(random: RandomDecoder) throws {
        let rounded = try random.make(precision: .bf16)
        let (batch, targets) = batch(random)
        // The same rounded weights, computed with in single precision.
        let exact = try random.make()
        exact.weights.visitParameters { name, weight in
            guard weight.shape.count > 1 else { return }
            let matrix = single(weight)
            for i in 0..<matrix.count { matrix.pointer[i] = BFloat16(matrix.pointer[i]).float }
        }
        let expected = gradients(exact, batch, targets)
        let found = gradients(rounded, batch, targets)
        // Products one after the other, forward and back, twice as many in low-rank layers; each rounds two operands by half
        // a unit in the last place.
        let isLowRank = LinearModule.allCases.contains { random.rank(0, $0) != nil }
        let roundings = 2 * Double((isLowRank ? 28 : 14) * random.layers + 2)
        expectClose([found.loss], [expected.loss], within: roundings * bfloat16Error * expected.loss)
        #expect(found.loss != expected.loss)
        for (a, b) in zip(elements(expected.gradients), elements(found.gradients)) {
            let norm = dot(a.values, a.values).squareRoot()
            let difference = zip(a.values, b.values).map { $0 - $1 }
            let error = dot(difference, difference).squareRoot()
            #expect(error <= roundings * bfloat16Error * norm, "\(random.name) \(b.name): \(error / norm)")
        }
    }

    @Test("CoLA-M keeps 2·C + 7·R elements per token and layer")
    func keptElements() throws {
        let random = RandomDecoder(name: "CoLA", rank: { _, _ in 5 })
        let decoder = try random.make()
        func kept(_ mode: MemoryMode) -> [Int] {
            TrainingWorkspace(decoder, mode: mode, maximumTokens: 11, longestSequence: 7).keptElementsPerToken
        }
        #expect(kept(.colaM) == [2 * 24 + 7 * 5, 2 * 24 + 7 * 5])
        #expect(kept(.checkpoint) == [24, 24])
        let plain = 4 * 24 + (24 + 24) + 2 * 12 + 2 * 4 + 3 * 37 + 7 * 5
        #expect(kept(.plain) == [plain, plain])
    }

    private func single(_ weight: Weight) -> Matrix {
        guard case .single(let matrix) = weight.storage else { preconditionFailure("in single precision") }
        return matrix
    }

    private func elements(_ weights: DecoderWeights) -> [(name: String, values: [Double])] {
        var result: [(String, [Double])] = []
        weights.visitParameters { name, weight in result.append((name, single(weight).buffer.map(Double.init))) }
        return result
    }
}
