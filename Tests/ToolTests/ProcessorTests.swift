import Foundation
import JSON
import LinearAlgebra
import TestSupport
import Testing

/// The tools on processors that this one is not: the libraries and our own loops are kept from its newer instructions.
@Suite("Processors with fewer instructions")
struct ProcessorTests {
    /// What is allowed, from least to most.
    enum Limit: String, CaseIterable, CustomTestStringConvertible {
        case sse41, avx2, avx512, none

        /// Shell text that sets it.
        var environment: String {
            let names: (onednn: String, openblas: String, own: String)? =
                switch self {
                case .sse41: ("SSE41", "Nehalem", "baseline")
                case .avx2: ("AVX2", "Haswell", "avx2")
                case .avx512: ("AVX512_CORE", "SkylakeX", "avx512")
                case .none: nil
                }
            guard let names else { return "unset ONEDNN_MAX_CPU_ISA OPENBLAS_CORETYPE COLA_MAX_CPU_ISA" }
            return """
                export ONEDNN_MAX_CPU_ISA=\(names.onednn) OPENBLAS_CORETYPE=\(names.openblas)
                export COLA_MAX_CPU_ISA=\(names.own)
                """
        }

        /// Whether this processor has what is allowed.
        var isThere: Bool {
            switch self {
            case .sse41, .none: true
            case .avx2: Processor.InstructionSet.avx2.isThere
            case .avx512: Processor.InstructionSet.avx512.isThere
            }
        }

        var testDescription: String { rawValue }
    }

    static let limits = Limit.allCases.filter(\.isThere)

    let workplace: Workplace

    init() throws { workplace = try Workplace(textBytes: 1200) }

    /// Runs a tool that must succeed under a limit.
    private func succeed(_ limit: Limit, _ tool: Tool, _ arguments: [String]) throws -> Outcome {
        let outcome = try workplace.run(tool, arguments, before: limit.environment)
        try #require(outcome.status == 0 && !outcome.isKilled, "\(arguments): \(outcome)")
        return outcome
    }

    /// Lines about products in bfloat16 that the processor does not have.
    private func announcements(_ outcome: Outcome) -> Int { outcome.errorLines.count { $0.hasPrefix("bf16: ") } }

    @Test(
        "Gradients are the same to rounding; with bfloat16, too, and one line says where its products are made of others",
        arguments: limits)
    func gradients(limit: Limit) throws {
        // Sums over 1,200 tokens, in another order; in bfloat16 operands round to 8 bits besides, each the other way where
        // the numbers before it differ at all.
        for (precision, epsilon) in [("f32", 1200 * 0x1p-24), ("bf16", 0x1p-6)] {
            for (name, limit) in [("free", Limit.none), ("limited", limit)] {
                let outcome = try succeed(
                    limit, .train,
                    ["gradients", "own.h5", "--text", "text.txt", "--precision", precision, "--out", "\(name).h5"])
                // With AVX-512 some versions of oneDNN have such products, and some do not.
                let isMade = limit == .sse41 || limit == .avx2
                let least = precision == "bf16" && isMade ? 1 : 0
                let most = precision == "bf16" ? 1 : 0
                #expect((least...most).contains(announcements(outcome)), "\(precision): \(outcome)")
            }
            let (free, limited) = (try workplace.gradients(in: "free.h5"), try workplace.gradients(in: "limited.h5"))
            #expect(free.count > 10 && free.keys == limited.keys)
            for (name, expected) in free {
                // Rounding enters everywhere: the bound is in units of the largest element.
                let largest = expected.map { abs($0) }.max() ?? 0
                expectClose(
                    try #require(limited[name]).map(Double.init), expected.map(Double.init),
                    within: epsilon * Double(largest), "\(precision) \(name)")
            }
        }
    }

    @Test("The main commands end well, whatever precision they are asked for", arguments: limits)
    func commands(limit: Limit) throws {
        for precision in ["f32", "bf16", "auto"] {
            let run = "run-\(precision)"
            _ = try succeed(
                limit, .train,
                [
                    "continue", "own.h5", "--text", "text.txt", "--sequence-length", "16", "--batch", "4", "--steps",
                    "2", "--precision", precision, "--out", run,
                ])
            let (state, isAuto) = (
                try RunContents(workplace.file(Workplace.checkpoint(2, of: run))), precision == "auto"
            )
            let recorded = try JSONValue(parsing: state.settings).objectValue?["precision"]?.stringValue
            // What is faster may change from one command to the next, where both are there.
            let expected = !isAuto ? [precision] : limit == .sse41 || limit == .avx2 ? ["f32"] : ["f32", "bf16"]
            #expect(expected.contains(recorded ?? "nothing"))
            let converted = try succeed(
                limit, .convert,
                [
                    "dense-to-lowrank", "own.h5", "cola-\(precision).h5", "--rank", "6", "--text", "text.txt",
                    "--refine", "1", "--precision", precision, "--json",
                ])
            let report = try JSONValue(parsing: converted.output)
            let refined = report.objectValue?["refinement"]?.objectValue?["precision"]?.stringValue
            #expect(expected.contains(refined ?? "nothing"))
            #expect(precision == "f32" ? announcements(converted) == 0 : announcements(converted) <= 1)
        }
        for command in [
            ["spectrum", "own.h5", "--text", "text.txt", "--precision", "bf16", "--out", "spectra"],
            ["perplexity", "own.h5", "--text", "text.txt", "--precision", "bf16"],
            ["logits", "own.h5", "--text", "text.txt", "--precision", "bf16", "--out", "logits.npy"],
            ["bench", "--size", "60m", "--layers", "1", "--batch", "1", "--sequence-length", "32", "--repeats", "1"],
        ] {
            let outcome = try succeed(limit, .analyze, command)
            if limit == .sse41 || limit == .avx2 { #expect(announcements(outcome) == 1, "\(outcome)") }
        }
        _ = try succeed(
            limit, .train,
            ["bench", "--size", "tiny", "--layers", "1", "--batch", "1", "--sequence-length", "16", "--steps", "1"])
    }

    @Test("More threads than processors, one thread, and what is no number of threads", arguments: ["7", "1", "none"])
    func threads(count: String) throws {
        let outcome = try workplace.run(
            .analyze, ["perplexity", "own.h5", "--text", "text.txt", "--json"],
            before: "export OMP_NUM_THREADS=\(count)")
        #expect(outcome.status == 0 && !outcome.isKilled, "\(outcome)")
        if let threads = Int(count) { #expect(outcome.errors.contains("threads \(threads)\n"), "\(outcome)") }
    }

    @Test("Without the memory for a model the tool says so, with code 71, and leaves nothing")
    func memory() throws {
        try workplace.write([UInt8](repeating: 0, count: 4096), "tokens.u16")
        try workplace.refuse(
            71, .train,
            [
                "pretrain", "--preset", "7b", "--model", "dense", "--tokens", "tokens.u16", "--steps", "1", "--out",
                "run",
                "--quiet",
            ], mentions: ["no memory for", "limited to 3.81 GiB"], before: "ulimit -v 4000000")
    }
}
