import ArgumentParser
import CommandSupport
import JSON
import Transformer

struct FamiliesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "families",
        abstract: "The families of models that are supported.",
        discussion: """
            For each family the values of model_type in config.json that mean it, and what sets it apart. Every family can be \
            analysed, converted, trained and exported, dense or with CoLA's bottlenecks. For one checkpoint \
            `cola-convert inspect` says what of it is supported.

            Example:
              cola-analyze families
            """)

    @Flag(help: "Print the result as JSON.")
    var json = false

    @Flag(help: "Print the table as Markdown, as the README has it.")
    var markdown = false

    func validate() throws {
        if json, markdown { throw ValidationError("--json and --markdown: expected one of them.") }
    }

    func run() throws {
        if json { return try Console.output(JSONValue.array(Family.all.map(\.json)).text(indent: 2)) }
        if markdown { return try Console.output(Self.markdownTable) }
        var table = TextTable([("family", .left), ("model_type", .left), ("what it is", .left)])
        for family in Family.all {
            table.append([family.name, family.modelTypes.joined(separator: ", "), family.summary])
        }
        try Console.output(table.text)
    }

    static var markdownTable: String {
        let rows = Family.all.map { family in
            let types = family.modelTypes.map { "`\($0)`" }.joined(separator: ", ")
            return "| \(family.name) | \(types) | \(family.summary) |"
        }
        return (["| family | `model_type` | what it is |", "|---|---|---|"] + rows).joined(separator: "\n")
    }
}

extension Family {
    fileprivate var json: JSONValue {
        [
            "name": .string(name), "model_types": .array(modelTypes.map { .string($0) }), "summary": .string(summary),
        ]
    }
}
