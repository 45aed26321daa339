import JSON
import TestSupport
import Testing

@testable import CommandSupport
@testable import Workflows

@Suite("COLA_MAX_CPU_ISA")
struct InstructionSetTests {
    private let workplace: Workplace

    init() throws { workplace = try Workplace(textBytes: 3000) }

    /// A perplexity with the variable set; its settings line, and the loss.
    private func measure(_ value: String) throws -> (settings: String, loss: Double) {
        let outcome = try workplace.run(
            .analyze, ["perplexity", "own.h5", "--text", "text.txt", "--json"],
            before: "export COLA_MAX_CPU_ISA='\(value)'")
        try #require(outcome.status == 0 && !outcome.isKilled, "\(outcome)")
        let settings = outcome.errors.split(whereSeparator: \.isNewline).first { $0.hasPrefix("kernels: ") }
        let result = try JSONValue(parsing: outcome.output)
        return (String(settings ?? ""), try #require(result["nats_per_token"]?.doubleValue))
    }

    @Test("Limits the tools to an instruction set, which they print, and changes losses by rounding only")
    func limit() throws {
        let whole = try measure("")
        for set in EveryInstructionSet.present.map(EveryInstructionSet.name) {
            let limited = try measure(set)
            #expect(limited.settings.contains("moments \(set)"), "\(limited.settings)")
            // Two thousand tokens of a few layers: a few hundred roundings of 2⁻²⁴ each.
            #expect(abs(limited.loss - whole.loss) < 1e-5, "\(set): \(limited.loss), expected \(whole.loss)")
        }
        // More than a processor has is no limit.
        if let widest = EveryInstructionSet.present.last.map(EveryInstructionSet.name) {
            #expect(try measure("avx512").settings.contains("moments \(widest)"))
        }
    }

    @Test(
        "A value that is none of the names is refused by what computes, and does not stop what does not",
        arguments: ["sse2", "AVX2", "avx2 "])
    func refused(value: String) throws {
        try workplace.refuse(
            ToolExit.code(for: MachineError("")), .analyze, ["perplexity", "own.h5", "--text", "text.txt"],
            mentions: ["COLA_MAX_CPU_ISA", "'\(value)'", "baseline, avx2 or avx512"],
            before: "export COLA_MAX_CPU_ISA='\(value)'", isUsage: false)
        let inspected = try workplace.run(
            .convert, ["inspect", "own.h5"], before: "export COLA_MAX_CPU_ISA='\(value)'")
        #expect(inspected.status == 0 && inspected.errors == "", "\(inspected)")
    }
}

@Suite("Warm-up of benchmarks")
struct TimingTests {
    private func steadyAfter(_ rates: [Double]) -> Int? {
        var steadiness = Steadiness()
        for (index, rate) in rates.enumerated() {
            steadiness.add(rate: rate)
            if steadiness.isReached { return index + 1 }
        }
        return nil
    }

    @Test("Rates that rise or fall are not steady, equal ones are, and one slow run among them does not matter")
    func steadiness() {
        #expect(steadyAfter([91, 115, 142, 132]) == nil)
        #expect(steadyAfter([10, 11, 12, 13, 14, 15, 16, 17, 18]) == nil)
        #expect(steadyAfter([18, 17, 16, 15, 14, 13, 12, 11, 10]) == nil)
        #expect(steadyAfter([100, 100, 100, 100, 100]) == nil)
        #expect(steadyAfter([100, 100, 100, 100, 100, 100]) == 6)
        #expect(steadyAfter([91, 115, 142, 140, 143, 142, 141, 142, 143]) == 6)
        #expect(steadyAfter([100, 50, 101, 99, 100, 60]) == 6)
    }

    @Test("Work is run at least once, and not for longer than the limit where its rate never settles")
    func limits() {
        var runs = 0
        #expect(!Timing.warmUp(limit: 0) { runs += 1 })
        #expect(runs >= 1)
        var duration = 0.002
        let start = monotonicSeconds()
        Timing.warmUp(limit: 0.2) {
            let end = monotonicSeconds() + duration
            while monotonicSeconds() < end {}
            duration *= 1.3
        }
        // The last run may have begun just before the limit; each is a third longer than the one before it.
        #expect(monotonicSeconds() - start < 60)
        var counts = [0, 0]
        let samples = Timing.samples(repeats: 3, [{ counts[0] += 1 }, { counts[1] += 1 }])
        #expect(samples.map(\.count) == [3, 3] && counts[0] == counts[1] && counts[0] > 3)
        #expect(Timing.median([5, 1, 3]) == 3)
    }
}
