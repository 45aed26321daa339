import JSON
import Transformer

/// Which layers of a model become low-rank, and how wide: readable and editable JSON.
///
/// What a reader of the file changes is `rank`, null for a layer that stays dense; all else is there to decide by.
public struct RankPlan: Sendable, Equatable {
    public struct Entry: Sendable, Equatable {
        public var layer: Int
        public var module: LinearModule
        /// nil: stays dense.
        public var rank: Int?
        /// Share of the energy that is kept, in the plan's weighting.
        public var keptEnergy: Double
        /// √(1 − kept energy): of the weights, of the outputs or, in the Fisher weighting, of their effect on the loss.
        public var relativeError: Double
        /// Predicted increase of the loss by this layer alone, in nats per token; in the Fisher weighting only.
        public var lossIncrease: Double?
        /// Why the layer stays dense; nil for one that does not.
        public var reason: String?
    }

    /// `DecoderWeights.fingerprint` of the model that the plan is for.
    public var fingerprint: String
    public var weighting: Weighting
    /// Name and numbers of the policy, for the reader.
    public var policy: JSONObject
    /// nil for a plan that no text was looked at for.
    public var calibration: CalibrationRecord?
    /// One for each linear layer, in the order of layers and modules.
    public var entries: [Entry]
    /// Parameters of the linear layers, dense and as planned.
    public var denseParameters: Int
    public var parameters: Int

    /// A plan with these ranks for layers of these energies.
    public init(
        _ layers: [LayerEnergies], ranks: RankAllocation.Ranks, fingerprint: String, weighting: Weighting,
        policy: JSONObject, calibration: CalibrationRecord?
    ) {
        self.fingerprint = fingerprint
        self.weighting = weighting
        self.policy = policy
        self.calibration = calibration
        entries = zip(layers, ranks).map { layer, rank in
            Entry(layer, rank: rank, weighting)
        }
        denseParameters = layers.reduce(0) { $0 + $1.denseParameters }
        parameters = zip(layers, ranks).reduce(0) { sum, item in
            sum + (item.1.map(item.0.parameters) ?? item.0.denseParameters)
        }
    }

    /// The rank of a linear layer; nil for one that stays dense.
    public func rank(_ module: LinearModule, layer: Int) -> Int? {
        entries[layer * LinearModule.allCases.count + LinearModule.allCases.firstIndex(of: module)!].rank
    }

    /// Parameters of the linear layers as a share of the dense model's.
    public var keptShare: Double { Double(parameters) / Double(max(1, denseParameters)) }

    /// The sum of the layers' predicted loss increases, in nats per token; nil without the Fisher weighting.
    public var lossIncrease: Double? {
        weighting == .fisher ? entries.reduce(0) { $0 + ($1.lossIncrease ?? 0) } : nil
    }
}

extension RankPlan.Entry {
    init(_ layer: LayerEnergies, rank: Int?, _ weighting: Weighting) {
        self.layer = layer.layer
        module = layer.module
        self.rank = rank
        keptEnergy = rank.map(layer.keptEnergy) ?? 1
        relativeError = max(0, 1 - keptEnergy).squareRoot()
        lossIncrease =
            weighting == .fisher ? rank.map { layer.tails[min($0, layer.energies.count)] / 2 } ?? 0 : nil
        reason =
            rank != nil
            ? nil
            : layer.largestUsefulRank == 0
                ? "no rank would make it smaller"
                : "dense pays more than any rank up to \(layer.largestUsefulRank), the largest that is smaller"
    }
}

// MARK: - JSON

extension RankPlan {
    static let format = "cola-rank-plan"

    public var json: JSONObject {
        let layers = entries.map { entry -> JSONValue in
            var row = JSONObject([
                ("layer", .integer(entry.layer)), ("module", .string(entry.module.rawValue)),
                ("rank", entry.rank.map { .integer($0) } ?? .null), ("kept_energy", .number(entry.keptEnergy)),
                ("relative_error", .number(entry.relativeError)),
            ])
            if let increase = entry.lossIncrease { row["loss_increase"] = .number(increase) }
            if let reason = entry.reason { row["reason"] = .string(reason) }
            return .object(row)
        }
        return JSONObject([
            ("format", .string(Self.format)), ("format_version", 1), ("fingerprint", .string(fingerprint)),
            ("weighting", .string(weighting.rawValue)), ("policy", .object(policy)),
            ("calibration", calibration.map { .object($0.json) } ?? .null),
            ("dense_parameters", .integer(denseParameters)), ("parameters", .integer(parameters)),
            ("kept_share", .number(keptShare)),
            ("predicted_loss_increase", lossIncrease.map { .number($0) } ?? .null), ("layers", .array(layers)),
        ])
    }

    /// Reads a plan for the model of this configuration and fingerprint. `path` names it in errors.
    ///
    /// Throws `LowRankError.input` for text that is no plan, a plan of another model, and a rank that a layer cannot have:
    /// each layer and module must stand there once.
    public init(_ text: String, path: String, of configuration: DecoderConfiguration, fingerprint: String)
        throws(LowRankError)
    {
        func invalid(_ place: String, _ found: JSONValue?, _ expected: String) -> LowRankError {
            .input(path: path, place: place, found: found?.text() ?? "nothing", expected: expected)
        }
        let json: JSONValue
        do throws(JSONError) {
            json = try JSONValue(parsing: text)
        } catch {
            throw .input(path: path, place: "plan", found: "\(error)", expected: "JSON text")
        }
        guard json["format"]?.stringValue == Self.format, json["format_version"]?.intValue == 1 else {
            throw invalid("format and format_version", json["format"], "\"\(Self.format)\", 1")
        }
        guard let planned = json["fingerprint"]?.stringValue, planned == fingerprint else {
            throw invalid(
                "fingerprint", json["fingerprint"],
                "\"\(fingerprint)\", that of the checkpoint: a plan is for one model")
        }
        guard let weighting = json["weighting"]?.stringValue.flatMap(Weighting.init) else {
            throw invalid("weighting", json["weighting"], "weight, output or fisher")
        }
        guard let rows = json["layers"]?.arrayValue else { throw invalid("layers", json["layers"], "a list") }
        var found: [String: Entry] = [:]
        for (index, row) in rows.enumerated() {
            let place = "layers[\(index)]"
            guard let layer = row["layer"]?.intValue, (0..<configuration.layers).contains(layer) else {
                throw invalid("\(place), layer", row["layer"], "0 to \(configuration.layers - 1)")
            }
            guard let module = row["module"]?.stringValue.flatMap(LinearModule.init) else {
                throw invalid(
                    "\(place), module", row["module"], LinearModule.allCases.map(\.rawValue).joined(separator: ", "))
            }
            let (inputs, outputs) = configuration.shape(of: module)
            let name = "layer \(layer) \(module.rawValue)"
            guard let rank = row["rank"], rank.isNull || (1...min(inputs, outputs)).contains(rank.intValue ?? 0) else {
                throw invalid(
                    "\(place), rank of \(name)", row["rank"],
                    "1 to \(min(inputs, outputs)), or null for a layer that stays dense")
            }
            guard found[name] == nil else { throw invalid(place, .string(name), "each layer once") }
            found[name] = Entry(
                layer: layer, module: module, rank: rank.intValue, keptEnergy: row["kept_energy"]?.doubleValue ?? .nan,
                relativeError: row["relative_error"]?.doubleValue ?? .nan,
                lossIncrease: row["loss_increase"]?.doubleValue, reason: row["reason"]?.stringValue)
        }
        self.fingerprint = fingerprint
        self.weighting = weighting
        policy = json["policy"]?.objectValue ?? [:]
        calibration = CalibrationRecord(json["calibration"])
        entries = []
        (denseParameters, parameters) = (0, 0)
        for layer in 0..<configuration.layers {
            for module in LinearModule.allCases {
                let name = "layer \(layer) \(module.rawValue)"
                guard let entry = found[name] else { throw invalid("layers", nil, "an entry for \(name)") }
                let (inputs, outputs) = configuration.shape(of: module)
                entries.append(entry)
                denseParameters += inputs * outputs
                parameters += entry.rank.map { $0 * (inputs + outputs) } ?? inputs * outputs
            }
        }
    }
}

extension RankPlan {
    /// The key by which a configuration says that its factors come from a dense model: they differ in size by orders of
    /// magnitude, and training has to know.
    public static let convertedKey = "cola_converted"

    /// config.json of the model that the plan makes of one with these values: `rank` is the most frequent rank, `ranks`
    /// has the exceptions, null for a layer that stays dense.
    public func configuration(of values: JSONObject, _ activation: ConversionRecipe.Activation) -> JSONObject {
        var result = values
        let counts = Dictionary(entries.compactMap(\.rank).map { ($0, 1) }, uniquingKeysWith: +)
        let common = counts.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key
        result["architectures"] = ["ColaForCausalLM"]
        result["model_type"] = "cola"
        result["rank"] = common.map { .integer($0) } ?? .null
        result["ranks"] = .object(
            JSONObject(
                entries.filter { $0.rank != common }.map {
                    ("\($0.layer).\($0.module.rawValue)", $0.rank.map { .integer($0) } ?? .null)
                }))
        // The SwiGLU's own silu stays in either case.
        result["only_lr_act"] = false
        result["cola_activation"] = .string(
            (activation == .silu ? ActivationPlacement.both : .original).rawValue)
        result[Self.convertedKey] = true
        // Of Qwen2, whose files name a window that is not used.
        result["use_sliding_window"] = nil
        result["sliding_window"] = nil
        return result
    }
}
