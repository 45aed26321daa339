import ArgumentParser
import Checkpoints
import CommandSupport
import JSON
import TokenData
import Tokenizers

struct TokenizeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenize",
        abstract: "Turn text into a file of token ids.",
        discussion: """
            The suffix of the output decides its format: .npy, .u16, .u32, or .h5 (dataset /tokens, or file.h5:/name). Several \
            texts follow one another; a folder stands for the .txt files in it, - for standard input. Texts must be UTF-8; ends \
            of lines stay as they are. No begin or end tokens are added unless asked for.

            Example:
              cola-convert tokenize speeches.txt --tokenizer smollm2.h5 --out speeches.npy
            """)

    @Argument(help: "Texts, UTF-8: files, folders for the .txt files in them, - for standard input.")
    var text: [String]

    @Option(help: ArgumentHelp("Checkpoint, tokenizer.json or sentencepiece model.", valueName: "file"))
    var tokenizer: String

    @OptionGroup var rule: PreTokenizerOptions

    @Option(name: .long, help: ArgumentHelp("The token file to write.", valueName: "file"))
    var out: String

    @Flag(help: "Add the begin and end tokens that the tokenizer puts around each text.")
    var specialTokens = false

    @Option(
        help: ArgumentHelp(
            "A BOS in front of each text: auto, as the tokenizer has it, always or never (default: never; auto with --special-tokens).",
            valueName: "rule"))
    var bos: BOSRule?

    @OptionGroup var consoleOptions: ConsoleOptions

    func validate() throws { try TextInput.validate(text) }

    func run() throws {
        let console = consoleOptions.console
        try OutputCheck(checkpoints: [tokenizer], files: text).require([.tokens(out)])
        try TokenFile.requireWritable(out)
        let tokenizer = try makeTokenizer(from: rule.tokenizer(at: tokenizer), path: tokenizer)
        let texts = try TextInput.list(text, console)
        let bosOption = bos ?? (specialTokens ? .auto : .never)
        let prefix = try bosOption.prefix(
            isText: true, tokenizer: { tokenizer }, SpecialIDs(nil, path: self.tokenizer))
        let progress = console.progress("tokenize", unit: "texts", total: texts.count)
        var ids: [UInt32] = []
        var bytes = 0
        for (index, path) in texts.enumerated() {
            let content = try TextInput.read(path, console)
            bytes += content.count
            let text = try tokenizer.encode(content)
            ids += (text.starts(with: prefix) ? [] : prefix) + text + (specialTokens ? tokenizer.suffixIDs : [])
            progress.update(index + 1)
        }
        let seconds = progress.finish()
        console.note(
            "bos: \(prefix.isEmpty ? "none" : prefix.map { "\($0)" }.joined(separator: ", ")) (--bos \(bosOption.rawValue))"
        )
        guard !ids.isEmpty else {
            throw InputError(
                "\(texts.map(TextInput.name).joined(separator: ", ")): the text is empty, so there are no tokens")
        }
        try TokenFile.write(TokenIDs(ids: ids, rowLength: nil), to: out)
        if consoleOptions.json {
            var record = Provenance.tool(withKernels: false)
            record["out"] = .string(out)
            record["tokens"] = .integer(ids.count)
            record["bytes"] = .integer(bytes)
            record["bos"] = ["rule": .string(bosOption.rawValue), "ids": .array(prefix.map { .integer(Int($0)) })]
            record["megabytes_per_second"] = .number(Double(bytes) / 1e6 / max(seconds, 1e-9))
            try Console.output(JSONValue.object(record).text(indent: 2), besides: [out])
        } else {
            try Console.output(
                "\(out)  \(grouped(ids.count)) tokens from \(byteCount(bytes)) of text", besides: [out])
        }
    }
}
