import CKernels
import Testing

/// Runs each test once for every instruction set that this processor and our loops have, with that set's loops. For tests
/// that call the loops directly: other threads go on with the process' own set, which the environment variable
/// COLA_MAX_CPU_ISA limits.
package struct EveryInstructionSet: SuiteTrait, TestTrait {
    package var isRecursive: Bool { true }

    /// The sets that this processor has, and the ones that it lacks.
    package static var present: [ck_instruction_set] { all.filter { ck_has_instruction_set($0) } }
    package static var absent: [ck_instruction_set] { all.filter { !ck_has_instruction_set($0) } }

    private static let all = [ck_baseline, ck_avx2, ck_avx512]

    package static func name(_ set: ck_instruction_set) -> String { String(cString: ck_instruction_set_name(set)) }
}

extension Trait where Self == EveryInstructionSet {
    package static var everyInstructionSet: Self { Self() }
}

#if compiler(>=6.1)
    extension EveryInstructionSet: TestScoping {
        package func provideScope(
            for test: Test, testCase: Test.Case?, performing body: @Sendable () async throws -> Void
        ) async throws {
            for set in Self.absent {
                leaveOut("loops for \(Self.name(set))", because: "this processor does not have it")
            }
            for set in Self.present {
                try #require(ck_use_instruction_set(set))
                // A test without `await` stays on its thread, and the choice is the thread's.
                try await body()
                #expect(ck_current_instruction_set() == set, "the test moved to another thread")
                ck_use_default_instruction_set()
            }
        }
    }
#endif
