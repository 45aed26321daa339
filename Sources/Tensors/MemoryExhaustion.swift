import Synchronization

/// What happens where the system has no memory for a tensor: nothing that computes could go on without it, so the process
/// ends. A program says how.
public enum MemoryExhaustion {
    private static let ending = Mutex<(@Sendable (_ bytes: Int) -> Never)?>(nil)

    /// From now on `body` ends the process; it is told how many bytes could not be had. Without one the process traps.
    public static func end(by body: @escaping @Sendable (_ bytes: Int) -> Never) { ending.withLock { $0 = body } }

    static func report(bytes: Int) -> Never {
        if let body = ending.withLock({ $0 }) { body(bytes) }
        preconditionFailure("no memory for \(bytes) bytes")
    }
}
