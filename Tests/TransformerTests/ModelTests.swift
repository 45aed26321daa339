import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

@Suite("The model against its naive twin")
struct ModelTests {
    /// The residual stream may be wrong by the additions it went through, relative to its largest element: an error
    /// anywhere reaches all of a row.
    private func bound(_ random: RandomModel, _ expected: [Double], longest: Int) -> Double {
        random.depth(longest: longest) * singleError * expected.map { abs($0) }.max()!
    }

    @Test("Residual stream of a batch of uneven sequences", arguments: RandomModel.all)
    func forward(random: RandomModel) throws {
        let model = try random.make()
        let lengths = [5, 1, 23, 2]
        let batch = TokenBatch(ids: random.ids(31), lengths: lengths)
        let naive = NaiveModel(model)
        var (expected, start): ([Double], Int) = ([], 0)
        for length in lengths {
            expected += naive.forward(batch.ids[start..<start + length]).hidden.flatMap { $0 }
            start += length
        }
        expectClose(model.hiddenStates(batch), expected, within: bound(random, expected, longest: 23), random.name)
    }

    @Test(
        "Sequences longer than a block of queries",
        arguments: [RandomModel.all[1], .all[2], .all[5], .all[7]] + RandomModel.rotations + RandomModel.families)
    func long(random: RandomModel) throws {
        let model = try random.make()
        let lengths = [131, 257]
        let batch = TokenBatch(ids: random.ids(388), lengths: lengths)
        let naive = NaiveModel(model)
        let expected = (naive.forward(batch.ids[..<131]).hidden + naive.forward(batch.ids[131...]).hidden).flatMap {
            $0
        }
        expectClose(model.hiddenStates(batch), expected, within: bound(random, expected, longest: 257), random.name)
    }

    @Test(
        "A sequence in a batch gives what it gives alone, and a workspace can be used again",
        arguments: RandomModel.all)
    func batching(random: RandomModel) throws {
        let model = try random.make()
        let lengths = [3, 140, 1, 17]
        let batch = TokenBatch(ids: random.ids(161), lengths: lengths)
        let workspace = Workspace(model, maximumTokens: 200, longestSequence: 150)
        let together = copied(model.forward(batch, in: workspace))
        let limit = bound(random, together, longest: 140)
        for (start, length) in zip(batch.starts, lengths) {
            let alone = TokenBatch([batch.ids[start..<start + length]])
            let c = random.hidden
            let expected = Array(together[start * c..<(start + length) * c])
            expectClose(copied(model.forward(alone, in: workspace)), expected, within: limit)
        }
        expectEqual(copied(model.forward(batch, in: workspace)), together)
        withExtendedLifetime(workspace) {}
    }

    @Test("What comes later in a sequence changes nothing before it")
    func causal() throws {
        let random = RandomModel.all[1]
        let model = try random.make()
        var ids = random.ids(150)
        let before = model.hiddenStates(TokenBatch(ids: ids, lengths: [150]))
        ids[130] = (ids[130] + 1) % UInt32(random.vocabulary)
        let after = model.hiddenStates(TokenBatch(ids: ids, lengths: [150]))
        expectEqual(before.prefix(130 * random.hidden), after.prefix(130 * random.hidden))
        let changed = (130..<150).filter { before[$0 * random.hidden] != after[$0 * random.hidden] }
        #expect(changed.count == 20)
    }

    @Test("Every site that observers are shown, block after block", arguments: RandomModel.all)
    func sites(random: RandomModel) throws {
        let model = try random.make()
        let ids = random.ids(19)
        let collector = Collector()
        _ = model.hiddenStates(TokenBatch(ids: ids, lengths: [19]), observer: collector)
        let trace = NaiveModel(model).forward(ids)
        #expect(collector.order.map(\.block) == collector.order.map(\.block).sorted())
        for (block, sites) in trace.sites.enumerated() {
            #expect(collector.order.filter { $0.block == block }.count == sites.count)
            for (site, rows) in sites {
                let expected = rows.flatMap { $0 }
                let found = try #require(collector.activations[.init(block: block, site: site)], "\(site)")
                expectClose(found, expected, within: bound(random, expected, longest: 19), "\(block) \(site)")
            }
        }
    }

    @Test("The first blocks alone are the start of all of them")
    func someBlocks() throws {
        let random = RandomModel.all[3]
        let model = try random.make()
        let batch = TokenBatch(ids: random.ids(13), lengths: [13])
        let trace = NaiveModel(model).forward(batch.ids)
        for blocks in 0...3 {
            let expected = blocks == 0 ? trace.sites[0][.residualInput]! : trace.sites[blocks - 1][.residualOutput]!
            let flat = expected.flatMap { $0 }
            expectClose(model.hiddenStates(batch, blocks: blocks), flat, within: bound(random, flat, longest: 13))
        }
    }

    @Test("The bounds tell a model from one with σ or rotation elsewhere")
    func canFail() throws {
        func states(_ random: RandomModel) throws -> [Double] {
            try random.make().hiddenStates(TokenBatch(ids: random.ids(40), lengths: [40]))
        }
        var random = RandomModel(name: "CoLA", rank: { _, _ in 5 })
        let expected = try states(random)
        let bounds = expected.map { _ in 100 * bound(random, expected, longest: 40) }
        for placement in [ActivationPlacement.inner, .reduced, .original] {
            random.placement = placement
            #expect(!isClose(try states(random), expected, within: bounds), "\(placement)")
        }
        random.placement = .both
        for rotary in [RandomModel.llama3, #""rope_theta": 9000"#] {
            random.keys = rotary
            #expect(!isClose(try states(random), expected, within: bounds), "\(rotary)")
        }
    }

    /// A way to change a description that leaves names and shapes of the parameters alone.
    struct Change: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let name: String
        let change: @Sendable (inout ModelDescription) -> Void

        init(_ what: String, of name: String, _ change: @Sendable @escaping (inout BlockDescription) -> Void) {
            (testDescription, self.name) = ("\(what), \(name)", name)
            self.change = { change(&$0.blocks[0]) }
        }

        init(of name: String, _ change: @Sendable @escaping (inout ModelDescription) -> Void) {
            (testDescription, self.name, self.change) = (name, name, change)
        }
    }

    static let changes: [Change] = [
        .init("window", of: "Mistral") { $0.attention.window = 7 },
        .init("no window", of: "Mistral") { $0.attention.window = nil },
        .init("scale", of: "GPT-2") { $0.attention.scale *= 0.99 },
        .init("offset before attention", of: "Gemma 3") { $0.norms.attentionInput?.offset = 0.9 },
        .init("offset behind attention", of: "Gemma 3") { $0.norms.attentionOutput?.offset = 0.9 },
        .init("offset before the network", of: "Gemma 3") { $0.norms.feedForwardInput?.offset = 0.9 },
        .init("offset behind the network", of: "Gemma 3") { $0.norms.feedForwardOutput?.offset = 0.9 },
        .init("offset of heads", of: "Gemma 3") { $0.attention.headNorm?.offset = 0.9 },
        .init("ε of heads", of: "Qwen 3") { $0.attention.headNorm?.epsilon = 1e-2 },
        .init("ε", of: "GPT-2") { $0.norms.feedForwardInput?.epsilon = 1e-2 },
        .init("exact GELU", of: "GPT-2") { $0.feedForward.activation = .gelu },
        .init("exact GELU", of: "Gemma 3") { $0.feedForward.activation = .gelu },
        .init("base of the rotation", of: "Gemma 3") { $0.attention.rotary?.base *= 2 },
        .init("no rotation", of: "Gemma 3") { $0.attention.rotary = nil },
        .init("magnitude", of: "YaRN") { $0.attention.rotary?.magnitude = 1 },
        .init("plain rotation", of: "YaRN") { $0.attention.rotary?.scaling = .none },
        .init("plain rotation", of: "dynamic rotation, some sequences longer") { $0.attention.rotary?.scaling = .none },
        .init(of: "Gemma 3") { $0.embeddingScale *= 1.01 },
    ]

    @Test("The bounds tell a model from one that differs in one property", arguments: changes)
    func properties(change: Change) throws {
        let random = RandomModel.named(change.name)
        let model = try random.make()
        var description = model.description
        change.change(&description)
        #expect(description != model.description)
        let weights = ModelWeights(description, precision: .f32)
        weights.assign(model.weights)
        let batch = TokenBatch(ids: random.ids(40), lengths: [40])
        let expected = model.hiddenStates(batch)
        let bounds = expected.map { _ in bound(random, expected, longest: 40) }
        let worst = try #require(
            worstDeviation(LanguageModel(weights).hiddenStates(batch), expected, within: bounds))
        #expect(worst.ratio > 1, "\(worst)")
    }

    @Test("bfloat16 products round operands, and nothing else", arguments: RandomModel.all)
    func bfloat16(random: RandomModel) throws {
        let model = try random.make(precision: .bf16)
        let ids = random.ids(23)
        let found = model.hiddenStates(TokenBatch(ids: ids, lengths: [23]))
        // The twin has the same rounded weights, but its activations are exact: each of at most ten products one after
        // the other in a block rounds its operand by half a unit in the last place.
        let expected = NaiveModel(model).forward(ids).hidden.flatMap { $0 }
        let products = 10 * Double(random.blocks)
        let most = expected.map { abs($0) }.max()!
        expectClose(found, expected, within: products * bfloat16Error * most, random.name)
        let single = expected.map { _ in bound(random, expected, longest: 23) }
        #expect(!isClose(found, expected, within: single), "computed in single precision")
    }

    @Test(
        "Frequencies of rotation are those of the published formulas",
        arguments: ["", RandomModel.llama3, RandomModel.dynamic, RandomModel.yarn, RandomModel.yarnWithMagnitude],
        [2, 16, 62])
    func frequencies(rotary: String, size: Int) throws {
        let random = RandomModel(name: "rotary", headSize: size, keys: rotary)
        let configuration = try #require(try random.description().blocks[0].attention.rotary)
        for length in [1, 8, 9, 200] {
            let expected = NaiveModel.frequencies(configuration, size: size, length: length)
            let found = configuration.frequencies(size: size, length: length)
            expectClose(found, expected, within: expected.map { 1e-14 * $0 }, "\(length) tokens")
        }
    }

    @Test("Ids beyond the vocabulary are named with their position")
    func tokens() throws {
        let model = try RandomModel.all[0].make()
        try model.validate([0, 28])
        #expect(throws: TransformerError.token(id: 29, position: 2, vocabulary: 29)) {
            try model.validate([0, 28, 29, 31])
        }
    }

    @Test("More tokens than learned positions")
    func positions() throws {
        let model = try RandomModel(
            name: "few positions", modelType: "gpt2", keyValueHeads: 4, keys: #""n_positions": 5"#
        ).make()
        try model.validate([1, 2, 3, 4, 5])
        #expect(throws: TransformerError.positions(length: 6, rows: 5)) { try model.validate([1, 2, 3, 4, 5, 6]) }
    }
}

@Suite("The head and its losses")
struct VocabularyHeadTests {
    /// RMSNorm, a product over C and a logarithm over V; the logits are of the size of `most`.
    private func bound(_ random: RandomModel, _ logits: Rows) -> Double {
        Double(random.hidden + 16) * singleError * max(1, logits.joined().map { abs($0) }.max()!)
    }

    /// More rows than one chunk, which is 1024 for a small vocabulary.
    private func hidden(_ random: RandomModel) -> Matrix {
        var generator = SeededGenerator(seed: 60)
        return Matrix.normal(shape: [1031, random.hidden], deviation: 3, using: &generator)
    }

    @Test("Logits, chunk by chunk", arguments: [RandomModel.all[0], .all[1]])
    func logits(random: RandomModel) throws {
        let model = try random.make()
        let hidden = hidden(random)
        let rows = (0..<hidden.rows).map { row in (0..<hidden.columns).map { Double(hidden[row, $0]) } }
        let expected = NaiveModel(model).logits(of: rows)
        var (found, chunks): ([Double], [Range<Int>]) = ([], [])
        withExtendedLifetime(hidden) {
            VocabularyHead(model).forEachChunk(of: hidden.view) { rows, logits in
                chunks.append(rows)
                found += copied(logits)
            }
        }
        #expect(chunks == [0..<1024, 1024..<1031])
        expectClose(found, expected.flatMap { $0 }, within: bound(random, expected))
    }

    @Test("Losses of the rows that have a target", arguments: [RandomModel.all[0], .all[1]])
    func losses(random: RandomModel) throws {
        let model = try random.make()
        let hidden = hidden(random)
        let naive = NaiveModel(model)
        let logits = naive.logits(
            of: (0..<hidden.rows).map { row in (0..<hidden.columns).map { Double(hidden[row, $0]) } })
        let ids = random.ids(hidden.rows, seed: 61)
        let targets = ids.enumerated().map { $0.offset % 5 == 3 ? nil : $0.element }
        let found = withExtendedLifetime(hidden) { VocabularyHead(model).losses(of: hidden.view, targets: targets) }
        #expect(found.map { $0 == nil } == targets.map { $0 == nil })
        let expected = naive.losses(logits: logits, targets: ids)
        let kept = found.indices.filter { found[$0] != nil }
        expectClose(kept.map { found[$0]! }, kept.map { expected[$0] }, within: 3 * bound(random, logits))
    }

    @Test("In bfloat16 the product rounds its operands")
    func bfloat16() throws {
        let random = RandomModel.all[0]
        let model = try random.make(precision: .bf16)
        let hidden = hidden(random)
        let rows = (0..<hidden.rows).map { row in (0..<hidden.columns).map { Double(hidden[row, $0]) } }
        let expected = NaiveModel(model).logits(of: rows).flatMap { $0 }
        var found: [Double] = []
        withExtendedLifetime(hidden) {
            VocabularyHead(model).forEachChunk(of: hidden.view) { found += copied($1) }
        }
        let most = expected.map { abs($0) }.max()!
        expectClose(found, expected, within: 2 * bfloat16Error * most)
        #expect(!isClose(found, expected, within: expected.map { _ in 100 * singleError * most }))
    }
}
