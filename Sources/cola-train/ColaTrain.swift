import ArgumentParser
import CommandSupport

@main
struct ColaTrain: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cola-train",
        abstract: "Train dense and CoLA language models, from nothing or on from a checkpoint.",
        discussion: """
            Example:
              cola-train pretrain --preset tiny --tokenizer tokenizer.json --text speeches/*.txt --out runs/tiny

            Exit codes: 0 done, 64 usage, 65 bad input, 66 no such input, 70 a bug of ours, 73 cannot write, 130 interrupted
            (state saved).
            """,
        version: Provenance.version,
        subcommands: [
            PretrainCommand.self, ContinueCommand.self, ResumeCommand.self, GradientsCommand.self, BenchCommand.self,
        ])

    static func main() { runAsTool() }
}
