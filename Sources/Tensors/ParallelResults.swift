import Synchronization

/// One result per index, computed on the thread pool.
public final class ParallelResults<Value>: @unchecked Sendable {
    private var slots: [Value?]
    private let done = Mutex(0)

    public init(count: Int) { slots = Array(repeating: nil, count: count) }

    /// All results; `fill` has computed them.
    public var values: [Value] { slots.map { $0! } }

    /// Computes the result of every index of `order`. `progress` is told how many are done, one call at a time.
    public func fill(order: [Int], progress: (Int) -> Void, _ body: (Int) -> Value) {
        slots.withUnsafeMutableBufferPointer { slots in
            let base = slots.baseAddress
            ThreadPool.forEach(order.count) { task in
                let index = order[task]
                (base! + index).pointee = body(index)
                done.withLock { count in
                    count += 1
                    progress(count)
                }
            }
        }
    }
}
