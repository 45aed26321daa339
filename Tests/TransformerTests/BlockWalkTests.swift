import TestSupport
import Testing

@testable import Tensors
@testable import Transformer

@Suite("A walk through a model, stage by stage")
struct BlockWalkTests {
    private static let lengths = [13, 1, 40]

    private func batch(_ random: RandomModel) -> TokenBatch {
        TokenBatch(ids: random.ids(Self.lengths.reduce(0, +)), lengths: Self.lengths)
    }

    @Test("One that leaves everything as it is meets what the forward pass shows", arguments: RandomModel.all)
    func asItIs(random: RandomModel) throws {
        let (model, batch) = (try random.make(), batch(random))
        let collector = Collector()
        _ = model.hiddenStates(batch, observer: collector)
        let walk = BlockWalk(model, batch)
        for (index, block) in model.description.blocks.enumerated() {
            func expect(_ found: Matrix?, _ site: ActivationSite, minus other: ActivationSite? = nil) throws {
                var expected = try #require(collector.activations[.init(block: index, site: site)])
                if let other {
                    let less = try #require(collector.activations[.init(block: index, site: other)])
                    expected = zip(expected, less).map { $0 - $1 }
                }
                let most = expected.map { abs($0) }.max()!
                let found = try #require(found)
                withExtendedLifetime(found) {
                    expectClose(
                        copied(found.view), expected, within: random.depth(longest: 40) * singleError * most,
                        "\(random.name), block \(index), \(site)")
                }
            }
            for stream in Stream.allCases {
                #expect(walk.block == index)
                let x = walk.input(of: stream)
                try expect(x, .input(stream))
                switch stream {
                case .attended where block.norms.attentionOutput == nil:
                    try expect(walk.residual(of: stream), .residualInput)
                case .product where block.norms.feedForwardOutput == nil:
                    try expect(walk.residual(of: stream), .residualOutput, minus: .feedForwardOutput)
                default: #expect(walk.residual(of: stream) == nil)
                }
                walk.advance(
                    stream, outputs: block.linears(reading: stream).map { BlockWalk.project(x, model.weights[$0]) })
            }
        }
        #expect(walk.block == model.description.blocks.count)
    }

    @Test("What is put in place of an output is what the next stage gets", arguments: RandomModel.all)
    func replaced(random: RandomModel) throws {
        let (model, batch) = (try random.make(), batch(random))
        // The same as a model whose first block makes nothing of its input.
        let other = try random.make()
        for linear in other.description.blocks[0].linears where [.output, .down].contains(linear.role) {
            switch other.weights[linear] {
            case .dense(let dense): dense.weight.fill { 0 }
            case .lowRank(let lowRank): lowRank.b.fill { 0 }
            }
            other.weights[linear].bias?.fill { 0 }
        }
        let collector = Collector()
        _ = other.hiddenStates(batch, observer: collector)
        let walk = BlockWalk(model, batch)
        for stream in Stream.allCases {
            let x = walk.input(of: stream)
            let linears = model.description.blocks[0].linears(reading: stream)
            walk.advance(
                stream,
                outputs: linears.map { linear in
                    [.output, .down].contains(linear.role)
                        ? Matrix(shape: [x.rows, linear.outputs]) : BlockWalk.project(x, model.weights[linear])
                })
        }
        guard model.description.blocks.count > 1 else { return }
        let expected = try #require(collector.activations[.init(block: 1, site: .input(.attentionInput))])
        let found = walk.input(of: .attentionInput)
        let most = expected.map { abs($0) }.max()!
        withExtendedLifetime(found) {
            expectClose(
                copied(found.view), expected, within: random.depth(longest: 40) * singleError * most, random.name)
        }
    }
}
