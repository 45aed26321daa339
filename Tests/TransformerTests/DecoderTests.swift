import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

@Suite("The decoder against its naive twin")
struct DecoderTests {
    /// The residual stream may be wrong by the additions it went through, relative to its largest element: an error
    /// anywhere reaches all of a row.
    private func bound(_ random: RandomDecoder, _ expected: [Double], longest: Int) -> Double {
        random.depth(longest: longest) * singleError * expected.map { abs($0) }.max()!
    }

    @Test("Residual stream of a batch of uneven sequences", arguments: RandomDecoder.all)
    func forward(random: RandomDecoder) throws {
        let decoder = try random.make()
        let lengths = [5, 1, 23, 2]
        let batch = TokenBatch(ids: random.ids(31), lengths: lengths)
        let naive = NaiveDecoder(decoder)
        var (expected, start): ([Double], Int) = ([], 0)
        for length in lengths {
            expected += naive.forward(batch.ids[start..<start + length]).hidden.flatMap { $0 }
            start += length
        }
        expectClose(decoder.hiddenStates(batch), expected, within: bound(random, expected, longest: 23), random.name)
    }

    @Test("Sequences longer than a block of queries", arguments: [RandomDecoder.all[1], .all[2], .all[5], .all[7]])
    func long(random: RandomDecoder) throws {
        let decoder = try random.make()
        let lengths = [131, 257]
        let batch = TokenBatch(ids: random.ids(388), lengths: lengths)
        let naive = NaiveDecoder(decoder)
        let expected = (naive.forward(batch.ids[..<131]).hidden + naive.forward(batch.ids[131...]).hidden).flatMap {
            $0
        }
        expectClose(decoder.hiddenStates(batch), expected, within: bound(random, expected, longest: 257), random.name)
    }

    @Test(
        "A sequence in a batch gives what it gives alone, and a workspace can be used again",
        arguments: RandomDecoder.all)
    func batching(random: RandomDecoder) throws {
        let decoder = try random.make()
        let lengths = [3, 140, 1, 17]
        let batch = TokenBatch(ids: random.ids(161), lengths: lengths)
        let workspace = Workspace(decoder, maximumTokens: 200, longestSequence: 150)
        let together = copied(decoder.forward(batch, in: workspace))
        let limit = bound(random, together, longest: 140)
        for (start, length) in zip(batch.starts, lengths) {
            let alone = TokenBatch([batch.ids[start..<start + length]])
            let c = random.hidden
            let expected = Array(together[start * c..<(start + length) * c])
            expectClose(copied(decoder.forward(alone, in: workspace)), expected, within: limit)
        }
        expectEqual(copied(decoder.forward(batch, in: workspace)), together)
        withExtendedLifetime(workspace) {}
    }

    @Test("What comes later in a sequence changes nothing before it")
    func causal() throws {
        let random = RandomDecoder.all[1]
        let decoder = try random.make()
        var ids = random.ids(150)
        let before = decoder.hiddenStates(TokenBatch(ids: ids, lengths: [150]))
        ids[130] = (ids[130] + 1) % UInt32(random.vocabulary)
        let after = decoder.hiddenStates(TokenBatch(ids: ids, lengths: [150]))
        expectEqual(before.prefix(130 * random.hidden), after.prefix(130 * random.hidden))
        let changed = (130..<150).filter { before[$0 * random.hidden] != after[$0 * random.hidden] }
        #expect(changed.count == 20)
    }

    @Test("Every site that observers are shown, layer after layer", arguments: RandomDecoder.all)
    func sites(random: RandomDecoder) throws {
        let decoder = try random.make()
        let ids = random.ids(19)
        let collector = Collector()
        _ = decoder.hiddenStates(TokenBatch(ids: ids, lengths: [19]), observer: collector)
        let trace = NaiveDecoder(decoder).forward(ids)
        #expect(collector.order.map(\.layer) == collector.order.map(\.layer).sorted())
        for (layer, sites) in trace.sites.enumerated() {
            #expect(collector.order.filter { $0.layer == layer }.count == sites.count)
            for (site, rows) in sites {
                let expected = rows.flatMap { $0 }
                let found = try #require(collector.activations[.init(layer: layer, site: site)], "\(site)")
                expectClose(found, expected, within: bound(random, expected, longest: 19), "\(layer) \(site)")
            }
        }
    }

    @Test("The first layers alone are the start of all of them")
    func someLayers() throws {
        let random = RandomDecoder.all[3]
        let decoder = try random.make()
        let batch = TokenBatch(ids: random.ids(13), lengths: [13])
        let trace = NaiveDecoder(decoder).forward(batch.ids)
        for layers in 0...3 {
            let expected = layers == 0 ? trace.sites[0][.residualInput]! : trace.sites[layers - 1][.residualOutput]!
            let flat = expected.flatMap { $0 }
            expectClose(decoder.hiddenStates(batch, layers: layers), flat, within: bound(random, flat, longest: 13))
        }
    }

    @Test("The bounds tell a decoder from one with σ or rotation elsewhere")
    func canFail() throws {
        func states(_ random: RandomDecoder) throws -> [Double] {
            try random.make().hiddenStates(TokenBatch(ids: random.ids(40), lengths: [40]))
        }
        var random = RandomDecoder(name: "CoLA", rank: { _, _ in 5 })
        let expected = try states(random)
        let bounds = expected.map { _ in 100 * bound(random, expected, longest: 40) }
        for placement in [ActivationPlacement.inner, .reduced, .original] {
            random.placement = placement
            #expect(!isClose(try states(random), expected, within: bounds), "\(placement)")
        }
        random.placement = .both
        for rotary in [RandomDecoder.llama3, #", "rope_theta": 9000"#] {
            random.rotary = rotary
            #expect(!isClose(try states(random), expected, within: bounds), "\(rotary)")
        }
    }

    @Test("bfloat16 products round operands, and nothing else", arguments: RandomDecoder.all)
    func bfloat16(random: RandomDecoder) throws {
        let decoder = try random.make(precision: .bf16)
        let ids = random.ids(23)
        let found = decoder.hiddenStates(TokenBatch(ids: ids, lengths: [23]))
        // The twin has the same rounded weights, but its activations are exact: each of at most ten products one after
        // the other in a layer rounds its operand by half a unit in the last place.
        let expected = NaiveDecoder(decoder).forward(ids).hidden.flatMap { $0 }
        let products = 10 * Double(random.layers)
        let most = expected.map { abs($0) }.max()!
        expectClose(found, expected, within: products * bfloat16Error * most, random.name)
        let single = expected.map { _ in bound(random, expected, longest: 23) }
        #expect(!isClose(found, expected, within: single), "computed in single precision")
    }

    @Test(
        "Frequencies of rotation are those of the published formulas", arguments: ["", RandomDecoder.llama3],
        [2, 16, 62])
    func frequencies(rotary: String, size: Int) throws {
        let random = RandomDecoder(name: "rotary", headSize: size, rotary: rotary)
        let configuration = try random.configuration().rotary
        let expected = NaiveDecoder.frequencies(configuration, size: size)
        expectClose(configuration.frequencies(size: size), expected, within: expected.map { 1e-14 * $0 })
    }

    @Test("Ids beyond the vocabulary are named with their position")
    func tokens() throws {
        let decoder = try RandomDecoder.all[0].make()
        try decoder.validate([0, 28])
        #expect(throws: TransformerError.token(id: 29, position: 2, vocabulary: 29)) {
            try decoder.validate([0, 28, 29, 31])
        }
    }
}

@Suite("The head and its losses")
struct VocabularyHeadTests {
    /// RMSNorm, a product over C and a logarithm over V; the logits are of the size of `most`.
    private func bound(_ random: RandomDecoder, _ logits: Rows) -> Double {
        Double(random.hidden + 16) * singleError * max(1, logits.joined().map { abs($0) }.max()!)
    }

    /// More rows than one chunk, which is 1024 for a small vocabulary.
    private func hidden(_ random: RandomDecoder) -> Matrix {
        var generator = SeededGenerator(seed: 60)
        return Matrix.normal(shape: [1031, random.hidden], deviation: 3, using: &generator)
    }

    @Test("Logits, chunk by chunk", arguments: [RandomDecoder.all[0], .all[1]])
    func logits(random: RandomDecoder) throws {
        let decoder = try random.make()
        let hidden = hidden(random)
        let rows = (0..<hidden.rows).map { row in (0..<hidden.columns).map { Double(hidden[row, $0]) } }
        let expected = NaiveDecoder(decoder).logits(of: rows)
        var (found, chunks): ([Double], [Range<Int>]) = ([], [])
        withExtendedLifetime(hidden) {
            VocabularyHead(decoder).forEachChunk(of: hidden.view) { rows, logits in
                chunks.append(rows)
                found += copied(logits)
            }
        }
        #expect(chunks == [0..<1024, 1024..<1031])
        expectClose(found, expected.flatMap { $0 }, within: bound(random, expected))
    }

    @Test("Losses of the rows that have a target", arguments: [RandomDecoder.all[0], .all[1]])
    func losses(random: RandomDecoder) throws {
        let decoder = try random.make()
        let hidden = hidden(random)
        let naive = NaiveDecoder(decoder)
        let logits = naive.logits(
            of: (0..<hidden.rows).map { row in (0..<hidden.columns).map { Double(hidden[row, $0]) } })
        let ids = random.ids(hidden.rows, seed: 61)
        let targets = ids.enumerated().map { $0.offset % 5 == 3 ? nil : $0.element }
        let found = withExtendedLifetime(hidden) { VocabularyHead(decoder).losses(of: hidden.view, targets: targets) }
        #expect(found.map { $0 == nil } == targets.map { $0 == nil })
        let expected = naive.losses(logits: logits, targets: ids)
        let kept = found.indices.filter { found[$0] != nil }
        expectClose(kept.map { found[$0]! }, kept.map { expected[$0] }, within: 3 * bound(random, logits))
    }

    @Test("In bfloat16 the product rounds its operands")
    func bfloat16() throws {
        let random = RandomDecoder.all[0]
        let decoder = try random.make(precision: .bf16)
        let hidden = hidden(random)
        let rows = (0..<hidden.rows).map { row in (0..<hidden.columns).map { Double(hidden[row, $0]) } }
        let expected = NaiveDecoder(decoder).logits(of: rows).flatMap { $0 }
        var found: [Double] = []
        withExtendedLifetime(hidden) {
            VocabularyHead(decoder).forEachChunk(of: hidden.view) { found += copied($1) }
        }
        let most = expected.map { abs($0) }.max()!
        expectClose(found, expected, within: 2 * bfloat16Error * most)
        #expect(!isClose(found, expected, within: expected.map { _ in 100 * singleError * most }))
    }
}
