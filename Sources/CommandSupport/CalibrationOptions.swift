import ArgumentParser
import Checkpoints
import JSON
import LowRank
import Transformer

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
        for source: any TensorSource, _ configuration: DecoderConfiguration, _ console: Console
    ) throws -> CalibrationText {
        guard hasText else { return CalibrationText() }
        let streams = try TokenStream.load(
            text: text, tokens: tokens, maxTokens: maxTokens, sequenceOptions, tokenizer, for: source, configuration,
            console)
        return CalibrationText(
            sequences: try streams.sequences(length: sequenceLength, maxTokens: maxTokens), streams: streams)
    }

    /// The statistics that a weighting needs: read, or collected from the sequences, and saved if asked for. Nil for the
    /// weighting that needs none. Warns if there are few tokens for the model's width.
    public func statistics(
        of decoder: Decoder, fingerprint: String, _ weighting: Weighting, _ sequences: [ArraySlice<UInt32>],
        provenance: JSONObject, console: Console
    ) throws -> (any CalibrationStatistics)? {
        let configuration = decoder.configuration
        if let moments {
            let file = try MomentFile(path: moments, of: configuration, fingerprint: fingerprint)
            guard weighting != .fisher || file.hasGradients else {
                throw LowRankError.input(
                    path: moments, place: "gradient", found: "moments of inputs only",
                    expected:
                        "gradients, which the Fisher weighting needs; `cola-analyze spectrum --save-moments` collects "
                        + "them")
            }
            Calibration(decoder, fingerprint: fingerprint, console: console).warnIfFew(file.record.tokens)
            return file
        }
        guard !sequences.isEmpty else {
            guard weighting == .weight else {
                throw InputError(
                    "no calibration: the weighting \(weighting.rawValue) needs --text FILE…, --tokens FILE or --moments "
                        + "FILE")
            }
            return nil
        }
        return try Calibration(decoder, fingerprint: fingerprint, console: console).collect(
            sequences, labelSeed: weighting == .fisher ? seed : nil, paths: paths, saveTo: saveMoments,
            provenance: provenance)
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

/// The collecting of a model's statistics, as the tools do it.
public struct Calibration {
    private let decoder: Decoder
    private let fingerprint: String
    private let console: Console

    public init(_ decoder: Decoder, fingerprint: String, console: Console) {
        self.decoder = decoder
        self.fingerprint = fingerprint
        self.console = console
    }

    /// Runs the sequences through the model, forward and, with a seed for labels, backward; keeps the statistics in a file
    /// if one is named. Warns if there are few tokens for the model's width.
    public func collect(
        _ sequences: [ArraySlice<UInt32>], labelSeed: UInt64?, paths: [String], saveTo file: String?,
        provenance: JSONObject
    ) throws -> CalibrationMoments {
        let total = sequences.reduce(0) { $0 + $1.count }
        warnIfFew(total)
        let moments = CalibrationMoments(
            decoder, fingerprint: fingerprint, labelSeed: labelSeed, sequenceLength: sequences.map(\.count).max() ?? 0,
            sources: try paths.map { try Provenance.input($0) })
        let progress = console.progress(
            labelSeed != nil ? "moments and gradients" : "moments", unit: "tokens", total: total)
        try moments.add(sequences) { progress.update($0) }
        progress.finish()
        guard let file else { return moments }
        let saving = console.progress("save moments", unit: "layers", total: decoder.configuration.layers)
        try MomentFile.write(
            moments, of: decoder.configuration, to: file, provenance: JSONValue.object(provenance).text()
        ) { saving.update($0) }
        saving.finish()
        return moments
    }

    /// Warns if there are fewer than four tokens for each feature of the widest input.
    public func warnIfFew(_ tokens: Int) {
        let features = LinearModule.allCases.map { decoder.configuration.shape(of: $0).inputs }.max() ?? 1
        guard tokens < 4 * features else { return }
        console.warn(
            "\(tokens) calibration tokens for \(features) features, \(fixed(Double(tokens) / Double(features), 1)) per "
                + "feature: directions of a sample that small do not hold elsewhere; four are the least to trust, ten are "
                + "better")
    }
}
