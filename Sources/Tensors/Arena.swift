import Glibc

/// Memory for many tensors that live and die together, such as a model's weights.
///
/// Taken from the system in large blocks and asked for on huge pages: tensors of one or two mebibytes are too small for
/// those by themselves, and on small pages the system spends longer clearing memory than reading the file that fills it.
/// The memory starts as zeros. Each tensor keeps its arena, which goes with the last of them.
public final class Arena: @unchecked Sendable {
    private static let blockBytes = 32 << 20
    static let alignment = 64

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var blocks: [(start: UnsafeMutableRawPointer, bytes: Int)] = []
    private var next = UnsafeMutableRawPointer(bitPattern: Arena.alignment)!
    private var free = 0

    public init() { pthread_mutex_init(mutex, nil) }

    deinit {
        for block in blocks { munmap(block.start, block.bytes) }
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Zeroed memory that holds as long as the arena does.
    func allocate(_ bytes: Int) -> UnsafeMutableRawPointer {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        let bytes = (bytes + Self.alignment - 1) / Self.alignment * Self.alignment
        if bytes > free {
            free = max(bytes, Self.blockBytes)
            let start = mmap(nil, free, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
            guard let start, start != MAP_FAILED else { MemoryExhaustion.report(bytes: free) }
            madvise(start, free, MADV_HUGEPAGE)
            blocks.append((start, free))
            next = start
        }
        defer {
            next += bytes
            free -= bytes
        }
        return next
    }
}
