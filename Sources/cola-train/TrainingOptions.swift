import ArgumentParser
import CommandSupport
import Files
import JSON
import LinearAlgebra
import Spectra
import TokenData
import Training
import Transformer
import Workflows

extension MemoryMode: ExpressibleByArgument {}
extension ActivationPlacement: ExpressibleByArgument {}
extension Packing: ExpressibleByArgument {}
extension LearningRateSchedule.Shape: ExpressibleByArgument {}

/// Dense projections or CoLA's.
enum ModelKind: String, ExpressibleByArgument, CaseIterable {
    case dense, cola
}

/// In which units the factors of a low-rank model are trained, and so how far a step moves them.
enum FactorRates: String, ExpressibleByArgument, CaseIterable {
    /// In proportion to each factor's root mean square; 0.02 has the unit 1.
    case size
    case equal
}

/// The model whose predictions are learnt besides the text.
struct TeacherOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Learn this dense model's predictions as well.", valueName: "checkpoint"))
    var teacher: String?

    @Option(
        name: .customLong("teacher-share"),
        help: ArgumentHelp("Its weight in the loss; the rest is the text's cross-entropy.", valueName: "share"))
    var share = 0.5

    @Option(
        help: ArgumentHelp(
            "Steps of low-rank factors: size, in proportion to each one's root mean square, or equal (default: size for a "
                + "converted checkpoint).",
            valueName: "rule"))
    var factorRates: FactorRates?

    func validate() throws {
        if !(share > 0 && share <= 1) {
            throw ValidationError("--teacher-share \(share): expected above 0, at most 1.")
        }
    }

    /// The teacher, if one is given, and what the run file says of it.
    func load(for description: ModelDescription) throws -> (model: LanguageModel, record: JSONObject)? {
        try teacher.map { try Self.load($0, for: description) }
    }

    static func load(
        _ path: String, for description: ModelDescription
    ) throws -> (model: LanguageModel, record: JSONObject) {
        let source = try openCheckpoint(path)
        let own = try ModelDescription(of: source)
        guard own.vocabularySize == description.vocabularySize else {
            throw InputError(
                "\(path): a teacher with a vocabulary of \(own.vocabularySize), expected "
                    + "\(description.vocabularySize), the model's")
        }
        let record = JSONObject([
            ("teacher_file", .string(path)), ("teacher_sha256", .string(try Provenance.modelDigest(path))),
        ])
        return (try LanguageModel(from: source), record)
    }

    /// The teacher that a run file names; throws unless it is the same as then.
    static func load(
        from settings: JSONObject, given: String?, for description: ModelDescription, path: String
    ) throws -> LanguageModel? {
        guard let file = settings["teacher_file"]?.stringValue else { return nil }
        let (model, record) = try load(given ?? file, for: description)
        let (now, then) = (record["teacher_sha256"]?.stringValue, settings["teacher_sha256"]?.stringValue)
        guard now == then else {
            throw CheckpointError.invalid(
                path: given ?? file, place: "the teacher of \(path)", found: "the SHA-256 \(now ?? "")",
                expected: then ?? "none")
        }
        return model
    }
}

/// How a pass over a batch is computed.
struct PassOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What the forward pass keeps: plain (all), checkpoint (layer inputs), cola-m (residual streams and bottlenecks).",
            valueName: "mode"))
    var memory = MemoryMode.plain

    @Option(help: PrecisionChoice.help)
    var precision = PrecisionChoice.auto
}

/// Effective ranks to follow while a model is trained.
struct RankTrackingOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Write the effective ranks of the activations to rank-history.csv before the first step, after every so many, "
                + "and after the last.", valueName: "steps"))
    var spectrumEvery: Int?

    @Option(help: SpectrumLists.modulesHelp)
    var spectrumModules = "all"

    @Option(help: SpectrumLists.layersHelp)
    var spectrumLayers = "all"

    @Option(help: SpectrumLists.sidesHelp)
    var spectrumSides = "output"

    @Option(help: SpectrumLists.alphasHelp)
    var spectrumAlpha = Self.usualAlphas

    private static let usualAlphas = "0.90,0.95,0.99"

    func validate() throws {
        if let spectrumEvery, spectrumEvery < 1 {
            throw ValidationError("--spectrum-every \(spectrumEvery): expected at least 1.")
        }
        let given = [spectrumModules, spectrumLayers, spectrumSides, spectrumAlpha]
        if spectrumEvery == nil, given != ["all", "all", "output", Self.usualAlphas] {
            throw ValidationError(
                "--spectrum-modules, --spectrum-layers, --spectrum-sides and --spectrum-alpha go with --spectrum-every."
            )
        }
        try SpectrumLists.checkModules(spectrumModules, option: "--spectrum-modules")
        _ = try SpectrumLists.layers(spectrumLayers, count: .max, option: "--spectrum-layers")
        _ = try SpectrumLists.sides(spectrumSides, option: "--spectrum-sides")
        _ = try SpectrumLists.alphas(spectrumAlpha, option: "--spectrum-alpha")
    }

    /// What a run of a model follows.
    func tracking(of description: ModelDescription) throws -> RankTracking? {
        let modules = try SpectrumLists.modules(spectrumModules, option: "--spectrum-modules", of: description)
        let layers = try SpectrumLists.layers(
            spectrumLayers, count: description.blocks.count, option: "--spectrum-layers")
        let sides = try SpectrumLists.sides(spectrumSides, option: "--spectrum-sides")
        let alphas = try SpectrumLists.alphas(spectrumAlpha, option: "--spectrum-alpha").map(\.text)
        return spectrumEvery.map {
            RankTracking(interval: $0, modules: modules, blocks: layers, sides: sides, alphas: alphas)
        }
    }
}
