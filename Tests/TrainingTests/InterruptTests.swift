import CSignals
import Foundation
import Glibc
import LinearAlgebra
import Tensors
import Testing

/// Each test is a process of its own: signals are the whole process' business.
@Suite("Interrupts that are deferred")
struct InterruptTests {
    @Test("The first signal is kept, and said on one line; the second one removes files and ends the process")
    func twoSignals() async throws {
        let result = try await #require(
            processExitsWith: .exitCode(130), observing: [\.standardErrorContent, \.standardOutputContent]
        ) {
            unblockSignals()
            csignals_install("cola-train")
            csignals_defer_interrupts()
            let path = FileManager.default.temporaryDirectory.path + "/cola-interrupt-\(getpid())"
            guard FileManager.default.createFile(atPath: path, contents: Data([1])) else { exit(2) }
            FileHandle.standardOutput.write(Data("<\(path)>".utf8))
            let slot = csignals_remember(path)
            guard slot >= 0, csignals_interrupt_requested() == 0 else { exit(3) }
            errno = 77
            raise(SIGTERM)
            guard errno == 77, csignals_interrupt_requested() == SIGTERM, access(path, F_OK) == 0 else { exit(4) }
            raise(SIGINT)
            exit(5)
        }
        let errors = String(decoding: result.standardErrorContent, as: UTF8.self)
        let lines = errors.split(separator: "\n").filter { $0.hasPrefix("interrupted: ") }
        #expect(
            lines == [
                "interrupted: will save and stop; a second signal ends at once, without saving",
                "interrupted: unfinished output was removed",
            ])
        let output = String(decoding: result.standardOutputContent, as: UTF8.self)
        let path = try #require(output.split(separator: "<").last?.split(separator: ">").first)
        #expect(path.contains("cola-interrupt-") && access(String(path), F_OK) != 0)
    }

    @Test("Without deferring, and after it, the first signal ends the process", arguments: [SIGINT, SIGTERM, SIGHUP])
    func notDeferred(_ signal: Int32) async {
        await #expect(processExitsWith: .exitCode(130)) { [signal] in
            unblockSignals()
            csignals_install("cola-train")
            raise(signal)
            exit(3)
        }
        await #expect(processExitsWith: .exitCode(130)) { [signal] in
            unblockSignals()
            csignals_defer_interrupts()
            raise(signal)
            guard csignals_interrupt_requested() == signal else { exit(3) }
            // The earlier one is forgotten.
            csignals_defer_interrupts()
            guard csignals_interrupt_requested() == 0 else { exit(4) }
            raise(signal)
            csignals_stop_deferring()
            guard csignals_interrupt_requested() == signal else { exit(5) }
            raise(signal)
            exit(6)
        }
    }

    @Test("A signal that was ignored before stays ignored, as with nohup")
    func ignored() async {
        await #expect(processExitsWith: .exitCode(0)) {
            unblockSignals()
            signal(SIGHUP, SIG_IGN)
            csignals_install("cola-train")
            csignals_defer_interrupts()
            raise(SIGHUP)
            guard csignals_interrupt_requested() == 0 else { exit(3) }
            raise(SIGINT)
            raise(SIGHUP)
            exit(csignals_interrupt_requested() == SIGINT ? 0 : 4)
        }
    }

    /// oneDNN's product in single precision lets the stack pointer point to its own buffer.
    @Test("A signal in the middle of a product changes nothing of it")
    func duringProducts() async {
        await #expect(processExitsWith: .exitCode(0)) {
            unblockSignals()
            csignals_install("cola-train")
            var generator = SeededGenerator(seed: 5)
            let factors = [(192, 576), (40, 64), (333, 100)].map { n, k in
                (Matrix.normal(shape: [n, k], using: &generator), Matrix.normal(shape: [k, n], using: &generator))
            }
            func products() -> [[Float]] {
                factors.map { a, b in
                    let c = Matrix(rows: a.rows, columns: b.columns)
                    multiply(a.view, b.view, into: c.view)
                    return c.elements
                }
            }
            let expected = products()
            let worker = pthread_self()
            Thread { while pthread_kill(worker, SIGVTALRM) == 0 { usleep(50) } }.start()
            let end = Date() + 2
            while Date() < end { guard products() == expected else { exit(3) } }
            exit(0)
        }
    }
}

/// Tests may run on threads that block signals.
private func unblockSignals() {
    var none = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, nil)
}
