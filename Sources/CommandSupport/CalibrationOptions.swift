import ArgumentParser
import Checkpoints
import JSON
import LowRank
import Transformer
import Workflows

/// The texts that statistics are collected on, or statistics that were saved.
public struct CalibrationOptions: ParsableArguments {
    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp(
            "Calibration: texts (UTF-8), split by the checkpoint's own tokenizer: files, folders for the .txt files in them, - for standard input.",
            valueName: "file"))
    public var text: [String] = []

    @Option(
        help: ArgumentHelp(
            "Calibration: token ids instead of text: .npy, .u16, .u32, or file.h5:/path/to/dataset.", valueName: "file")
    )
    public var tokens: String?

    @Option(help: ArgumentHelp("Use this many calibration tokens at most.", valueName: "count"))
    public var maxTokens: Int?

    @Option(
        help: ArgumentHelp("Tokens of a sequence (default: 512, or the rows of a 2-D token file).", valueName: "count"))
    public var sequenceLength: Int?

    @Option(help: ArgumentHelp("Statistics that --save-moments wrote, instead of collecting them.", valueName: "file"))
    public var moments: String?

    @Option(
        help: ArgumentHelp("Keep the collected statistics, so that planning again takes seconds.", valueName: "file"))
    public var saveMoments: String?

    @Option(help: ArgumentHelp("Of the labels that gradients are sampled with.", valueName: "number"))
    public var seed: UInt64 = 0

    @OptionGroup public var sequenceOptions: SequenceOptions
    @OptionGroup public var tokenizer: TokenizerOptions

    public init() {}

    public var hasText: Bool { !text.isEmpty || tokens != nil }

    public func validate() throws {
        if !text.isEmpty, tokens != nil {
            throw ValidationError("Give the calibration as either --text FILE… or --tokens FILE.")
        }
        try TextInput.validate(text)
        for (name, value) in [("--max-tokens", maxTokens), ("--sequence-length", sequenceLength)] {
            if let value, value < 1 { throw ValidationError("\(name) \(value): expected at least 1.") }
        }
        if moments != nil, saveMoments != nil {
            throw ValidationError("--save-moments keeps what is collected; with --moments nothing is.")
        }
        if saveMoments != nil, !hasText {
            throw ValidationError("--save-moments needs a calibration text: --text FILE… or --tokens FILE.")
        }
    }

    /// The files that are read.
    public var paths: [String] {
        (tokens.map { [TokenStream.path(of: $0)] } ?? TextInput.paths(text)) + (moments.map { [$0] } ?? [])
            + (tokenizer.tokenizer.map { [$0] } ?? [])
    }

    /// The sequences of the calibration text.
    public func sequences(
        for source: any TensorSource, _ description: ModelDescription, _ console: Console
    ) throws -> CalibrationText {
        guard hasText else { return CalibrationText() }
        let streams = try TokenStream.load(
            TokenStream.Request(
                text: text, tokens: tokens, maxTokens: maxTokens, sequences: sequenceOptions, tokenizer: tokenizer),
            for: source, description, console)
        return CalibrationText(
            sequences: try streams.sequences(length: sequenceLength, maxTokens: maxTokens), streams: streams)
    }

    /// Where the statistics that a weighting needs come from: a file, or the sequences, after which they are saved if
    /// asked for. Nil for the weighting that needs none. Hashes the files of the text.
    ///
    /// - Throws: `InputError` where there is neither and the weighting needs some.
    public func source(
        for weighting: Weighting, _ sequences: [ArraySlice<UInt32>], provenance: JSONObject
    ) throws -> Calibration.Source? {
        if let moments { return .file(moments) }
        guard !sequences.isEmpty else {
            guard weighting == .weight else {
                throw InputError(
                    "no calibration: the weighting \(weighting.rawValue) needs --text FILE…, --tokens FILE or --moments "
                        + "FILE")
            }
            return nil
        }
        var text = Calibration.Text(sequences, labelSeed: weighting == .fisher ? seed : nil)
        text.sources = try paths.map { try Provenance.input($0) }
        text.file = saveMoments
        text.provenance = provenance
        return .text(text)
    }
}

/// What a model is calibrated on.
public struct CalibrationText: Sendable {
    public var sequences: [ArraySlice<UInt32>] = []
    public var streams: [TokenStream] = []

    /// Whether the sequences are one text after the other, with nothing put between and nothing left out.
    public var isContinuous: Bool { streams.allSatisfy(\.isUnchanged) }

    /// `record` with what was put in front of the sequences and left out of them.
    public func adding(to record: JSONObject) -> JSONObject {
        streams.isEmpty ? record : JSONObject(record.members + streams.record.members)
    }
}
