import CommandSupport
import Files
import Glibc
import JSON
import LowRank
import Transformer
import Workflows

/// What a conversion did and what it is worth: JSON, a table of the layers, and a summary for people.
struct ConversionReport {
    let dense: LanguageModel
    let recipe: ConversionRecipe
    let outcome: ConversionWorkflow.Outcome
    let measured: ConversionMeasurement

    private var plan: RankPlan { outcome.plan }
    private var converted: LanguageModel { outcome.model }

    /// Where the report goes: beside the checkpoint.
    struct Files {
        let report: String
        let layers: String
        private let output: String

        init(output: String) {
            self.output = output
            let stem = output.hasSuffix(".h5") ? String(output.dropLast(3)) : output
            report = stem + ".report.json"
            layers = stem + ".layers.csv"
        }

        /// Sees now, rather than after the work, whether files can be made.
        func requireWritable() throws {
            for path in [output, report, layers] { try AtomicFile(path).discard() }
        }

        /// Removes the report on an earlier checkpoint of this name, so that none stands beside one that it is not about.
        func removeEarlier() {
            for path in [report, layers] where Leftover.isFile(path) { unlink(path) }
        }
    }

    // MARK: - JSON

    private func model(_ model: LanguageModel) -> JSONValue {
        [
            "parameters": .integer(model.weights.parameterCount),
            "bytes_f32": .integer(4 * model.weights.parameterCount),
            "linear_parameters": .integer(linearParameters(model)),
            "flops_per_token": .integer(model.description.weightFLOPs),
        ]
    }

    /// Parameters of the linear layers, biases included.
    private func linearParameters(_ model: LanguageModel) -> Int {
        model.description.linears.reduce(0) { $0 + $1.matrixParameters + $1.biasParameters }
    }

    func json(provenance: JSONObject, seconds: JSONValue) -> JSONObject {
        var result = JSONObject([
            ("method", .string(recipe.weighting.rawValue)), ("activation", .string(recipe.activation.rawValue)),
            ("anchored", .bool(recipe.anchors)), ("refinement", refinementJSON), ("policy", .object(plan.policy)),
            ("calibration", outcome.calibration.map { .object($0.json) } ?? .null), ("before", model(dense)),
            ("after", model(converted)),
            (
                "kept_share",
                .number(Double(linearParameters(converted)) / Double(max(1, linearParameters(dense))))
            ),
            ("predicted_loss_increase", plan.lossIncrease.map { .number($0) } ?? .null),
        ])
        result["losses"] = .array(
            measured.losses.map { name, before, after in
                [
                    "text": .string(name), "before": .object(before.json), "after": .object(after.json),
                    "loss_increase": .number(after.mean - before.mean),
                ]
            })
        result["not_measured"] = notMeasured
        result["seconds"] = seconds
        result["peak_memory_bytes"] = .integer(peakMemory())
        result["provenance"] = .object(provenance)
        return result
    }

    /// The layers that have no relative error in the table, and why.
    private var notMeasured: JSONValue {
        func rows(_ errors: [LayerError], _ tokens: String) -> [JSONValue] {
            errors.filter(\.isOfNothing).map { error in
                [
                    "layer": .integer(error.linear.block), "module": .string(error.linear.module),
                    "tokens": .string(tokens),
                    "reason": "the output of the dense layer is zero, or as good as zero, for all of these tokens",
                ]
            }
        }
        return .array(rows(measured.calibrationErrors, "calibration") + rows(measured.heldOutErrors, "held-out"))
    }

    private var refinementJSON: JSONValue {
        guard let refinement = outcome.refinement else { return .null }
        return [
            "steps": .integer(refinement.steps), "precision": .string(refinement.precision.rawValue),
            "first_divergence": .number(refinement.first), "last_divergence": .number(refinement.last),
        ]
    }

    /// Writes the record and the table of layers, which appear together.
    func write(_ record: JSONObject, to files: Files) throws {
        let report = try AtomicFile(files.report)
        try report.write(JSONValue.object(record).text(indent: 2) + "\n")
        let layers = try AtomicFile(files.layers)
        try layers.write(csv)
        try AtomicFile.commit([report, layers])
    }

    // MARK: - Layers

    private var csv: String {
        let columns = [
            "layer", "module", "rank", "parameters", "dense_parameters", "kept_energy", "predicted_relative_error",
            "relative_error", "relative_error_in_place", "floor_ratio", "relative_error_held_out",
            "relative_error_in_place_held_out", "predicted_loss_increase", "scale", "pairs", "activation_error",
        ]
        let rows = zip(plan.entries, dense.description.linears).map { entry, linear -> String in
            let record = outcome.layers.first { $0.linear.id == entry.id }
            let own = measured.calibrationErrors.first { $0.linear.id == entry.id }
            let heldOut = measured.heldOutErrors.first { $0.linear.id == entry.id }
            let parameters =
                entry.rank.map { $0 * (linear.inputs + linear.outputs) + linear.outputs } ?? linear.denseParameters
            let counts = ["\(entry.block)", entry.module, entry.rank.map(String.init) ?? ""]
            let sizes = ["\(parameters)", "\(linear.denseParameters)"]
            let errors = [
                entry.keptEnergy, entry.relativeError, own?.relative, own?.inPlace, own?.floorRatio, heldOut?.relative,
                heldOut?.inPlace, entry.lossIncrease, record?.scale,
            ].map(csvField)
            return
                (counts + sizes + errors + [record?.pairs.map(String.init) ?? "", csvField(record?.activationError)])
                .joined(separator: ",")
        }
        return ([columns.joined(separator: ",")] + rows).map { $0 + "\r\n" }.joined()
    }

    // MARK: - Summary

    func text(output: String, files: Files) -> String {
        let (before, after) = (dense.weights.parameterCount, converted.weights.parameterCount)
        var sizes = TextTable([("", .left), ("before", .right), ("after", .right), ("share", .right)])
        func share(_ a: Int, _ b: Int) -> String { "\(fixed(100 * Double(b) / Double(max(1, a)), 1)) %" }
        for (name, a, b) in [
            ("parameters", before, after), ("in linear layers", linearParameters(dense), linearParameters(converted)),
            ("FLOPs per token", dense.description.weightFLOPs, converted.description.weightFLOPs),
        ] {
            sizes.append([name, grouped(a), grouped(b), share(a, b)])
        }
        sizes.append(["bytes in f32", byteCount(4 * before), byteCount(4 * after), share(before, after)])
        var parts = [sizes.text]
        if !measured.losses.isEmpty {
            var table = TextTable([
                ("text", .left), ("tokens", .right), ("nats/token", .right), ("after", .right), ("perplexity", .right),
                ("after", .right),
            ])
            for (name, before, after) in measured.losses {
                table.append([
                    name, grouped(before.tokens), fixed(before.mean, 4), fixed(after.mean, 4),
                    before.perplexityText(2), after.perplexityText(2),
                ])
            }
            parts.append(table.text)
        }
        parts.append(explanation.joined(separator: "\n"))
        parts.append("\(output)  \(files.report)  \(files.layers)")
        return parts.joined(separator: "\n\n")
    }

    private var explanation: [String] {
        let dense = plan.entries.count { $0.rank == nil }
        var lines = [
            "\(plan.entries.count - dense) of \(plan.entries.count) linear layers are low-rank, \(dense) stay dense."
        ]
        let scales = outcome.layers.compactMap(\.scale).sorted()
        if !scales.isEmpty {
            let pairs = outcome.layers.reduce(0) { $0 + ($1.pairs ?? 0) }
            let largest = outcome.layers.compactMap(\.activationError).max() ?? 0
            let inPairs = pairs == 1 ? "; 1 direction is a pair" : "; \(pairs) directions are pairs"
            lines.append(
                "σ: the largest latent of a layer is scaled to \(fixed(scales[scales.count / 2], 4)) (median; "
                    + "\(fixed(scales.first ?? 0, 4)) to \(fixed(scales.last ?? 0, 4))), which costs a layer at most "
                    + "\(fixed(100 * largest, 2)) % of its energy\(pairs > 0 ? inPairs + ", which σ leaves exact" : "")."
            )
        }
        if let refinement = outcome.refinement {
            lines.append(
                "Refined in \(refinement.steps) steps: divergence from the dense model \(fixed(refinement.first, 3)) → "
                    + "\(fixed(refinement.last, 3)) nats on the calibration text.")
        }
        let compared = measured.calibrationErrors.filter { !$0.isOfNothing }
        if let worst = compared.max(by: { ($0.inPlace ?? 0) < ($1.inPlace ?? 0) }) {
            lines.append(
                "Largest error in place: layer \(worst.linear.block) \(worst.linear.id.shortName), "
                    + "\(fixed(worst.inPlace ?? 0, 2)) of its output; alone it is \(fixed(worst.relative ?? 0, 2))"
                    + (worst.floorRatio.map { ", its square \(fixed($0, 2)) times the least any bottleneck leaves." }
                        ?? ".")
            )
        }
        let nothing = measured.calibrationErrors.count - compared.count
        if nothing > 0 {
            lines.append(
                "\(nothing) of the low-rank layers ha\(nothing == 1 ? "s" : "ve") no relative error: the dense output is "
                    + "zero for all tokens.")
        }
        return lines
    }
}

extension LayerError {
    /// Whether there is no output that the error could be a part of.
    fileprivate var isOfNothing: Bool { relative == nil || inPlace == nil }
}
