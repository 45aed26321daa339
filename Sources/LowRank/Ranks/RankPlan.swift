import JSON
import Transformer

/// Which layers of a model become low-rank, and how wide: readable and editable JSON.
///
/// What a reader of the file changes is `rank`, null for a layer that stays dense; all else is there to decide by.
public struct RankPlan: Sendable, Equatable {
    public struct Entry: Sendable, Equatable {
        /// Which linear layer: its block, counted from 0, and its path inside.
        public var block: Int
        public var module: String
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

        public var id: LinearLayer.ID { .init(block: block, module: module) }
    }

    /// `ModelWeights.fingerprint` of the model that the plan is for.
    public var fingerprint: String
    public var weighting: Weighting
    /// Name and numbers of the policy, for the reader.
    public var policy: JSONObject
    /// nil for a plan that no text was looked at for.
    public var calibration: CalibrationRecord?
    /// One for each linear layer, in the order of the model's description.
    public var entries: [Entry]
    /// Parameters of the linear layers, dense and as planned.
    public var denseParameters: Int
    public var parameters: Int

    /// What the energies that a plan is made by come from.
    public struct Basis: Sendable {
        /// `ModelWeights.fingerprint` of the model.
        public var fingerprint: String
        public var weighting: Weighting
        /// nil where no text was looked at.
        public var calibration: CalibrationRecord?

        public init(fingerprint: String, weighting: Weighting, calibration: CalibrationRecord?) {
            self.fingerprint = fingerprint
            self.weighting = weighting
            self.calibration = calibration
        }
    }

    /// A plan with these ranks for layers of these energies.
    public init(_ layers: [LayerEnergies], ranks: RankAllocation.Ranks, policy: JSONObject, by basis: Basis) {
        fingerprint = basis.fingerprint
        weighting = basis.weighting
        calibration = basis.calibration
        self.policy = policy
        entries = zip(layers, ranks).map { layer, rank in
            Entry(layer, rank: rank, basis.weighting)
        }
        (denseParameters, parameters) = Self.parameters(layers.map(\.linear), ranks)
    }

    private static func parameters(
        _ linears: [LinearLayer], _ ranks: RankAllocation.Ranks
    ) -> (dense: Int, planned: Int) {
        (
            linears.reduce(0) { $0 + $1.denseParameters },
            zip(linears, ranks).reduce(0) { $0 + $1.0.parameters(rank: $1.1) }
        )
    }

    /// The rank of a linear layer; nil for one that stays dense.
    public func rank(of linear: LinearLayer.ID) -> Int? {
        guard let entry = entries.first(where: { $0.id == linear }) else {
            preconditionFailure("the plan has no \(linear)")
        }
        return entry.rank
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
        (block, module) = (layer.linear.block, layer.linear.module)
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

extension RankPlan.Entry {
    static let record = JSONRecord(
        blank: RankPlan.Entry(block: 0, module: "", rank: nil, keptEnergy: .nan, relativeError: .nan),
        [
            .required("layer", \.block, .int), .required("module", \.module, .text),
            .required("rank", \.rank, .orNull(.int)), .defaulted("kept_energy", \.keptEnergy, .number),
            .defaulted("relative_error", \.relativeError, .number),
            .optional("loss_increase", \.lossIncrease, .number), .optional("reason", \.reason, .text),
        ])
}

extension RankPlan {
    static let record = JSONRecord(
        blank: RankPlan(
            [], ranks: [], policy: [:], by: .init(fingerprint: "", weighting: .fisher, calibration: nil)),
        [
            .format("cola-rank-plan"), .version(1), .required("fingerprint", \.fingerprint, .text),
            .required("weighting", \.weighting, .choice), .defaulted("policy", \.policy, .object),
            .optional("calibration", \.calibration, CalibrationRecord.record.form, writesNull: true),
            .defaulted("dense_parameters", \.denseParameters, .int), .defaulted("parameters", \.parameters, .int),
            .derived("kept_share") { .number($0.keptShare) },
            .derived("predicted_loss_increase") { $0.lossIncrease.map { .number($0) } ?? .null },
            .required("layers", \.entries, .list(of: Entry.record.form)),
        ])

    public var json: JSONObject { Self.record.json(self) }

    /// Reads a plan for the model of this description and fingerprint. `path` names it in errors.
    ///
    /// Throws `LowRankError.input` for text that is not a plan, a plan of another model, and a rank that a layer cannot have:
    /// each linear layer must stand there once.
    public init(
        _ text: String, path: String, of model: ModelDescription, fingerprint: String
    ) throws(LowRankError) {
        let json: JSONValue
        do throws(JSONError) {
            json = try JSONValue(parsing: text)
        } catch {
            throw .input(path: path, place: "plan", found: "\(error)", expected: "JSON text")
        }
        do throws(JSONReadError) {
            self = try Self.record.read(JSONReader(json, path: path))
        } catch {
            throw LowRankError(error)
        }
        guard self.fingerprint == fingerprint else {
            throw .input(
                path: path, place: "fingerprint", found: "\"\(self.fingerprint)\"",
                expected: "\"\(fingerprint)\", that of the checkpoint: a plan is for one model")
        }
        try fit(to: model, path: path)
    }

    /// Brings entries that were read into the order of the model's linear layers, and counts parameters anew: ranks may have
    /// been edited.
    private mutating func fit(to model: ModelDescription, path: String) throws(LowRankError) {
        var found: [LinearLayer.ID: Entry] = [:]
        for (index, entry) in entries.enumerated() {
            func invalid(_ place: String, _ value: String, _ expected: String) -> LowRankError {
                .input(path: path, place: "layers[\(index)]\(place)", found: value, expected: expected)
            }
            guard model.blocks.indices.contains(entry.block) else {
                throw invalid(".layer", "\(entry.block)", "0 to \(model.blocks.count - 1)")
            }
            guard let linear = model.linear(entry.id) else {
                let known = model.blocks[entry.block].linears.map(\.module).joined(separator: ", ")
                throw invalid(".module", "\"\(entry.module)\"", known)
            }
            let largest = min(linear.inputs, linear.outputs)
            if let rank = entry.rank, !(1...largest).contains(rank) {
                throw invalid(
                    ".rank of \(linear.id)", "\(rank)", "1 to \(largest), or null for a layer that stays dense")
            }
            guard found.updateValue(entry, forKey: entry.id) == nil else {
                throw invalid("", "\(entry.id) again", "each layer once")
            }
        }
        entries = []
        for linear in model.linears {
            guard let entry = found[linear.id] else {
                throw .input(path: path, place: "layers", found: "nothing", expected: "an entry for \(linear.id)")
            }
            entries.append(entry)
        }
        (denseParameters, parameters) = Self.parameters(model.linears, entries.map(\.rank))
    }
}

extension RankPlan {
    /// The key by which a configuration says that its factors come from a dense model: they differ in size by orders of
    /// magnitude, and training has to know.
    public static let convertedKey = "cola_converted"

    /// config.json of the model that the plan makes of one with these values: `rank` is the most frequent rank, `ranks`
    /// has the exceptions, null for a layer that stays dense. Its type is CoLA's or the family's, see `ofLowRankModel`.
    public func configuration(of values: JSONObject, _ activation: ConversionRecipe.Activation) -> JSONObject {
        values.ofLowRankModel { addRanks(to: &$0, activation, isOfColaType: $1) }
    }

    private func addRanks(
        to values: inout JSONObject, _ activation: ConversionRecipe.Activation, isOfColaType: Bool
    ) {
        let counts = Dictionary(entries.compactMap(\.rank).map { ($0, 1) }, uniquingKeysWith: +)
        let common = counts.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key
        values["rank"] = common.map { .integer($0) } ?? .null
        values["ranks"] = .object(
            JSONObject(
                entries.filter { $0.rank != common }.map {
                    ("\($0.block).\($0.module)", $0.rank.map { .integer($0) } ?? .null)
                }))
        // The SwiGLU's own silu stays in either case.
        if isOfColaType { values["only_lr_act"] = false }
        values["cola_activation"] = .string(activation.placement.rawValue)
        values[Self.convertedKey] = true
    }
}
