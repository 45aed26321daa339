import LinearAlgebra
import Tensors
import Transformer

/// What benchmarks measure a program against: how fast this machine multiplies and copies at most.
public enum Machine {
    /// A product of 2048 × 2048 × 2048, about the fastest there is, and its FLOPs.
    public static func largeProduct(_ precision: Precision) -> (work: () -> Void, flops: Double) {
        let n = 2048
        let (a, b) = (random(n, n, seed: 1), random(n, n, seed: 2))
        let c = Matrix(uninitialized: [n, n])
        let flops = 2 * Double(n * n * n)
        guard precision == .bf16 else { return ({ multiply(a.view, b.view, transposeB: true, into: c.view) }, flops) }
        let (x, y) = (Tensor<BFloat16>(uninitialized: [n, n]), Tensor<BFloat16>(uninitialized: [n, n]))
        round(a.view, into: x.view)
        round(b.view, into: y.view)
        return ({ multiply(x.view, y.view, transposeB: true, into: c.view) }, flops)
    }

    /// A copy of `count` numbers on all threads, and the bytes it reads and writes.
    public static func largeCopy(count: Int) -> (work: () -> Void, bytes: Double) {
        let (source, destination) = (Matrix(shape: [count]), Matrix(shape: [count]))
        let work = {
            ThreadPool.forEachRange(count, granularity: 1 << 16) { part in
                (destination.pointer + part.lowerBound).update(
                    from: source.pointer + part.lowerBound, count: part.count)
            }
        }
        return (work, 8 * Double(count))
    }

    /// Numbers uniform in ±½.
    public static func random(_ rows: Int, _ columns: Int, seed: UInt64) -> Matrix {
        var generator = SeededGenerator(seed: seed)
        let matrix = Matrix(uninitialized: [rows, columns])
        for i in 0..<matrix.count { matrix.pointer[i] = Float(generator.uniform() - 0.5) }
        return matrix
    }

    /// Which precision multiplies faster here, by a few products of a projection's shape: a processor that has
    /// instructions for bfloat16 need not be faster with them.
    public static var fasterPrecision: Precision {
        let (rows, columns) = (1024, 512)
        let (x, w, y) = (
            random(rows, columns, seed: 1), random(columns, columns, seed: 2), Matrix(shape: [rows, columns])
        )
        let (roundedX, roundedW) = (
            Tensor<BFloat16>(uninitialized: x.shape), Tensor<BFloat16>(uninitialized: w.shape)
        )
        round(x.view, into: roundedX.view)
        round(w.view, into: roundedW.view)
        func seconds(_ work: () -> Void) -> Double {
            let start = monotonicSeconds()
            work()
            return monotonicSeconds() - start
        }
        // In turn, so that an interruption – or a processor still waking up – does not meet one of them alone.
        var (single, rounded) = (Double.infinity, Double.infinity)
        for _ in 0..<20 {
            single = min(single, seconds { multiply(x.view, w.view, transposeB: true, into: y.view) })
            rounded = min(rounded, seconds { multiply(roundedX.view, roundedW.view, transposeB: true, into: y.view) })
        }
        return rounded < 0.9 * single ? .bf16 : .f32
    }
}

/// A benchmark's kernel computed something else than it should.
public struct WrongResult: Error, CustomStringConvertible {
    public let description: String

    public init(description: String) { self.description = description }

    /// Throws unless a number is what it should be.
    public static func check(
        _ what: String, _ found: Double, _ expected: Double, tolerance: Double
    ) throws(WrongResult) {
        guard abs(found - expected) <= tolerance else {
            throw WrongResult(description: "\(what): found \(found), expected \(expected) within \(tolerance)")
        }
    }
}
