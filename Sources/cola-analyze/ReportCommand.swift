import ArgumentParser
import CommandSupport
import Files
import JSON
import Report

struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Show results as one HTML page: spectra, ranks, conversions, training, costs.",
        discussion: """
            Reads what the tools wrote into the folders – spectra.csv, ranks.csv and run.json, rank plans, conversion \
            reports, metrics.csv, rank-history.csv, cost.csv – and writes a page that opens in any browser and needs \
            no network. Of several folders the page compares the results. A folder that has none of these files \
            stands for the folders in it.

            Example:
              cola-analyze spectrum smollm2.h5 --text speeches.txt --out spectra
              cola-analyze report spectra --out report.html
              cola-analyze report spectra-dense spectra-cola --out comparison.html
            """)

    @Argument(help: ArgumentHelp("Folders of results.", valueName: "dir"))
    var folders: [String]

    @Option(name: .long, help: ArgumentHelp("The page to write.", valueName: "file"))
    var out: String

    @Option(help: ArgumentHelp("What stands at the top of the page (default: the folders' names).", valueName: "text"))
    var title: String?

    @OptionGroup var consoleOptions: ConsoleOptions

    /// The names of the runs, of many the first.
    private static func title(_ runs: [String]) -> String {
        guard runs.count > 4 else { return runs.joined(separator: ", ") }
        return runs.prefix(3).joined(separator: ", ") + " and \(runs.count - 3) more"
    }

    func run() throws {
        let console = consoleOptions.console
        // A page that an earlier run has written is none of the files that are read.
        try OutputCheck().require([.stream(out)])
        let file = try AtomicFile(out)
        let contents = try ReportContents(folders: folders)
        try OutputCheck(files: contents.files).require([.stream(out)])
        let ignored = contents.ignored
        if !ignored.isEmpty {
            console.note(
                "not shown, as \(ignored.count == 1 ? "it is" : "they are") none of the toolkit's: "
                    + ignored.joined(separator: ", "))
        }
        let page = try ReportPage(
            contents, title: title ?? Self.title(contents.runs),
            provenance: Provenance.tool(withKernels: false))
        try file.write(page.html)
        try file.commit()
        let bytes = page.html.utf8.count
        if consoleOptions.json {
            var record = Provenance.tool(withKernels: false)
            record["path"] = .string(out)
            record["bytes"] = .integer(bytes)
            record["sections"] = .array(contents.sections.map { .string($0) })
            record["runs"] = .array(contents.runs.map { .string($0) })
            try Console.output(JSONValue.object(record).text(indent: 2), besides: [out])
        } else {
            try Console.output(
                "\(out)  \(byteCount(bytes))  \(contents.sections.joined(separator: ", ")) of "
                    + contents.runs.joined(separator: ", "), besides: [out])
        }
    }
}
