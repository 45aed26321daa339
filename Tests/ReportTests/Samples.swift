import JSON
import Spectra
import TestSupport

/// Folders of results as the tools write them, small and made up.
enum Samples {
    static let alphas = ["0.90", "0.95", "0.99", "0.999"]
    static let hidden = 32
    /// Modules with the largest rank each can have.
    static let modules = [
        ("self_attn.q_proj", 32), ("self_attn.v_proj", 12), ("mlp.up_proj", 32), ("mlp.down_proj", 32),
        ("residual", 32),
    ]
    static let ranksHeader =
        "layer,module,side,tokens,features,max_rank,rank_0.90,rank_0.95,rank_0.99,rank_0.999,entropy_rank,"
        + "entropy_rank_sigma,participation_ratio,stable_rank,energy_at_quarter,relative_error_at_quarter"

    /// Singular values that fall off the faster the larger `decay` is, not quite evenly.
    static func values(_ count: Int, decay: Double) -> [Double] {
        var value = 100.0
        return (0..<count).map { index in
            defer { value *= 1 - decay * (index % 3 == 0 ? 1.5 : 0.75) }
            return value
        }
    }

    /// How fast the values of a place fall off: slowest in layer 2 down.
    static func decay(_ layer: Int, _ module: Int, _ side: String, scale: Double) -> Double {
        let usual = 0.08 + 0.02 * Double((layer * 5 + module * 3) % 7) + (side == "input" ? 0.05 : 0)
        return min(0.6, scale * (layer == 2 && module == 3 && side == "output" ? 0.02 : usual))
    }

    /// spectra.csv, ranks.csv and run.json of three layers.
    static func writeSpectra(_ folder: TemporaryFolder, _ name: String, scale: Double = 1) throws {
        var spectra = "layer,module,side,index,singular_value,energy_fraction,cumulative_energy\r\n"
        var ranks = ranksHeader + "\r\n"
        for layer in 0..<3 {
            for (index, (module, full)) in modules.enumerated() {
                for side in ["input", "output"] {
                    let values = values(full, decay: decay(layer, index, side, scale: scale))
                    for (place, value) in values.enumerated() {
                        spectra += "\(layer),\(module),\(side),\(place + 1),\(value),0,0\r\n"
                    }
                    let found = EffectiveRanks(
                        singularValues: values, alphas: alphas.map { Double($0)! }, quarter: hidden / 4)
                    let numbers = [
                        found.entropyRank, found.entropyRankOfSigma, found.participationRatio, found.stableRank,
                        found.energyAtQuarter, found.relativeErrorAtQuarter,
                    ]
                    ranks += "\(layer),\(module),\(side),200,\(full),\(full),"
                    ranks +=
                        (found.energyRanks.map(String.init) + numbers.map { "\($0)" }).joined(separator: ",") + "\r\n"
                }
            }
        }
        try folder.makeFolder(name)
        try folder.write(spectra, "\(name)/spectra.csv")
        try folder.write(ranks, "\(name)/ranks.csv")
        let run: JSONValue = [
            "tool": "cola-analyze", "version": "0.1.0", "command_line": ["cola-analyze", "spectrum", "a model.h5"],
            "checkpoint": ["path": "a model.h5", "bytes": 1234567, "sha256": "c0ffee"], "tokens": 200,
            "hidden_size": .integer(hidden), "accumulation": "gram",
        ]
        try folder.write(run.text(indent: 2), "\(name)/run.json")
    }

    /// A plan, a conversion and its healing.
    static func writeConversion(_ folder: TemporaryFolder, _ name: String) throws {
        try folder.makeFolder(name)
        let linear = modules.dropLast().map(\.0)
        let layers = (0..<3).flatMap { layer in
            linear.enumerated().map { index, module -> JSONValue in
                [
                    "layer": .integer(layer), "module": .string(module),
                    "rank": index == 1 ? .null : .integer(4 + layer + index), "kept_energy": 0.97,
                    "relative_error": 0.17,
                    "loss_increase": 0.001,
                ]
            }
        }
        let plan: JSONValue = [
            "format": "cola-rank-plan", "format_version": 1, "weighting": "fisher",
            "policy": ["name": "budget", "keep": 0.6], "dense_parameters": 1000, "parameters": 600,
            "predicted_loss_increase": 0.25, "layers": .array(layers),
        ]
        try folder.write(plan.text(indent: 2), "\(name)/plan.json")
        let report: JSONValue = [
            "method": "fisher", "activation": "silu", "before": ["parameters": 2000, "linear_parameters": 1000],
            "after": ["parameters": 1600, "linear_parameters": 600], "predicted_loss_increase": 0.25,
            "losses": [
                [
                    "text": "test.npy", "before": ["nats_per_token": 3.25, "perplexity": 25.79, "tokens": 100],
                    "after": ["nats_per_token": 3.75, "perplexity": 42.52, "tokens": 100],
                ]
            ],
            "provenance": [
                "tool": "cola-convert", "version": "0.1.0", "command_line": ["cola-convert", "dense-to-lowrank"],
            ],
        ]
        try folder.write(report.text(indent: 2), "\(name)/small.report.json")
        var table =
            "layer,module,rank,parameters,dense_parameters,kept_energy,predicted_relative_error,relative_error,"
            + "relative_error_in_place,floor_ratio,relative_error_held_out,relative_error_in_place_held_out\r\n"
        for layer in 0..<3 {
            for (index, module) in linear.enumerated() {
                table +=
                    "\(layer),\(module),"
                    + (index == 1 ? ",100,100,1,0,,,,,\r\n" : "5,60,100,0.97,0.17,0.2,0.3\(layer),1.5,0.22,0.4\r\n")
            }
        }
        try folder.write(table, "\(name)/small.layers.csv")
        try folder.write(
            "arm,text,tokens,loss,perplexity\r\nsilu,valid,0,4.1,60.34\r\nsilu,valid,1000,3.5,33.12\r\n",
            "\(name)/healing.csv")
    }

    /// What training leaves: metrics by themselves, and the tables of a study. The arm's name is not a kind one.
    static func writeTraining(_ folder: TemporaryFolder, run: String, study: String) throws {
        try folder.makeFolder(run)
        var metrics = "step,tokens,loss,evaluation_loss,gradient_norm,learning_rate,tokens_per_second\r\n"
        for step in 1...700 {
            metrics += "\(step),\(step * 64),\(2 + 4 / Double(step)),\(step % 100 == 0 ? "2.25" : ""),1,0.001,100\r\n"
        }
        try folder.write(metrics, "\(run)/metrics.csv")
        var history = "step,tokens_seen," + ranksHeader + "\r\n"
        for step in [0, 100] {
            for layer in 0..<2 {
                history += "\(step),\(step * 64),\(layer),mlp.up_proj,output,200,32,32,30,\(31 - step / 10),32,32,"
                history += "9,9,9,9,0.9,0.3\r\n"
            }
        }
        try folder.write(history, "\(run)/rank-history.csv")
        try folder.makeFolder(study)
        let arms = ["full-rank", "\"</script><b>cola, \"\"x\"\"\""]
        var curves = "arm,seed,step,tokens,loss,evaluation_loss\r\n"
        var arm = "arm,seed,flops_per_token,evaluation_perplexity\r\n"
        for (index, name) in arms.enumerated() {
            for seed in 0..<2 {
                for step in 1...20 { curves += "\(name),\(seed),\(step),\(step * 64),\(6 - Double(step) / 10),\r\n" }
                arm += "\(name),\(seed),\(1000 - 500 * index),\(30 + seed)\r\n"
            }
        }
        try folder.write(curves, "\(study)/curves.csv")
        try folder.write(arm, "\(study)/arms.csv")
        try folder.write(
            "method,parameters,flops_per_step,recomputed_flops_per_step,kept_activation_bytes,weight_bytes,"
                + "gradient_bytes,optimizer_bytes\r\nfull-rank,1000,4e9,0,2097152,4000,4000,8000\r\n"
                + "cola,500,2e9,0,2097152,2000,2000,4000\r\ncola-m,500,2e9,1e8,524288,2000,2000,4000\r\n",
            "\(study)/cost.csv")
    }
}
