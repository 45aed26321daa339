import Glibc

extension RotaryConfiguration {
    /// What a family assumes where its configurations say nothing.
    struct Defaults {
        var base = 10000.0
        var share = 1.0
    }

    /// Reads the rotation of the blocks of a kind; see `RotaryValues` for where it may stand.
    init(
        _ raw: ConfigurationText, kind: String = "full_attention", _ defaults: Defaults = Defaults()
    ) throws(TransformerError) {
        try self.init(RotaryValues(raw, kind: kind), defaults, positions: raw.number("max_position_embeddings"))
    }

    /// - Parameter positions: the most that the model was trained for.
    init(
        _ values: RotaryValues, _ defaults: Defaults, positions: Double?
    ) throws(TransformerError) {
        let base = try values.number("rope_theta") ?? defaults.base
        guard base > 0 else { throw values.error("rope_theta", "\(base)", "a positive number") }
        let share = try values.number("partial_rotary_factor") ?? defaults.share
        guard share > 0, share <= 1 else {
            throw values.error("partial_rotary_factor", "\(share)", "above 0, at most 1")
        }
        self.init(base: base, share: share)

        func need(_ key: String, default fallback: Double? = nil) throws(TransformerError) -> Double {
            let value = try values.number(key) ?? fallback
            guard let value, value > 0 else {
                throw values.error(key, value.map { "\($0)" } ?? "nothing", "a positive number")
            }
            return value
        }
        switch try values.kind() {
        case "default": try values.refuse(except: [])
        case "linear":
            try values.refuse(except: ["factor"])
            scaling = .linear(factor: try need("factor"))
        case "llama3":
            try values.refuse(except: ["factor", "low_freq_factor", "high_freq_factor"])
            scaling = .llama3(
                factor: try need("factor"), low: try need("low_freq_factor"), high: try need("high_freq_factor"),
                originalPositions: try need("original_max_position_embeddings", default: positions))
        case "dynamic":
            try values.refuse(except: ["factor"])
            scaling = .dynamic(
                factor: try need("factor"), positions: try need("max_position_embeddings", default: positions))
        case "yarn":
            try values.refuse(except: [
                "factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
            ])
            let original = try need("original_max_position_embeddings", default: positions)
            let factor = try need("factor", default: positions.map { $0 / original })
            guard base > 1 else { throw values.error("rope_theta", "\(base)", "more than 1") }
            scaling = .yarn(
                factor: factor, fast: try need("beta_fast", default: 32), slow: try need("beta_slow", default: 1),
                originalPositions: original, truncates: try values.flag("truncate") ?? true)
            magnitude = try Self.yarnMagnitude(values, factor)
        case let other: throw values.error("rope_type", other, "default, linear, dynamic, yarn or llama3")
        }
    }

    /// The attention factor of YaRN: what the configuration says, or what follows from its factor.
    private static func yarnMagnitude(_ values: RotaryValues, _ factor: Double) throws(TransformerError) -> Double {
        func magnitude(_ scale: Double) -> Double { factor > 1 ? 0.1 * scale * log(factor) + 1 : 1 }
        if let given = try values.number("attention_factor") {
            guard given > 0 else { throw values.error("attention_factor", "\(given)", "a positive number") }
            return given
        }
        let (some, all) = (try values.number("mscale") ?? 0, try values.number("mscale_all_dim") ?? 0)
        return some != 0 && all != 0 ? magnitude(some) / magnitude(all) : magnitude(1)
    }
}
