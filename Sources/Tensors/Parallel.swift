import CKernels

/// The process' one thread pool: the OpenMP threads that oneDNN runs on as well.
public enum ThreadPool {
    /// Threads in use; OMP_NUM_THREADS sets it from outside.
    public static var threads: Int { Int(ck_thread_count()) }

    /// Uses so many from now on. To be called before any work.
    public static func useThreads(_ count: Int) { ck_set_thread_count(Int32(count)) }

    /// Which thread is calling, in `0..<threads`: selects scratch memory inside `forEach`.
    public static var currentThread: Int { Int(ck_thread_index()) }

    /// Calls `body` for every index in `0..<count`, in no defined order, and returns when all have returned.
    ///
    /// `body` runs on several threads at once: it writes only where no other index writes. A call inside `body` runs
    /// on the calling thread alone.
    public static func forEach(_ count: Int, _ body: (Int) -> Void) {
        withoutActuallyEscaping(body) { escapable in
            var work = Work(body: escapable)
            withUnsafeMutablePointer(to: &work) { context in
                ck_parallel_for(
                    count,
                    { context, index in
                        context!.assumingMemoryBound(to: Work.self).pointee.body(index)
                    }, context)
            }
        }
    }

    /// Cuts `0..<count` into one contiguous range per thread, each but the last a multiple of `granularity`.
    public static func forEachRange(_ count: Int, granularity: Int = 1, _ body: (Range<Int>) -> Void) {
        guard count > 0 else { return }
        let units = (count + granularity - 1) / granularity
        let parts = min(threads, units)
        forEach(parts) { part in
            let start = units * part / parts * granularity
            let end = min(count, units * (part + 1) / parts * granularity)
            if start < end { body(start..<end) }
        }
    }

    private struct Work {
        let body: (Int) -> Void
    }
}
