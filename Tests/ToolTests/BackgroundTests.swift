import CommandSupport
import Foundation
import Synchronization
import Testing

@Suite("Work in the background")
struct BackgroundTests {
    struct Failure: Error, Equatable {
        let code: Int
    }

    @Test("Its value or its error comes back, as often as it is asked for")
    func results() throws {
        let sum = Background { (1...100).reduce(0, +) }
        #expect(try sum.value() == 5050)
        #expect(try sum.value() == 5050)
        let failing = Background<Int> { throw Failure(code: 7) }
        #expect(throws: Failure(code: 7)) { try failing.value() }
    }

    @Test("Letting go of it waits until it has ended")
    func lettingGo() {
        let flag = Flag()
        do {
            _ = Background {
                usleep(50_000)
                flag.hasEnded.store(true, ordering: .releasing)
            }
        }
        let hasEnded = flag.hasEnded.load(ordering: .acquiring)
        #expect(hasEnded)
    }

    private final class Flag: Sendable {
        let hasEnded = Atomic(false)
    }
}
