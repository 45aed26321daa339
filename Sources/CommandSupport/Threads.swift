import Glibc

enum Threads {
    /// How many threads of `count` the system lets this process have at once, the calling one included: users and control
    /// groups may have a limit, and OpenMP ends the process where it meets one.
    static func startable(upTo count: Int) -> Int {
        let gate = Gate()
        var threads: [pthread_t] = []
        for _ in 0..<max(0, count - 1) {
            var thread = pthread_t()
            let context = Unmanaged.passRetained(gate)
            let status = pthread_create(
                &thread, nil,
                { context in
                    Unmanaged<Gate>.fromOpaque(context!).takeRetainedValue().wait()
                    return nil
                }, context.toOpaque())
            guard status == 0 else {
                context.release()
                break
            }
            threads.append(thread)
        }
        gate.open()
        for thread in threads { pthread_join(thread, nil) }
        return threads.count + 1
    }

    /// What threads wait at until all are there.
    private final class Gate: @unchecked Sendable {
        private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

        init() { sem_init(semaphore, 0, 0) }

        deinit {
            sem_destroy(semaphore)
            semaphore.deallocate()
        }

        func wait() {
            while sem_wait(semaphore) != 0 {}
            // The next one.
            sem_post(semaphore)
        }

        func open() { sem_post(semaphore) }
    }
}
