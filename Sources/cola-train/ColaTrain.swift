import ArgumentParser
import CommandSupport

@main
struct ColaTrain: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cola-train",
        abstract: "Train dense and CoLA language models, from nothing or on from a checkpoint.",
        version: Provenance.version,
        subcommands: [BenchCommand.self, GradientsCommand.self])

    static func main() { runAsTool() }
}
