import Transformer

/// The parameters of all models of one layout, cut into blocks that the thread pool works on.
///
/// Blocks depend on the layout alone: what is computed block by block does not depend on the number of threads.
struct ParameterBlocks: Sendable {
    /// Elements of a block: few enough that the threads finish together, enough that handing one out costs nothing.
    static let length = 1 << 16

    struct Block: Sendable, Equatable {
        /// Index in the order of `ModelWeights.parameters`.
        let parameter: Int
        /// Elements of that parameter, counted row by row.
        let elements: Range<Int>
    }

    let names: [String]
    let blocks: [Block]
    private let shapes: [[Int]]
    private let rowStrides: [Int]

    init(_ weights: ModelWeights) {
        let parameters = weights.parameters
        names = parameters.map(\.name)
        shapes = parameters.map(\.weight.shape)
        rowStrides = parameters.map(\.weight.rowStride)
        blocks = parameters.enumerated().flatMap { index, parameter in
            stride(from: 0, to: parameter.weight.count, by: Self.length).map { start in
                Block(parameter: index, elements: start..<min(start + Self.length, parameter.weight.count))
            }
        }
    }

    /// Every parameter of `weights`, which have this layout.
    func weights(_ weights: ModelWeights) -> [Weight] {
        let parameters = weights.parameters
        precondition(parameters.count == names.count, "\(parameters.count) of \(names.count) parameters")
        for (index, parameter) in parameters.enumerated() {
            let weight = parameter.weight
            precondition(
                parameter.name == names[index] && weight.shape == shapes[index]
                    && weight.rowStride == rowStrides[index],
                "\(parameter.name) \(weight.shape) is not parameter \(index) of the optimiser's model")
        }
        return parameters.map(\.weight)
    }
}

extension Weight {
    /// Calls `body` with elements, counted row by row, of a weight in single precision: where they are, or copied into one
    /// piece. Sums over them are the same bits either way.
    func withElements<Result>(_ range: Range<Int>, _ body: (UnsafePointer<Float>) -> Result) -> Result {
        guard !isContiguous else { return body(view.pointer + range.lowerBound) }
        return withUnsafeTemporaryAllocation(of: Float.self, capacity: range.count) { buffer in
            let copy = buffer.baseAddress!
            copyElements(range, to: copy)
            return body(copy)
        }
    }

    /// Copies elements, counted row by row, of a weight in single precision.
    func copyElements(_ range: Range<Int>, to destination: UnsafeMutablePointer<Float>) {
        var place = destination
        for run in runs(range) {
            place.initialize(from: view.pointer + run.offset, count: run.count)
            place += run.count
        }
    }

    /// Sets all elements of a weight in single precision, row by row.
    func setElements(_ source: UnsafePointer<Float>) {
        var place = source
        for run in runs(0..<count) {
            (view.pointer + run.offset).update(from: place, count: run.count)
            place += run.count
        }
    }
}
