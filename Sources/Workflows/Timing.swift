import LinearAlgebra
import Tensors

/// How long work takes once its rate is steady. The first runs of a process are slower: threads that have slept share a
/// processor, the clock rises, pages are new.
public enum Timing {
    /// The longest warm-up before so many runs that count: two seconds, or less before a few.
    static func limit(repeats: Int) -> Double { min(2, 0.3 * Double(repeats)) }

    /// Runs work until the rate of its best recent runs no longer rises or falls by more than a fiftieth, or `limit` seconds
    /// are over, as they will be where other programs disturb it. Runs it once at least.
    ///
    /// - Returns: whether the rate became steady.
    @discardableResult
    public static func warmUp(limit: Double = 2, _ work: () -> Void) -> Bool {
        let start = monotonicSeconds()
        var steadiness = Steadiness()
        repeat {
            let before = monotonicSeconds()
            // Of short work many runs: a hundredth of a second is long beside what wakes up meanwhile.
            var runs = 0
            repeat {
                work()
                runs += 1
            } while monotonicSeconds() - before < 0.01
            steadiness.add(rate: Double(runs) / (monotonicSeconds() - before))
        } while !steadiness.isReached && monotonicSeconds() - start < limit
        return steadiness.isReached
    }

    /// Median seconds of `repeats` runs of each of several pieces of work that take turns – a shared machine's speed
    /// drifts, and neighbours meet the same –, after `warmUp` of all of them together.
    public static func medians(repeats: Int, _ works: [() -> Void]) -> [Double] {
        samples(repeats: repeats, works).map(median)
    }

    /// The seconds of each run: one list for each piece of work, runs of the same index beside each other in time.
    public static func samples(repeats: Int, _ works: [() -> Void]) -> [[Double]] {
        warmUp(limit: limit(repeats: repeats)) { for work in works { work() } }
        var seconds = [[Double]](repeating: [], count: works.count)
        for _ in 0..<repeats {
            for (index, work) in works.enumerated() {
                let start = monotonicSeconds()
                work()
                seconds[index].append(monotonicSeconds() - start)
            }
        }
        return seconds
    }

    public static func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
}

/// Whether rates have settled: the best of the last three is that of the three before them, within a fiftieth. An
/// interruption only makes a run slower, so the best of some is not moved by it.
struct Steadiness {
    private var rates: [Double] = []

    mutating func add(rate: Double) { rates.append(rate) }

    var isReached: Bool {
        guard rates.count >= 6, let last = rates.suffix(3).max(), let before = rates.dropLast(3).suffix(3).max() else {
            return false
        }
        return abs(last - before) <= 0.02 * before
    }
}

extension Machine {
    /// A product of 1024 × 1024 × 1024 in double precision on every thread at the same time, about the fastest there is,
    /// and the FLOPs of all.
    public static func largeDoubleProduct() -> (work: () -> Void, flops: Double) {
        let (n, threads) = (1024, ThreadPool.threads)
        let operands = (0..<threads).map { thread in
            (doubles(n, n, seed: UInt64(thread) + 1), doubles(n, n, seed: 99), DoubleMatrix(shape: [n, n]))
        }
        let work = {
            ThreadPool.forEach(threads) {
                Factorization.multiply(operands[$0].0, transposed: operands[$0].1, into: operands[$0].2)
            }
        }
        return (work, 2 * Double(n * n * n * threads))
    }

    /// OpenBLAS' DSYRK, the triangle of XᵀX of `rows` × `features`, on every thread at the same time, and the useful FLOPs
    /// of all: features² for each row.
    public static func doubleGram(rows: Int, features: Int) -> (work: () -> Void, flops: Double) {
        let threads = ThreadPool.threads
        let operands = (0..<threads).map { thread in
            (doubles(rows, features, seed: UInt64(thread) + 1), DoubleMatrix(shape: [features, features]))
        }
        let work = { ThreadPool.forEach(threads) { Factorization.addGram(of: operands[$0].0, to: operands[$0].1) } }
        return (work, Double(rows * features * features * threads))
    }

    /// Numbers uniform in ±½.
    private static func doubles(_ rows: Int, _ columns: Int, seed: UInt64) -> DoubleMatrix {
        let single = random(rows, columns, seed: seed)
        let matrix = DoubleMatrix(uninitialized: [rows, columns])
        for i in 0..<matrix.count { matrix.pointer[i] = Double(single.pointer[i]) }
        return matrix
    }
}
