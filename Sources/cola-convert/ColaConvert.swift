import ArgumentParser
import CommandSupport

@main
struct ColaConvert: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cola-convert",
        abstract: "Look into checkpoints, and bring them from and to other formats.",
        discussion: """
            Example:
              cola-convert import SmolLM2-135M-Instruct.Q4_1.gguf smollm2.h5

            Exit codes: 0 done, 64 usage, 65 bad input, 66 no such input, 70 a bug of ours, 73 cannot write, 130 interrupted.
            """,
        version: Provenance.version,
        subcommands: [
            DenseToLowrankCommand.self, InspectCommand.self, ImportCommand.self, ExportCommand.self,
            TokenizeCommand.self,
        ])

    static func main() { runAsTool() }
}
