import Synchronization
import Testing

@testable import Tensors

/// Counts visits of places from several threads.
private final class Visits: Sendable {
    private let counts: Mutex<[Int]>

    init(_ count: Int) { counts = Mutex(Array(repeating: 0, count: count)) }

    func visit(_ index: Int) { counts.withLock { $0[index] += 1 } }
    var all: [Int] { counts.withLock { $0 } }
    var areAllOnce: Bool { all.allSatisfy { $0 == 1 } }
}

@Suite("Thread pool")
struct ThreadPoolTests {
    @Test("Visits every index exactly once", arguments: [0, 1, 2, 3, 17, 1009])
    func once(count: Int) {
        let visits = Visits(count)
        ThreadPool.forEach(count) { index in
            #expect((0..<ThreadPool.threads).contains(ThreadPool.currentThread))
            visits.visit(index)
        }
        #expect(visits.areAllOnce)
    }

    @Test("A nested call visits every index of every outer one")
    func nested() {
        let visits = Visits(5 * 7 * 3)
        ThreadPool.forEach(5) { outer in
            let thread = ThreadPool.currentThread
            ThreadPool.forEach(7) { middle in
                #expect(ThreadPool.currentThread == thread)
                ThreadPool.forEach(3) { visits.visit((outer * 7 + middle) * 3 + $0) }
            }
        }
        #expect(visits.areAllOnce)
    }

    @Test(
        "Ranges cover everything once, cut at multiples of the granularity", arguments: [0, 1, 2, 15, 16, 17, 1009],
        [1, 3, 16])
    func ranges(count: Int, granularity: Int) {
        let visits = Visits(count)
        let ends = Mutex<[Range<Int>]>([])
        ThreadPool.forEachRange(count, granularity: granularity) { range in
            ends.withLock { $0.append(range) }
            for index in range { visits.visit(index) }
        }
        let ranges = ends.withLock { $0 }
        #expect(visits.areAllOnce)
        #expect(ranges.count <= ThreadPool.threads)
        #expect(ranges.allSatisfy { !$0.isEmpty && $0.lowerBound.isMultiple(of: granularity) })
        #expect(ranges.allSatisfy { $0.upperBound == count || $0.upperBound.isMultiple(of: granularity) })
    }

    @Test("Results stand at their index whatever the order, and progress counts up by one", arguments: [0, 1, 2, 101])
    func results(count: Int) {
        let results = ParallelResults<Int>(count: count)
        var progress: [Int] = []
        results.fill(order: Array((0..<count).reversed())) {
            progress.append($0)
        } _: {
            $0 * $0 - 3
        }
        #expect(results.values == (0..<count).map { $0 * $0 - 3 })
        #expect(progress == Array(0..<count).map { $0 + 1 })
    }
}
