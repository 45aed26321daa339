import Tensors
import Transformer

/// The parameters of all models of one layout, cut into blocks that the thread pool works on.
///
/// Blocks depend on the layout alone: what is computed block by block does not depend on the number of threads.
struct ParameterBlocks: Sendable {
    /// Elements of a block: few enough that the threads finish together, enough that handing one out costs nothing.
    static let length = 1 << 16

    struct Block: Sendable, Equatable {
        /// Index in the order of `visitParameters`.
        let parameter: Int
        /// Elements of that parameter.
        let elements: Range<Int>
    }

    let names: [String]
    let blocks: [Block]
    private let counts: [Int]

    init(_ weights: DecoderWeights) {
        var (names, counts, blocks) = ([String](), [Int](), [Block]())
        weights.visitParameters { name, weight in
            for start in stride(from: 0, to: weight.count, by: Self.length) {
                blocks.append(
                    Block(parameter: names.count, elements: start..<min(start + Self.length, weight.count)))
            }
            names.append(name)
            counts.append(weight.count)
        }
        (self.names, self.counts, self.blocks) = (names, counts, blocks)
    }

    /// The storage of every parameter of `weights`, which have this layout.
    func storages(_ weights: DecoderWeights) -> [Weight.Storage] {
        var storages: [Weight.Storage] = []
        weights.visitParameters { name, weight in
            let index = storages.count
            precondition(
                index < names.count && names[index] == name && counts[index] == weight.count,
                "\(name) \(weight.shape) is not parameter \(index) of the optimiser's model")
            storages.append(weight.storage)
        }
        precondition(storages.count == names.count, "\(storages.count) of \(names.count) parameters")
        return storages
    }

    /// The first element of every parameter of `weights`, which have this layout and are in single precision.
    func pointers(_ weights: DecoderWeights) -> [UnsafeMutablePointer<Float>] {
        storages(weights).map { storage in
            guard case .single(let matrix) = storage else { preconditionFailure("an optimiser works on f32") }
            return matrix.pointer
        }
    }
}
