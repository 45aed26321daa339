import Glibc

/// Something that a thread of its own works out while the process goes on, outside the pool that the arithmetic uses.
///
/// Letting go of it waits for the thread: a process must not exit while one is inside a library.
public final class Background<Value: Sendable> {
    private final class Outcome: @unchecked Sendable {
        var result: Result<Value, any Error>?
    }

    private let outcome = Outcome()
    private let thread: pthread_t
    private var isJoined = false

    public init(_ work: @escaping @Sendable () throws -> Value) {
        let outcome = outcome
        let start = Start { outcome.result = Result { try work() } }
        var thread = pthread_t()
        let starting = Unmanaged.passRetained(start)
        let status = pthread_create(
            &thread, nil,
            { context in
                Unmanaged<Start>.fromOpaque(context!).takeRetainedValue().body()
                return nil
            }, starting.toOpaque())
        self.thread = thread
        guard status != 0 else { return }
        // The system has no thread to give: the work is done here and now instead.
        isJoined = true
        starting.takeRetainedValue().body()
    }

    deinit { join() }

    /// Waits for the result.
    public func value() throws -> Value {
        join()
        return try outcome.result!.get()
    }

    private func join() {
        if !isJoined { pthread_join(thread, nil) }
        isJoined = true
    }
}

private final class Start: Sendable {
    let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}
