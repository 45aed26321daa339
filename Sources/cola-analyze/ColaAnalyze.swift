import ArgumentParser
import CommandSupport

@main
struct ColaAnalyze: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cola-analyze",
        abstract: "Measure how low-rank the activations of a language model are.",
        discussion: """
            Example:
              cola-analyze spectrum smollm2.h5 --text speeches.txt --out spectra

            Exit codes: 0 done, 64 usage, 65 bad input, 66 no such input, 70 a bug of ours, 73 cannot write, 130 interrupted.
            """,
        version: Provenance.version,
        subcommands: [
            SpectrumCommand.self, RanksCommand.self, CostCommand.self, ReportCommand.self, PerplexityCommand.self,
            LogitsCommand.self,
            FamiliesCommand.self, BenchCommand.self,
        ])

    static func main() { runAsTool() }
}
